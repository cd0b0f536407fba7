"""States of a few small arrays, for tests of a run's checkpoints and for programs that they start.

They have all parts of a model's state; a program that imports them is soon ready.
"""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from anchor_detr_jax.data.categories import Categories
from anchor_detr_jax.models.anchor_detr import AnchorDETRConfig
from anchor_detr_jax.run_folder import RunDescription
from anchor_detr_jax.training.compiled import state_shapes
from anchor_detr_jax.training.config import (
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
    train_config_to_dict,
)
from anchor_detr_jax.training.optimizer import make_optimizer, make_schedules, parameter_groups
from anchor_detr_jax.training.sharding import Placement
from anchor_detr_jax.training.state import TrainState, start_state

MODEL = AnchorDETRConfig(num_classes=5, num_anchors=7)
DESCRIPTION = RunDescription(
    model=MODEL,
    categories=Categories(tuple(range(10, 15)), tuple(f"kind {i}" for i in range(5))),
    settings=train_config_to_dict(TrainConfig(model=MODEL)),
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


def placed_shapes(placement: Placement) -> TrainState:
    """Of a state with a moving average, with their places on a mesh."""
    return state_shapes(jax.eval_shape(lambda: first_state(average=True)), placement)


def bits(state: TrainState) -> tuple[object, list[tuple[str, bytes]]]:
    leaves, structure = jax.tree.flatten(jax.device_get(state))
    return structure, [(str(leaf.dtype), leaf.tobytes()) for leaf in leaves]


def saved_steps(run: Path) -> list[int]:
    return sorted(int(folder.name) for folder in (run / "checkpoints").iterdir())
