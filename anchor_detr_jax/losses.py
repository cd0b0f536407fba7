"""What training minimises: a loss of the classes, L1 and GIoU of the matched boxes.

Source: AnchorDETR `models/anchor_detr.py`, DETR `models/detr.py`: `SetCriterion`.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from anchor_detr_jax.boxes import cxcywh_to_xyxy, generalized_iou
from anchor_detr_jax.class_scores import class_losses, class_weight
from anchor_detr_jax.structures import Outputs, Targets, pytree

__all__ = ["BatchCounts", "LossWeights", "Losses", "batch_counts", "detection_losses"]


@dataclass(frozen=True)
class LossWeights:
    """How much each part counts in the total; the references' by default.

    Attributes:
        classes: the loss of the classes; below 0: 2 for focal loss, 1 for DETR's cross entropy.
        l1: absolute differences of boxes.
        giou: 1 - GIoU of boxes.
        no_object: in DETR's cross entropy, a query without a target beside one with.
    """

    classes: float = -1.0
    l1: float = 5.0
    giou: float = 2.0
    no_object: float = 0.1


@pytree
@dataclass(frozen=True)
class BatchCounts:
    """What sums over a whole batch are divided by.

    Attributes:
        targets: how many there are.
        images: how many there are that have a loss.
    """

    targets: Float[Array, ""]
    images: Float[Array, ""]


@pytree
@dataclass(frozen=True)
class Losses:
    """The parts of the loss, each divided by what the whole batch holds.

    Attributes:
        classes: for each layer: focal loss over all queries and classes by the number of targets,
            or DETR's mean of cross entropies, which "no object" weighs less in.
        l1: absolute differences of matched boxes (cx, cy, w, h), for each layer.
        giou: 1 - GIoU of matched boxes, for each layer.
        total: weighted sum over parts and layers.
        class_error: per cent of matched queries of the last layer whose best class is another.
        cardinality_error: by how many objects each layer's queries, by their best column, are too
            many or too few, on average over images; None where no column stands for "no object".
    """

    classes: Float[Array, " l"]
    l1: Float[Array, " l"]
    giou: Float[Array, " l"]
    total: Float[Array, ""]
    class_error: Float[Array, ""]
    cardinality_error: Float[Array, " l"] | None = None


def detection_losses(
    outputs: Outputs,
    targets: Targets,
    matches: Int[Array, "l b n"],
    *,
    weights: LossWeights = LossWeights(),
    whole: BatchCounts | None = None,
) -> Losses:
    """The loss of all layers and images at once.

    A batch over several devices is one batch, and no number of devices occurs anywhere.

    Args:
        outputs: of the model.
        targets: padded; padding adds nothing.
        matches: a query for each target, as by `matcher.match`.
        weights: of the parts.
        whole: what sums are divided by; None: what is in the batch. Losses of the parts of a batch
            add up if each is given the counts of the whole.
    """
    real, labels = targets.real, jnp.asarray(targets.labels)
    whole = whole or batch_counts(targets)
    divisor = jnp.maximum(whole.targets, 1)

    classes = class_losses(
        outputs,
        labels,
        matches,
        real=real,
        counting=_counting(targets),
        no_object=weights.no_object,
    )
    if outputs.no_object:
        others = outputs.logits.shape[2] * whole.images - whole.targets
        classes = classes / (whole.targets + weights.no_object * others)
    else:
        classes = classes / divisor
    boxes = jnp.take_along_axis(outputs.boxes, matches[..., None], axis=2)
    wanted = jnp.where(real[..., None], jnp.asarray(targets.boxes), 0.5)
    l1 = jnp.sum(jnp.abs(boxes - wanted).sum(-1), axis=(1, 2), where=real) / divisor
    overlap = generalized_iou(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(wanted)[None])
    giou = jnp.sum(1 - overlap, axis=(1, 2), where=real) / divisor
    class_share = class_weight(outputs) if weights.classes < 0 else weights.classes
    return Losses(
        classes=classes,
        l1=l1,
        giou=giou,
        total=jnp.sum(class_share * classes + weights.l1 * l1 + weights.giou * giou),
        class_error=100 * _misnamed(outputs, labels, matches, real) / divisor,
        cardinality_error=_cardinality_error(outputs, targets, whole),
    )


def batch_counts(targets: Targets) -> BatchCounts:
    """Of the whole batch, wherever it is cut."""
    count = jnp.asarray(targets.count)
    return BatchCounts(
        targets=count.sum().astype(jnp.float32),
        images=_counting(targets).sum().astype(jnp.float32),
    )


def _counting(targets: Targets) -> Bool[Array, " b"]:
    """True for images that have a loss."""
    if targets.in_batch is None:
        return jnp.ones(targets.labels.shape[0], bool)
    return jnp.asarray(targets.in_batch)


def _misnamed(
    outputs: Outputs,
    labels: Int[Array, "b n"],
    matches: Int[Array, "l b n"],
    real: Bool[Array, "b n"],
) -> Float[Array, ""]:
    """Matched queries of the last layer whose best column is another."""
    best = outputs.logits[-1].argmax(-1)
    named = jnp.take_along_axis(best, matches[-1], axis=1)
    return jnp.sum((named != labels) & real).astype(jnp.float32)


def _cardinality_error(
    outputs: Outputs, targets: Targets, whole: BatchCounts
) -> Float[Array, " l"] | None:
    if not outputs.no_object:
        return None
    columns = outputs.logits.shape[-1]
    found = jnp.sum(outputs.logits.argmax(-1) != columns - 1, axis=-1)
    error = jnp.abs(found - jnp.asarray(targets.count)).astype(jnp.float32)
    return jnp.sum(error, axis=1, where=_counting(targets)) / jnp.maximum(whole.images, 1)
