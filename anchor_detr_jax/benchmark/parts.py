"""Where the time of detection and of a training step goes, part by part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from anchor_detr_jax.benchmark.ours import Inference, Training, ranked
from anchor_detr_jax.benchmark.tasks import Task, made_images, made_targets
from anchor_detr_jax.benchmark.timing import timed_in_turn
from anchor_detr_jax.losses import detection_losses
from anchor_detr_jax.matcher import match
from anchor_detr_jax.models.pixels import normalised
from anchor_detr_jax.structures import Images, Outputs

__all__ = ["detection_parts", "step_parts"]


def detection_parts(task: Task, runs: int) -> dict[str, list[float]]:
    """Seconds of each run of each part of detection, with arrays on the device.

    The encoder is what backbone and encoder take together, less what the backbone takes.
    """
    inference, images = Inference.load(task).prepared(), jax.device_put(made_images(task))
    variables = inference.variables

    def applied(method: str | Callable[..., Any]) -> Callable[..., Any]:
        return jax.jit(lambda variables, *rest: inference.apply(variables, *rest, method=method))

    def backbone(model: Any, images: Images) -> Any:
        return model.backbone(normalised(images))

    @jax.jit
    def heads(variables: Any, hidden: Any) -> Any:
        outputs = inference.apply(variables, hidden[-1:], method="predict_boxes")
        return ranked(outputs, images, task.config.model)

    only_backbone, encode, decode = applied(backbone), applied("encode"), applied("decode")
    memory, places = encode(variables, images)
    hidden = decode(variables, memory, places)
    seconds = timed_in_turn(
        {
            "backbone": lambda: jax.block_until_ready(only_backbone(variables, images)),
            "encoder": lambda: jax.block_until_ready(encode(variables, images)),
            "decoder": lambda: jax.block_until_ready(decode(variables, memory, places)),
            "heads and ranking": lambda: jax.block_until_ready(heads(variables, hidden)),
        },
        runs,
    )
    pairs = zip(seconds["encoder"], seconds["backbone"], strict=True)
    seconds["encoder"] = [both - alone for both, alone in pairs]
    return seconds


def step_parts(task: Task, runs: int) -> dict[str, list[float]]:
    """Seconds of each run of each part of a step but for forward and backward pass.

    Losses come with their gradient in the outputs; the optimizer with its update of the weights.
    """
    training = Training.load(task)
    state, weights = training.state, training.settings.weights
    images, targets = jax.device_put((made_images(task), made_targets(task)))
    outputs = jax.jit(training.model.apply)(state.variables(), images)
    gradients = jax.tree.map(jnp.ones_like, state.trained)

    @jax.jit
    def losses(outputs: Outputs, matches: Any) -> Any:
        def total(outputs: Outputs) -> Any:
            return detection_losses(outputs, targets, matches, weights=weights).total

        return jax.value_and_grad(total)(outputs)

    @jax.jit
    def update(state: Any, gradients: Any) -> Any:
        updates, optimizer = training.optimizer.update(gradients, state.optimizer, state.trained)
        return optax.apply_updates(state.trained, updates), optimizer

    matching = jax.jit(lambda outputs, targets: match(outputs, targets))
    matches = matching(outputs, targets)
    return timed_in_turn(
        {
            "matching": lambda: jax.block_until_ready(matching(outputs, targets)),
            "losses": lambda: jax.block_until_ready(losses(outputs, matches)),
            "optimizer": lambda: jax.block_until_ready(update(state, gradients)),
        },
        runs,
    )
