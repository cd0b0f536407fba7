"""What training minimises: focal loss of the classes, L1 and GIoU of the matched boxes.

Source: AnchorDETR `models/anchor_detr.py`, `SetCriterion`.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from anchor_detr_jax.boxes import cxcywh_to_xyxy, generalized_iou
from anchor_detr_jax.structures import Outputs, Targets, pytree

__all__ = ["LossWeights", "Losses", "detection_losses", "number_of_targets"]


@dataclass(frozen=True)
class LossWeights:
    """How much each part counts in the total; the reference's by default."""

    classes: float = 2.0
    l1: float = 5.0
    giou: float = 2.0


@pytree
@dataclass(frozen=True)
class Losses:
    """The parts of the loss, each summed and divided by the number of targets in the whole batch.

    Attributes:
        classes: focal loss over all queries and classes, for each layer.
        l1: absolute differences of matched boxes (cx, cy, w, h), for each layer.
        giou: 1 - GIoU of matched boxes, for each layer.
        total: weighted sum over parts and layers.
        class_error: per cent of matched queries of the last layer whose best class is another.
    """

    classes: Float[Array, " l"]
    l1: Float[Array, " l"]
    giou: Float[Array, " l"]
    total: Float[Array, ""]
    class_error: Float[Array, ""]


def detection_losses(
    outputs: Outputs,
    targets: Targets,
    matches: Int[Array, "l b n"],
    *,
    weights: LossWeights = LossWeights(),
    divisor: Float[Array, ""] | None = None,
) -> Losses:
    """The loss of all layers and images at once.

    A batch over several devices is one batch, and no number of devices occurs anywhere.

    Args:
        outputs: of the model.
        targets: padded; padding adds nothing.
        matches: a query for each target, as by `matcher.match`.
        weights: of the parts.
        divisor: of every sum; None: the number of targets in the batch, or 1 if there is none.
            Losses of the parts of a batch add up if each is given the divisor of the whole.
    """
    real = targets.real
    if divisor is None:
        divisor = number_of_targets(targets)

    def per_layer(values, where):
        return jnp.sum(values, axis=tuple(range(1, values.ndim)), where=where) / divisor

    counting = None if targets.in_batch is None else jnp.asarray(targets.in_batch)[:, None, None]

    labels = jnp.broadcast_to(jnp.asarray(targets.labels), matches.shape)
    logits_of_match = jnp.take_along_axis(outputs.logits, matches[..., None], axis=2)
    logit = jnp.take_along_axis(logits_of_match, labels[..., None], axis=-1)[..., 0]
    # Everything counts as background but for the matched query's one class.
    classes = per_layer(_focal(outputs.logits, 0.0), counting) + per_layer(
        _focal(logit, 1.0) - _focal(logit, 0.0), real
    )
    boxes = jnp.take_along_axis(outputs.boxes, matches[..., None], axis=2)
    wanted = jnp.where(real[..., None], jnp.asarray(targets.boxes), 0.5)
    l1 = per_layer(jnp.abs(boxes - wanted).sum(-1), real)
    overlap = generalized_iou(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(wanted)[None])
    giou = per_layer(1 - overlap, real)
    wrong = (logits_of_match[-1].argmax(-1) != labels[-1]) & real
    return Losses(
        classes=classes,
        l1=l1,
        giou=giou,
        total=jnp.sum(weights.classes * classes + weights.l1 * l1 + weights.giou * giou),
        class_error=100 * wrong.sum() / divisor,
    )


def number_of_targets(targets: Targets) -> Float[Array, ""]:
    """What sums over a batch are divided by: its targets, or 1 if it has none."""
    return jnp.maximum(jnp.asarray(targets.count).sum(), 1).astype(jnp.float32)


def _focal(logits: Float[Array, ...], label: float) -> Float[Array, ...]:
    labels = jnp.full_like(logits, label)
    return optax.losses.sigmoid_focal_loss(logits, labels, alpha=0.25, gamma=2.0)
