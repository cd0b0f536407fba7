"""Single items that run in batches."""

import asyncio
import threading
import time

from anchor_detr_jax.serving.batcher import Batcher


async def in_batches(run, items, *, batch_size=4, wait_s=0.02, during=None):
    """What becomes of (key, item) pairs that come at once: results, or exceptions."""
    batcher = Batcher(run, batch_size=batch_size, wait_s=wait_s)
    work = asyncio.create_task(batcher.work())
    tasks = [asyncio.create_task(batcher.submit(*item)) for item in items]
    if during:
        await during(batcher, tasks)
    done = await asyncio.gather(*tasks, return_exceptions=True)
    work.cancel()
    batcher.close()
    return done


class Recorder:
    """A model that doubles numbers and notes its batches; it can be made to wait."""

    def __init__(self):
        self.batches = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.started = threading.Event()
        self.threads = set()

    def __call__(self, key, items):
        """Run a batch."""
        self.threads.add(threading.get_ident())
        self.batches.append((key, list(items)))
        self.started.set()
        assert self.go_on.wait(10)
        if "bad" in items:
            raise ValueError("a bad one")
        return [2 * item for item in items]


def test_batches_have_one_key_and_keep_the_order():
    run = Recorder()
    items = [("lying" if i % 3 else "standing", i) for i in range(20)]
    done = asyncio.run(in_batches(run, items))
    assert [one.found for one in done] == [2 * i for i in range(20)]
    assert all(len(items) <= 4 for _, items in run.batches)
    for key in ("lying", "standing"):
        ran = [item for batch_key, items in run.batches if batch_key == key for item in items]
        assert ran == [item for item_key, item in items if item_key == key]
    sizes = {item: len(items) for _, items in run.batches for item in items}
    assert [one.together for one in done] == [sizes[i] for i in range(20)]
    assert len(run.threads) == 1
    assert threading.get_ident() not in run.threads


def test_a_full_batch_does_not_wait_and_a_lone_item_does():
    started = time.monotonic()
    full = asyncio.run(in_batches(Recorder(), [("a", i) for i in range(4)], wait_s=30.0))
    assert time.monotonic() - started < 5
    assert {one.together for one in full} == {4}
    (lone,) = asyncio.run(in_batches(Recorder(), [("a", 1)], wait_s=0.1))
    assert 0.09 < lone.waited_s < 2
    assert lone.together == 1


def test_of_batches_that_are_due_the_oldest_runs_first():
    """A queue that fills up again and again does not keep another one waiting for ever."""
    run = Recorder()
    run.go_on.clear()

    async def others_come(batcher, tasks):
        await asyncio.to_thread(run.started.wait, 10)
        later = [("b", 0), *(("a", i) for i in range(10, 14))]
        tasks += [asyncio.create_task(batcher.submit(*item)) for item in later]
        await asyncio.sleep(0.1)
        assert batcher.waiting == 5
        run.go_on.set()

    asyncio.run(in_batches(run, [("a", i) for i in range(4)], during=others_come))
    assert [key for key, _ in run.batches] == ["a", "b", "a"]


def test_who_does_not_wait_any_more_is_dropped():
    run = Recorder()
    run.go_on.clear()

    async def some_leave(batcher, tasks):
        await asyncio.to_thread(run.started.wait, 10)
        assert batcher.waiting == 3
        tasks[5].cancel()
        tasks[0].cancel()  # its batch runs already
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert batcher.waiting == 2
        run.go_on.set()

    items = [("a", i) for i in range(7)]
    done = asyncio.run(in_batches(run, items, during=some_leave))
    left = [i for i, one in enumerate(done) if isinstance(one, asyncio.CancelledError)]
    assert left == [0, 5]
    assert [one.found for i, one in enumerate(done) if i not in left] == [2, 4, 6, 8, 12]
    assert run.batches == [("a", [0, 1, 2, 3]), ("a", [4, 6])]


def test_an_error_reaches_all_of_its_batch_and_no_one_else():
    items = [("a", 1), ("a", "bad"), ("b", 2), ("a", 3), ("a", 4), ("a", 5)]
    done = asyncio.run(in_batches(Recorder(), items))
    assert [isinstance(one, ValueError) for one in done] == [True, True, False, True, True, False]
    assert [one.found for one in (done[2], done[5])] == [4, 10]


def test_a_model_that_loses_a_result_is_an_error():
    (error, _) = asyncio.run(in_batches(lambda _, items: items[:1], [("a", 1), ("a", 2)]))
    assert "1 results came of a batch of 2" in str(error)
