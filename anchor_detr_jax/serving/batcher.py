"""Single items that come at any time, run together in batches by one thread."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Batcher", "Done"]

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")
Found = TypeVar("Found")
T = TypeVar("T")


@dataclass(frozen=True)
class Done(Generic[Found]):
    """What came of one item.

    Attributes:
        found: its result.
        waited_s: seconds that it waited for others, or for the device.
        ran_s: seconds that its batch took.
        together: items of its batch.
    """

    found: Found
    waited_s: float
    ran_s: float
    together: int


@dataclass(eq=False)
class _Waiting(Generic[Item, Found]):
    item: Item
    since: float
    done: asyncio.Future[Done[Found]]


class Batcher(Generic[Key, Item, Found]):
    """Collects items with the same key, and runs them together.

    A batch runs when it is full, or when its first item has waited for long enough and the thread
    is free; of several, the one whose first item came first. All methods but those that say
    otherwise belong to one event loop. How many may wait is for the callers to limit.

    Attributes:
        batch_size: most items of a batch.
        wait_s: seconds that an item waits for others.
    """

    def __init__(
        self,
        run: Callable[[Key, list[Item]], Sequence[Found]],
        *,
        batch_size: int,
        wait_s: float,
    ) -> None:
        self.batch_size = batch_size
        self.wait_s = wait_s
        self._run = run
        self._queues: dict[Key, list[_Waiting[Item, Found]]] = {}
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._last: Future | None = None

    @property
    def waiting(self) -> int:
        """Items that no batch has taken yet."""
        return sum(map(len, self._queues.values()))

    @property
    def busy(self) -> bool:
        """Whether the thread is at work; may be asked from anywhere."""
        return self._last is not None and not self._last.done()

    async def submit(self, key: Key, item: Item) -> Done[Found]:
        """Have an item run; one whose caller is cancelled while it waits is dropped.

        Raises:
            Exception: what running its batch raised.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting[Item, Found](item, loop.time(), loop.create_future())
        self._queues.setdefault(key, []).append(waiting)
        self._arrived.set()
        try:
            return await waiting.done
        finally:
            self._drop(key, waiting)
            del waiting  # it has the error, whose traceback has this frame

    async def call(self, function: Callable[[], T]) -> T:
        """Have the thread do something else, after all that it was given before."""
        self._last = self._thread.submit(function)
        return await asyncio.wrap_future(self._last)

    async def work(self) -> None:
        """Form batches and run them, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            key, members = await self._next_batch()
            started = loop.time()
            try:
                results = await self.call(lambda k=key, m=members: self._run_members(k, m))
            except Exception as error:
                for one in members:
                    if not one.done.done():
                        one.done.set_exception(error)
                continue
            ran = loop.time() - started
            for one, found in zip(members, results, strict=True):
                if not one.done.done():
                    one.done.set_result(Done(found, started - one.since, ran, len(members)))

    def close(self) -> None:
        """Take nothing more; the thread ends once it has done what it is at."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _run_members(self, key: Key, members: list[_Waiting[Item, Found]]) -> Sequence[Found]:
        results = self._run(key, [one.item for one in members])
        if len(results) != len(members):
            raise ValueError(f"{len(results)} results came of a batch of {len(members)}")
        return results

    async def _next_batch(self) -> tuple[Key, list[_Waiting[Item, Found]]]:
        while True:
            self._arrived.clear()
            now = asyncio.get_running_loop().time()
            firsts = {key: queue[0].since for key, queue in self._queues.items()}
            due = {
                key: since
                for key, since in firsts.items()
                if len(self._queues[key]) >= self.batch_size or now >= since + self.wait_s
            }
            if due:
                key = min(due, key=due.__getitem__)
                members = self._queues[key][: self.batch_size]
                for one in members:
                    self._drop(key, one)
                return key, members
            patience = min(firsts.values()) + self.wait_s - now if firsts else None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), patience)

    def _drop(self, key: Key, waiting: _Waiting[Item, Found]) -> None:
        """Take an item out of its queue, where it is still there."""
        queue = self._queues.get(key, [])
        if waiting in queue:
            queue.remove(waiting)
        if not queue:
            self._queues.pop(key, None)
