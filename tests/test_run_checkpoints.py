"""A run's checkpoints: exact, whole at any time, and read by `ad.load`."""

import dataclasses
import errno
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import NARROW, make_detector, random_variables

import anchor_detr_jax as ad
from anchor_detr_jax.training.checkpoints import RunCheckpoints, RunDescription, differences
from anchor_detr_jax.training.config import (
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
    train_config_to_dict,
)
from anchor_detr_jax.training.optimizer import make_optimizer, make_schedules, parameter_groups
from anchor_detr_jax.training.state import TrainState, start_state
from anchor_detr_jax.variable_names import flatten

DESCRIPTION = RunDescription(
    model=NARROW,
    categories=make_detector().categories,
    settings=train_config_to_dict(TrainConfig(model=NARROW)),
    version="0.1.0",
    data_fingerprint="abc",
)
PATTERNS = OptimizerConfig(frozen="fixed/.*", no_decay=".*/bias")


@functools.cache
def optimizer() -> tuple[optax.GradientTransformation, dict[str, str]]:
    groups = parameter_groups(["backbone/conv/kernel", "fixed/kernel", "head/bias"], PATTERNS)
    schedules = make_schedules(PATTERNS, ScheduleConfig(), steps_per_epoch=10)
    return make_optimizer(PATTERNS, schedules, groups), groups


def first_state(*, average: bool = False, side: int = 128) -> TrainState:
    """A small state that has all parts of a large one; bits that arithmetic does not like, too."""
    rng = np.random.default_rng(0)
    odd = np.array([np.nan, -np.nan, np.inf, -0.0, 1e-45], np.float32)
    params = {
        "backbone": {"conv": {"kernel": rng.normal(size=(side, side)).astype(np.float32)}},
        "fixed": {"kernel": odd},
        "head": {"bias": rng.normal(size=5).astype(np.float32)},
    }
    frozen = {"backbone": {"bn1": {"mean": odd[::-1].copy()}}}
    return start_state({"params": params, "frozen": frozen}, *optimizer(), average=average)


@functools.partial(jax.jit, donate_argnums=0)
def advance(state: TrainState) -> TrainState:
    """A step without a model."""
    gradients = jax.tree.map(lambda leaf: jnp.sin(leaf + state.step), state.trained)
    updates, optimizer_state = optimizer()[0].update(gradients, state.optimizer, state.trained)
    trained = optax.apply_updates(state.trained, updates)
    average = state.average and jax.tree.map(lambda a, b: (a + b) / 2, state.average, trained)
    return dataclasses.replace(
        state, step=state.step + 1, trained=trained, optimizer=optimizer_state, average=average
    )


def at_step(step: int) -> TrainState:
    """A cheap state for tests that look at files only."""
    return dataclasses.replace(first_state(side=4), step=jnp.int32(step))


def shapes_of(state: TrainState) -> TrainState:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state
    )


def bits(state: TrainState) -> tuple[object, list[tuple[str, bytes]]]:
    leaves, structure = jax.tree.flatten(jax.device_get(state))
    return structure, [(str(leaf.dtype), leaf.tobytes()) for leaf in leaves]


def saved_steps(run: Path) -> list[int]:
    return sorted(int(folder.name) for folder in (run / "checkpoints").iterdir())


@pytest.mark.parametrize("average", [False, True])
def test_a_state_comes_back_to_the_bit(tmp_path, capfd, average):
    state = advance(advance(first_state(average=average)))
    with RunCheckpoints(tmp_path / "run", DESCRIPTION) as checkpoints:
        assert checkpoints.latest_step() is checkpoints.best() is checkpoints.earlier is None
        extra = {"without_gain": 3}
        checkpoints.save(state, extra=extra)
        extra["without_gain"] = 4
    expected = bits(state)
    with RunCheckpoints(tmp_path / "run", DESCRIPTION) as checkpoints:
        assert checkpoints.latest_step() == 2
        assert checkpoints.extra(2) == {"without_gain": 3}  # noqa: S610
        assert differences(checkpoints.earlier, DESCRIPTION) == []
        restored = checkpoints.restore(shapes_of(state))
    assert bits(restored) == expected
    assert int(restored.step) == 2
    assert bits(advance(restored)) == bits(advance(state))
    assert capfd.readouterr() == ("", "")


