"""What settings make of one step: what is computed in, matched by, cut into parts, decayed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import NARROW
from test_training_run import narrow_config

from anchor_detr_jax.models.build import variable_shapes
from anchor_detr_jax.training import compiled
from anchor_detr_jax.training.compiled import CompiledSteps, compile_times
from anchor_detr_jax.training.config import train_config_from_dict
from anchor_detr_jax.training.optimizer import make_optimizer, parameter_groups
from anchor_detr_jax.training.run import prepare_run
from anchor_detr_jax.training.sharding import Placement, make_placement
from anchor_detr_jax.training.step import make_train_step, step_settings
from anchor_detr_jax.variable_names import flatten
from configs.anchor_detr_r50_c5_detrex import get_config as detrex

SMALL = {"model__dropout": 0.0, "model__decoder_layers": 1, "augmentation__fixed_hw": (64, 64)}


def first_step(folder, **changes):
    """Metrics and state after the first step, and what was compiled for it."""
    run = prepare_run(narrow_config(**SMALL, **changes), folder)
    steps = CompiledSteps(run.step, run.placement, run.shapes, report=lambda _: None)
    batch = run.reader(0)
    state, metrics = steps(run.start()[0], batch.images, batch.targets)
    return jax.device_get(metrics), jax.device_get(state), steps.done[0]


def numbers(metrics) -> np.ndarray:
    losses = metrics.losses
    return np.array([losses.total, *losses.classes, *losses.l1, *losses.giou, metrics.grad_norm])


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return first_step(tmp_path_factory.mktemp("plain"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "rtol"),
    [
        ({"matcher": "scipy"}, 1e-6),
        ({"remat": True}, 1e-5),
        ({"optimizer__accumulate": 2}, 1e-5),
        ({"precision": "tensorfloat32"}, 0.01),  # where there is none of it, as on the CPU: float32
        ({"precision": "bfloat16"}, 0.1),
    ],
    ids=str,
)
def test_a_step_is_the_same_step(plain, tmp_path, changes, rtol):
    expected, before, _ = plain
    found, state, _ = first_step(tmp_path, **changes)
    np.testing.assert_allclose(numbers(found), numbers(expected), rtol=rtol)
    for name, leaf in before.trained.items():
        assert state.trained[name].dtype == leaf.dtype == np.float32
    if changes.get("precision") == "bfloat16":
        assert np.abs(numbers(found) / numbers(expected) - 1).max() > 1e-4  # it was not float32


def test_what_is_compiled_meanwhile_is_timed(monkeypatch):
    monkeypatch.setattr(compiled, "_SLOW", 0.0)
    twice = jax.jit(lambda x: 2 * x)
    with compile_times() as first:
        twice(np.ones(3))
    with compile_times() as second:
        twice(np.ones(3))
    twice(np.ones(4))
    assert [seconds > 0 for seconds in first] == [True]
    assert second == []


def test_scipy_is_refused_on_several_devices(monkeypatch):
    monkeypatch.setattr(Placement, "devices", 8)
    config = dataclasses.replace(narrow_config(), matcher="scipy")
    model, settings = step_settings(config, config.model)
    with pytest.raises(ValueError, match=r"matcher='scipy' works on one device only; use matcher="):
        make_train_step(model, optax.identity(), make_placement(), settings)


def test_detrex_decays_all_but_norms():
    config = train_config_from_dict(detrex().to_dict()).optimizer
    model = dataclasses.replace(NARROW, encoder_layers=1, decoder_layers=1)
    names = flatten(variable_shapes(model)["params"])
    groups = parameter_groups(names, config)
    ones = {name: jnp.ones(1) for name in names if groups[name] != "frozen"}
    rates = {"rest": lambda step: 1.0, "backbone": lambda step: 1.0}
    optimizer = make_optimizer(config, rates, groups)
    state = optimizer.init(ones)
    zeros = jax.tree.map(jnp.zeros_like, ones)
    updates, _ = jax.jit(optimizer.update)(zeros, state, ones)
    still = {name for name, update in updates.items() if update == 0}
    norms = {name for name in ones if f"{name.rpartition('/')[0]}/scale" in names}
    assert still == norms
    assert {name.rpartition("/")[2] for name in norms} == {"scale", "bias"}
    assert len(norms) == 2 * (
        2 + 3 + 1
    )  # of an encoder and a decoder layer, and the input projection
    for name in ones.keys() - norms:
        assert updates[name] == pytest.approx(-config.weight_decay)
