"""Checkpoints that a kill, a full disk or a fault of the disk has left: what is whole is found."""

import dataclasses
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from small_states import DESCRIPTION, advance, at_step, bits, first_state, saved_steps, shapes_of

from anchor_detr_jax.training.checkpoints import RunCheckpoints


def damages(checkpoint: Path, *, every: bool) -> Iterator[tuple[str, bool]]:
    """Files of a checkpoint to cut off, or to remove: all of them, or those that matter most."""
    files = [path for path in checkpoint.rglob("*") if path.is_file()]
    if not every:
        names = ("metadata", "manifest.ocdbt", "_METADATA", "process_0")
        files = [path for path in files if path.name in names or path.stat().st_size > 2000]
        files = [path for path in files if path.parent.name != "ocdbt.process_0"]
    for path in sorted(files):
        name = str(path.relative_to(checkpoint))
        yield name, True
        if every or "manifest" in name or "/d/" in name:
            yield name, False


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_damage_is_seen_and_the_checkpoint_before_is_taken(tmp_path, capfd, every):
    """Each file of the last checkpoint in turn is cut off, or missing."""
    good, run = tmp_path / "good", tmp_path / "run"
    old, new = at_step(10), dataclasses.replace(at_step(20), fixed={"fixed/kernel": jnp.zeros(5)})
    with RunCheckpoints(good, DESCRIPTION) as checkpoints:
        checkpoints.save(old)
        checkpoints.save(new, ap=0.5)
    damaged = []
    for name, cut in damages(good / "checkpoints/20", every=every):
        shutil.copytree(good, run)
        file = run / "checkpoints/20" / name
        if cut:
            os.truncate(file, file.stat().st_size // 2)
        else:
            file.unlink()
        with RunCheckpoints(run, DESCRIPTION) as checkpoints:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                restored = checkpoints.restore(shapes_of(old))
            if int(restored.step) == 20:  # a file that nobody needs
                assert (bits(restored), caught) == (bits(new), [])
            else:
                (warning,) = caught
                assert str(run / "checkpoints/20") in str(warning.message)
                assert "goes back to step 10" in str(warning.message)
                assert bits(restored) == bits(old)
                assert checkpoints.latest_step() == 10
                assert checkpoints.best() is None
                damaged.append((name.partition("/")[0], name.rpartition("/")[2], cut))
        shutil.rmtree(run)
    trees = {"trained", "fixed", "frozen", "optimizer"}
    assert {tree for tree, _, _ in damaged} == {"about", *trees}
    needed = {(tree, "manifest.ocdbt", cut) for tree in trees for cut in (True, False)}
    assert needed <= set(damaged)
    assert capfd.readouterr().err == ""


def test_a_damaged_checkpoint_makes_room(tmp_path):
    with RunCheckpoints(tmp_path, DESCRIPTION) as checkpoints:
        for step in (10, 20):
            checkpoints.save(at_step(step))
    shutil.rmtree(tmp_path / "checkpoints/20/optimizer")
    with RunCheckpoints(tmp_path, DESCRIPTION) as checkpoints:
        with pytest.raises(ValueError, match=r"checkpoints up to step 20.* restore one first"):
            checkpoints.save(at_step(20))
        with pytest.raises(ValueError, match=r"no checkpoint .* be restored: .*/checkpoints/20"):
            checkpoints.restore(shapes_of(at_step(0)), 20)
        with pytest.warns(UserWarning, match="goes back to step 10"):
            checkpoints.restore(shapes_of(at_step(0)))
        checkpoints.save(at_step(20))
        checkpoints.wait()
        assert saved_steps(tmp_path) == [10, 20]
        assert int(checkpoints.restore(shapes_of(at_step(0))).step) == 20
        checkpoints.save(at_step(30))
        checkpoints.restore(shapes_of(at_step(0)), 20)  # back to an earlier one
        assert checkpoints.latest_step() == 20
        checkpoints.save(at_step(25))
        with pytest.raises(ValueError, match="step 24 cannot be saved"):
            checkpoints.save(at_step(24))
    assert saved_steps(tmp_path) == [20, 25]
    for step in (20, 25):
        (tmp_path / f"checkpoints/{step}/about/metadata").write_text("{")
    for run, says in ((tmp_path, r"/25/about.*/20/about"), (tmp_path / "new", "there is none")):
        with (
            RunCheckpoints(run, DESCRIPTION) as checkpoints,
            pytest.raises(ValueError, match=rf"no checkpoint that can be restored: .*{says}"),
        ):
            checkpoints.restore(shapes_of(at_step(0)))


def test_what_a_kill_left_half_written_is_cleaned_away(tmp_path):
    with RunCheckpoints(tmp_path, DESCRIPTION) as checkpoints:
        checkpoints.save(at_step(10))
    left = tmp_path / "checkpoints/20.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "checkpoints/10", left)
    shutil.rmtree(left / "optimizer")
    with RunCheckpoints(tmp_path, DESCRIPTION) as checkpoints:
        assert checkpoints.latest_step() == 10
        assert int(checkpoints.restore(shapes_of(at_step(0))).step) == 10
        checkpoints.save(at_step(20))
    assert saved_steps(tmp_path) == [10, 20]


FULL = """
import resource, sys
from pathlib import Path

sys.path.insert(0, sys.argv[2])
from small_states import DESCRIPTION, advance, first_state, shapes_of

from anchor_detr_jax.training.checkpoints import RunCheckpoints

run = Path(sys.argv[1])
state = first_state()
with RunCheckpoints(run, DESCRIPTION) as checkpoints:
    checkpoints.save(advance(state), ap=0.1)
    checkpoints.wait()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    for next_call in ("wait", "save", "close"):
        state = checkpoints.restore(shapes_of(first_state()))
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limit[1]))
        state = advance(state)
        try:
            checkpoints.save(state, ap=0.2)
            if next_call == "wait":
                checkpoints.wait()
            elif next_call == "save":
                checkpoints.save(advance(state))
            else:
                checkpoints.close()
        except OSError as error:
            print(next_call, error)
        else:
            sys.exit("not seen")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        if next_call != "close":
            assert checkpoints.best() == (1, 0.1)
            assert checkpoints.latest_step() == 1
with RunCheckpoints(run, DESCRIPTION) as checkpoints:
    state = checkpoints.restore(shapes_of(first_state()))
    checkpoints.save(advance(state), ap=0.2)
    checkpoints.wait()
    assert checkpoints.best() == (2, 0.2)
"""


def test_a_full_disk_is_an_error_and_the_last_checkpoint_stays(tmp_path):
    """A limit on the size of files stands for the full disk."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, tmp_path, Path(__file__).parent],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    says = "File too large; the checkpoint of step 2 could not be written"
    for line, call in zip(done.stdout.splitlines(), ("wait", "save", "close"), strict=True):
        assert line == f"{call} [Errno {errno.EFBIG}] {says}: '{tmp_path}/checkpoints'"
    assert saved_steps(tmp_path) == [1, 2]


KILLED = """
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[2])
from small_states import DESCRIPTION, advance, first_state, shapes_of

