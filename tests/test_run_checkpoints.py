"""A run's checkpoints: exact, by however many devices and hosts, and the right ones kept."""

import dataclasses
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest
from small_states import (
    DESCRIPTION,
    MODEL,
    advance,
    at_step,
    bits,
    first_state,
    saved_steps,
    shapes_of,
)

from anchor_detr_jax.training.checkpoints import RunCheckpoints, differences
from anchor_detr_jax.training.config import OptimizerConfig, TrainConfig, train_config_to_dict


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


def test_another_model_is_refused_and_other_settings_are_shown(tmp_path):
    with RunCheckpoints(tmp_path, DESCRIPTION) as checkpoints:
        checkpoints.save(at_step(1))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    model = dataclasses.replace(MODEL, num_anchors=9, anchors="grid")
    with pytest.raises(ValueError, match=r"model\.anchors: 'learned' in the run, 'grid' now") as e:
        RunCheckpoints(tmp_path, dataclasses.replace(DESCRIPTION, model=model))
    assert "model.num_anchors: 7 in the run, 9 now" in str(e.value)
    names = (*DESCRIPTION.categories.names[:-1], "cat")
    categories = dataclasses.replace(DESCRIPTION.categories, names=names)
    with pytest.raises(ValueError, match=r"categories\.4: '14 kind 4' in the run, '14 cat' now"):
        RunCheckpoints(tmp_path, dataclasses.replace(DESCRIPTION, categories=categories))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before

    optimizer = OptimizerConfig(lr=2e-4)
    settings = train_config_to_dict(TrainConfig(model=MODEL, optimizer=optimizer))
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


EIGHT = """
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[2])
import jax
from small_states import DESCRIPTION, placed_shapes

from anchor_detr_jax.training.checkpoints import RunCheckpoints
from anchor_detr_jax.training.sharding import make_placement

for fsdp in (4, 2):
    like = placed_shapes(make_placement(fsdp=fsdp))
    with RunCheckpoints(Path(sys.argv[1]), DESCRIPTION) as checkpoints:
        state = checkpoints.restore(like)
        for leaf, wanted in zip(jax.tree.leaves(state), jax.tree.leaves(like), strict=True):
            assert leaf.sharding == wanted.sharding
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


HOSTS = """
import sys
import warnings
from pathlib import Path

sys.path.insert(0, sys.argv[2])
import jax

jax.distributed.initialize(sys.argv[4], 2, int(sys.argv[3]))
from small_states import DESCRIPTION, placed_shapes

import anchor_detr_jax.training.checkpoints as module
from anchor_detr_jax.training.sharding import make_placement


def unreadable(*_):
    raise module.DamagedCheckpointError("as the second host alone sees it")


if jax.process_index() == 1:
    module.read_about = module.check_arrays = unreadable
add = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf + 1, state), donate_argnums=0)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    with module.RunCheckpoints(Path(sys.argv[1]), DESCRIPTION) as checkpoints:
        state = checkpoints.restore(placed_shapes(make_placement(fsdp=4)))
        (warning,) = caught
        assert "checkpoints/2/trained " in str(warning.message)
        assert "goes back to step 1" in str(warning.message)
        for i in range(3):
            state = add(state)
            checkpoints.save(state)
            checkpoints.save(state, ap=0.1 * i)
        assert checkpoints.best() == (4, 0.2)
        try:
            checkpoints.extra(99)
        except ValueError as error:
            assert "checkpoints/99" in str(error)
        else:
            sys.exit("no error")
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