def test_arrays_may_be_donated_while_they_are_written(tmp_path):
    state, twin = first_state(side=1024), first_state(side=1024)
    with RunCheckpoints(tmp_path, DESCRIPTION, keep=6) as checkpoints:
        expected = []
        for _ in range(6):
            state, twin = advance(state), advance(twin)
            expected.append(bits(twin)[1])
            checkpoints.save(state)
            for _ in range(3):
                state, twin = advance(state), advance(twin)
        for i, bytes_ in enumerate(expected):
            assert bits(checkpoints.restore(shapes_of(state), 1 + 4 * i))[1] == bytes_


def test_the_latest_and_the_best_are_kept(tmp_path):
    kept, best = [], []
    with RunCheckpoints(tmp_path, DESCRIPTION, keep=2) as checkpoints:
        for step, ap in enumerate([None, 0.3, 0.2, None, 0.3, 0.4, None, float("nan")], start=1):
            checkpoints.save(at_step(step), ap=ap)
            best.append(checkpoints.best())
            assert checkpoints.latest_step() == step
            checkpoints.wait()
            kept.append(saved_steps(tmp_path))
    assert kept == [[1], [1, 2], [2, 3], [2, 3, 4], [2, 4, 5], [5, 6], [6, 7], [6, 7, 8]]
    assert best == [None, *[(2, 0.3)] * 4, *[(6, 0.4)] * 3]
    with RunCheckpoints(tmp_path, DESCRIPTION, keep=1) as checkpoints:
        assert checkpoints.best() == (6, 0.4)
        checkpoints.restore(shapes_of(at_step(0)))
        checkpoints.save(at_step(9))
    assert saved_steps(tmp_path) == [6, 9]
    with pytest.raises(ValueError, match="keep is 0"):
        RunCheckpoints(tmp_path, DESCRIPTION, keep=0)


def test_an_evaluation_after_a_save_adds_its_ap(tmp_path):
    state = at_step(3)
    with RunCheckpoints(tmp_path, DESCRIPTION) as checkpoints:
        checkpoints.save(state, extra={"evaluated": False})
        checkpoints.wait()
        written = (tmp_path / "checkpoints/3/trained/manifest.ocdbt").stat().st_mtime_ns
        checkpoints.save(state, ap=0.25, extra={"evaluated": True})
        assert checkpoints.best() == (3, 0.25)
        assert (tmp_path / "checkpoints/3/trained/manifest.ocdbt").stat().st_mtime_ns == written
    with RunCheckpoints(tmp_path, DESCRIPTION) as checkpoints:
        assert checkpoints.best() == (3, 0.25)
        assert checkpoints.extra(3) == {"evaluated": True}  # noqa: S610
        restored = checkpoints.restore(shapes_of(state))
        checkpoints.save(restored)
        assert checkpoints.best() == (3, 0.25)
        assert bits(checkpoints.restore(shapes_of(state))) == bits(state)


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


def test_another_model_is_refused_and_other_settings_are_shown(tmp_path):
    with RunCheckpoints(tmp_path, DESCRIPTION) as checkpoints:
        checkpoints.save(at_step(1))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    model = dataclasses.replace(NARROW, num_anchors=9, anchors="grid")
    with pytest.raises(ValueError, match=r"model\.anchors: 'learned' in the run, 'grid' now") as e:
        RunCheckpoints(tmp_path, dataclasses.replace(DESCRIPTION, model=model))
    assert "model.num_anchors: 7 in the run, 9 now" in str(e.value)
    names = (*DESCRIPTION.categories.names[:-1], "cat")
    categories = dataclasses.replace(DESCRIPTION.categories, names=names)
    with pytest.raises(ValueError, match=r"categories\.4: '14 kind 4' in the run, '14 cat' now"):
        RunCheckpoints(tmp_path, dataclasses.replace(DESCRIPTION, categories=categories))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before

    optimizer = OptimizerConfig(lr=2e-4)
    settings = train_config_to_dict(TrainConfig(model=NARROW, optimizer=optimizer))
    del settings["seed"]
    new = dataclasses.replace(DESCRIPTION, settings=settings, data_fingerprint="xyz")
    with RunCheckpoints(tmp_path, new) as checkpoints:
        assert differences(checkpoints.earlier, new) == [
            "settings.optimizer.lr: 0.0001 in the run, 0.0002 now",
            "settings.seed: 42 in the run, nothing now",
            "data_fingerprint: 'abc' in the run, 'xyz' now",
        ]