from anchor_detr_jax.training.checkpoints import RunCheckpoints

with RunCheckpoints(Path(sys.argv[1]), DESCRIPTION) as checkpoints:
    state = first_state(average=True, side=256)
    advance(first_state(average=True, side=256))  # compiled before the clock runs
    if checkpoints.latest_step() is not None:
        state = checkpoints.restore(shapes_of(state))
    print(int(state.step), flush=True)
    while True:
        state = advance(state)
        checkpoints.save(state, ap=(int(state.step) * 7 % 11) / 11)
        print(int(state.step), flush=True)
"""


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path):
    """After each kill, the newest checkpoint is whole, and at most the one in flight is lost."""
    rng = np.random.default_rng(0)
    reached, state = 0, first_state(average=True, side=256)
    for _ in range(20):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, tmp_path, Path(__file__).parent],
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            restored_there = int(process.stdout.readline())
            timer = threading.Timer(rng.uniform(0.05, 1.5), process.kill)
            timer.start()
            handed_over = [restored_there, *map(int, process.stdout)]
        assert process.returncode == -signal.SIGKILL
        assert restored_there == int(state.step)
        with RunCheckpoints(tmp_path, DESCRIPTION) as checkpoints:
            restored = checkpoints.restore(shapes_of(state))
        reached = handed_over[-1]
        assert int(restored.step) in (reached - 1, reached, reached + 1)
        while int(state.step) < int(restored.step):
            state = advance(state)
        assert bits(restored) == bits(state)
    assert reached > 20
