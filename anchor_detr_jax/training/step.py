"""One training step: forward, matching, losses, gradients and update in one function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from anchor_detr_jax.losses import (
    BatchCounts,
    Losses,
    LossWeights,
    batch_counts,
    detection_losses,
)
from anchor_detr_jax.matcher import Assignment, assign_with_scipy, match
from anchor_detr_jax.models.build import Model, ModelConfig, make_model
from anchor_detr_jax.structures import Images, Outputs, Targets, pytree
from anchor_detr_jax.training.config import TrainConfig
from anchor_detr_jax.training.sharding import Placement
from anchor_detr_jax.training.state import TrainState

__all__ = ["StepMetrics", "StepSettings", "TrainStep", "make_train_step", "step_settings"]


@pytree
@dataclass(frozen=True)
class StepMetrics:
    """What a step says of itself.

    Attributes:
        losses: before the update.
        grad_norm: global norm of the gradient, before clipping.
        update_norm: global norm of what was added to the parameters.
    """

    losses: Losses
    grad_norm: Float[Array, ""]
    update_norm: Float[Array, ""]


TrainStep = Callable[[TrainState, Images, Targets], tuple[TrainState, StepMetrics]]


@dataclass(frozen=True)
class StepSettings:
    """What else a step depends on.

    Attributes:
        weights: of the parts of the loss.
        accumulate: parts that the batch is cut into, one after another through the model. The
            losses are divided by what the whole batch holds, so that nothing but memory changes.
        ema: decay of the moving average of the weights, which starts smaller: (1 + t) / (10 + t).
        precision: of products: "float32", "tensorfloat32" or "bfloat16".
        assign: how queries are matched; None: on the device.
        seed: of dropout.
    """

    weights: LossWeights = field(default_factory=LossWeights)
    accumulate: int = 1
    ema: float = 0.0
    precision: str = "float32"
    assign: Assignment | None = None
    seed: int = 0


def step_settings(config: TrainConfig, model: ModelConfig) -> tuple[Model, StepSettings]:
    """The module that is trained, and what else a step depends on."""
    dtype = jnp.bfloat16 if config.precision == "bfloat16" else None
    settings = StepSettings(
        weights=config.loss,
        accumulate=config.optimizer.accumulate,
        ema=config.optimizer.ema,
        precision=config.precision,
        assign=assign_with_scipy if config.matcher == "scipy" else None,
        seed=config.seed,
    )
    made = make_model(model, dtype, remat=config.remat, rcda_impl=config.rcda_impl)
    return made, settings


def make_train_step(
    model: Model,
    optimizer: optax.GradientTransformation,
    placement: Placement,
    settings: StepSettings,
) -> TrainStep:
    """A step to be compiled by `jax.jit` for the placement's mesh.

    The batch is cut over the mesh by its images; XLA adds the gradients up. Matching is done on
    each device for its own images, without talking to others.
    """
    gradient = _gradient(model, placement, settings)

    def train_step(
        state: TrainState, images: Images, targets: Targets
    ) -> tuple[TrainState, StepMetrics]:
        with jax.default_matmul_precision(settings.precision):
            key = jax.random.fold_in(jax.random.key(settings.seed), state.step)
            batch = _Part(images, targets, batch_counts(targets), key)
            gradients, losses = gradient(state, batch)
            updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.trained)
            trained: Any = optax.apply_updates(state.trained, updates)
        metrics = StepMetrics(losses, optax.tree.norm(gradients), optax.tree.norm(updates))
        return replace(
            state,
            step=state.step + 1,
            trained=trained,
            optimizer=optimizer_state,
            average=_averaged(state, trained, settings.ema),
        ), metrics

    return train_step


class _Part(NamedTuple):
    """Images of a batch, or of a part of it, and what the whole batch holds."""

    images: Images
    targets: Targets
    whole: BatchCounts
    key: jax.Array


def _gradient(
    model: Model, placement: Placement, settings: StepSettings
) -> Callable[[TrainState, _Part], tuple[dict[str, Array], Losses]]:
    """Gradients and losses of a batch: of all of it at once, or of its parts one by one."""
    matched = _matched_on_each(placement, settings.assign)

    def losses_of(trained, state: TrainState, part: _Part) -> tuple[Float[Array, ""], Losses]:
        outputs: Any = model.apply(
            state.variables(trained), part.images, train=True, rngs={"dropout": part.key}
        )
        matches = matched(jax.lax.stop_gradient(outputs), part.targets)
        losses = detection_losses(
            outputs, part.targets, matches, weights=settings.weights, whole=part.whole
        )
        return losses.total, losses

    def at_once(state: TrainState, part: _Part) -> tuple[dict[str, Array], Losses]:
        return jax.grad(losses_of, has_aux=True)(state.trained, state, part)

    if settings.accumulate == 1:
        return at_once

    def in_parts(state: TrainState, batch: _Part) -> tuple[dict[str, Array], Losses]:
        parts = _cut(batch, settings.accumulate, placement)
        return _summed(lambda part: at_once(state, part), parts)

    return in_parts


def _matched_on_each(
    placement: Placement, assign: Assignment | None
) -> Callable[[Outputs, Targets], Int[Array, "l b n"]]:
    def matched(outputs: Outputs, targets: Targets) -> Int[Array, "l b n"]:
        return match(outputs, targets, assign=assign)

    if placement.devices == 1:
        return matched
    if assign is assign_with_scipy:
        raise ValueError("matcher='scipy' works on one device only; use matcher='device'")
    return jax.shard_map(
        matched,
        mesh=placement.mesh,
        in_specs=(placement.batch_spec(axis=1), placement.batch_spec()),
        out_specs=placement.batch_spec(axis=1),
        check_vma=False,  # the search's loops start from constants
    )


def _cut(batch: _Part, count: int, placement: Placement) -> _Part:
    """A leading axis of parts, each with images of every device."""
    sharding = placement.batch(axis=1)

    def cut(leaf: Array) -> Array:
        if leaf.shape[0] % (count * placement.devices):
            raise ValueError(
                f"a batch of {leaf.shape[0]} cannot be cut into optimizer.accumulate={count} parts "
                f"for each of {placement.devices} devices"
            )
        parts = leaf.reshape(leaf.shape[0] // count, count, *leaf.shape[1:]).swapaxes(0, 1)
        return jax.lax.with_sharding_constraint(parts, sharding)

    return _Part(
        images=jax.tree.map(cut, batch.images),
        targets=jax.tree.map(cut, batch.targets),
        whole=jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count,)), batch.whole),
        key=jax.random.split(batch.key, count),
    )


def _summed(function: Callable[[_Part], Any], parts: _Part) -> Any:
    """The sum of a function over parts, one after another."""
    first = jax.tree.map(lambda leaf: leaf[0], parts)
    shapes = jax.eval_shape(function, first)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def add(total, part):
        return jax.tree.map(jnp.add, total, function(part)), None

    return jax.lax.scan(add, zeros, parts)[0]


def _averaged(state: TrainState, trained: dict[str, Array], ema: float) -> dict[str, Array] | None:
    if state.average is None:
        return None
    done = state.step.astype(jnp.float32)
    decay = jnp.minimum(ema, (1 + done) / (10 + done))
    return jax.tree.map(lambda old, new: old + (1 - decay) * (new - old), state.average, trained)