def test_an_optimizer_that_needs_other_arrays_is_refused(tmp_path):
    state = advance(first_state())
    with RunCheckpoints(tmp_path, DESCRIPTION) as checkpoints:
        checkpoints.save(state)
    momentum = optax.sgd(0.1, momentum=0.9).init(state.trained)
    other = dataclasses.replace(state, optimizer=momentum)
    wide = dataclasses.replace(state, trained={**state.trained, "head/bias": jnp.zeros(6)})
    with RunCheckpoints(tmp_path, DESCRIPTION) as checkpoints:
        with pytest.raises(ValueError, match=r"optimizer/.*/count: int32\[\] in the run, nothing"):
            checkpoints.restore(shapes_of(other))
        says = r"trained/head/bias: float32\[5\] in the run, float32\[6\] now"
        with pytest.raises(ValueError, match=says):
            checkpoints.restore(shapes_of(wide))
        averaged = checkpoints.restore(shapes_of(first_state(average=True)))
    assert bits(dataclasses.replace(averaged, average=None)) == bits(state)
    assert averaged.average is not None
    assert bits(averaged.average) == bits(state.trained)
    advance(averaged)  # which donates both


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_run_checkpoints import *

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
    assert done.returncode == 0, done.stderr
    says = "File too large; the checkpoint of step 2 could not be written"
    for line, call in zip(done.stdout.splitlines(), ("wait", "save", "close"), strict=True):
        assert line == f"{call} [Errno {errno.EFBIG}] {says}: '{tmp_path}/checkpoints'"
    assert saved_steps(tmp_path) == [1, 2]


EIGHT = """
import sys
import threading
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_run_checkpoints import *
from anchor_detr_jax.training.sharding import make_placement

run = Path(sys.argv[1])
for fsdp in (4, 2):
    placement = make_placement(fsdp=fsdp)
    shapes = jax.eval_shape(lambda: first_state(average=True))
    like = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes, placement.state(shapes),
    )
    with RunCheckpoints(run, DESCRIPTION) as checkpoints:
        state = checkpoints.restore(like)
        jax.tree.map(lambda leaf, like: np.testing.assert_(leaf.sharding == like.sharding),
                     state, like)
        kernel = state.trained["backbone/conv/kernel"]
        assert kernel.addressable_shards[0].data.shape == (128 // fsdp, 128)
        checkpoints.save(jax.tree.map(lambda leaf: leaf + 1, state))
"""


def test_devices_and_their_parts_may_change(tmp_path):
    state = advance(first_state(average=True))
    with RunCheckpoints(tmp_path, DESCRIPTION) as checkpoints:
        checkpoints.save(state)
    subprocess.run(
        [sys.executable, "-c", EIGHT, tmp_path, Path(__file__).parent],
        check=True,
        env=os.environ
        | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"},
    )
    with RunCheckpoints(tmp_path, DESCRIPTION) as checkpoints:
        restored = checkpoints.restore(shapes_of(state))
    assert bits(restored) == bits(jax.tree.map(lambda leaf: leaf + 1 + 1, state))


def trained_detector(run: Path, *, average: bool) -> list[TrainState]:
    """Three checkpoints of a detector, of which the second is the best."""
    variables = random_variables(NARROW, 0)
    names = flatten(variables["params"])
    groups = {name: "frozen" if "layer1" in name else "rest" for name in names}
    states = []
    with RunCheckpoints(run, DESCRIPTION, keep=3) as checkpoints:
        for step, ap in ((1, 0.1), (2, 0.3), (3, None)):
            state = start_state(variables, optax.sgd(0.1, momentum=0.9), groups, average=average)
            trained = jax.tree.map(lambda leaf, step=step: leaf * step, state.trained)
            averaged = jax.tree.map(lambda leaf: leaf + 1, trained) if average else None
            state = dataclasses.replace(
                state, step=jnp.int32(step), trained=trained, average=averaged
            )
            checkpoints.save(state, ap=ap)
            states.append(state)
    return states


def same(detector: ad.Detector, state: TrainState) -> bool:
    expected = state.variables(state.average)
    return bits(detector.variables) == bits(expected) and detector.config == NARROW


def test_a_run_is_loaded_as_a_detector(tmp_path):
    run = tmp_path / "run"
    states = trained_detector(run, average=False)
    shutil.rmtree(run / "checkpoints/2/optimizer")  # which inference does without
    best, last = ad.load(run), ad.load(run, which="last")
    assert same(best, states[1])
    assert same(last, states[2])
    assert best.categories == DESCRIPTION.categories
    assert best.source["file"] == "run/checkpoints/2"
    assert (best.source["ap"], best.source["averaged"]) == (0.3, False)
    assert last.source["ap"] is None
    best.save(tmp_path / "saved")
    assert same(ad.load(tmp_path / "saved"), states[1])


def test_averaged_weights_are_loaded_and_damaged_ones_passed_over(tmp_path):
    states = trained_detector(tmp_path, average=True)
    detector = ad.load(tmp_path)
    assert same(detector, states[1])
    assert detector.source["averaged"]
    shutil.rmtree(tmp_path / "checkpoints/2/average/d")
    with pytest.warns(UserWarning, match=r"checkpoints/2/average .*; step 1 takes its place"):
        assert same(ad.load(tmp_path), states[0])
    (tmp_path / "checkpoints/1/about/metadata").unlink()
    with pytest.warns(UserWarning, match=r"checkpoints/1/about.*; step 3 takes its place"):
        assert same(ad.load(tmp_path), states[2])


def test_what_cannot_be_loaded(tmp_path):
    run = tmp_path / "run"
    RunCheckpoints(run, DESCRIPTION).close()
    with pytest.raises(ValueError, match="a training run that has no checkpoint yet"):
        ad.load(run)
    trained_detector(run, average=False)
    about = run / "checkpoints/3/about/metadata"
    for change, says in (
        ({"format": 2}, "its format is 2, this version reads 1"),
        ({"arrays": {}}, r"lacks \['backbone/bn1/bias',"),
        ({"arrays": {"trained": {"x": "float32[1]"}}}, r"has \['x'\]; the model has not"),
    ):
        for step in (1, 2):
            shutil.rmtree(run / f"checkpoints/{step}", ignore_errors=True)
        content = about.read_text()
        about.write_text(json.dumps(json.loads(content) | change))
        with pytest.raises(ValueError, match=rf"no checkpoint that can be read: .*{says}"):
            ad.load(run)
        about.write_text(content)
    with pytest.raises(ValueError, match="leave dilation=True away"):
        ad.load(run, dilation=True)
    with pytest.raises(ValueError, match="which is 'first', and must be 'best' or 'last'"):
        ad.load(run, which="first")
    with pytest.raises(ValueError, match="is no training run; leave which='last' away"):
        ad.load(tmp_path, which="last")


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_run_checkpoints import *

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


HOSTS = """
import sys
import threading
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import jax
jax.distributed.initialize(sys.argv[4], 2, int(sys.argv[3]))
from test_run_checkpoints import *
from anchor_detr_jax.training.sharding import make_placement

run = Path(sys.argv[1])
placement = make_placement(fsdp=4)
shapes = jax.eval_shape(lambda: first_state(average=True))
like = jax.tree.map(
    lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
    shapes, placement.state(shapes),
)
add = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf + 1, state), donate_argnums=0)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    with RunCheckpoints(run, DESCRIPTION) as checkpoints:
        state = checkpoints.restore(like)
        (warning,) = caught
        assert "goes back to step 1" in str(warning.message)
        for i in range(3):
            state = add(state)
            checkpoints.save(state)
            checkpoints.save(state, ap=0.1 * i)
        assert checkpoints.best() == (4, 0.2)
"""


@pytest.mark.slow
def test_two_hosts_write_one_checkpoint(tmp_path):
    state = advance(first_state(average=True))
    with RunCheckpoints(tmp_path, DESCRIPTION) as checkpoints:
        checkpoints.save(state)
        expected = jax.tree.map(lambda leaf: leaf + 1 + 1 + 1, state)
        checkpoints.save(advance(state))
    shutil.rmtree(tmp_path / "checkpoints/2/trained/d")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
    }
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", HOSTS, tmp_path, Path(__file__).parent, str(i), address],
            env=environment,
        )
        for i in range(2)
    ]
    assert [host.wait(timeout=300) for host in hosts] == [0, 0]
    assert saved_steps(tmp_path) == [3, 4]
    with RunCheckpoints(tmp_path, DESCRIPTION) as checkpoints:
        assert checkpoints.best() == (4, 0.2)
        assert bits(checkpoints.restore(shapes_of(state))) == bits(expected)
