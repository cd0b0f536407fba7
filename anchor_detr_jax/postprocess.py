"""From logits and boxes to the best detections, in pixels of the original images."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from anchor_detr_jax.boxes import cxcywh_to_xyxy
from anchor_detr_jax.class_scores import log_probabilities
from anchor_detr_jax.structures import Outputs, RankedDetections

__all__ = ["best_detections"]


def best_detections(
    outputs: Outputs,
    original_hw: Int[Array, "b 2"],
    columns: Bool[Array, " c"],
    *,
    count: int,
) -> RankedDetections:
    """The `count` best of all pairs of query and class, by the last layer.

    Where a column stands for "no object", each query gives one pair, its best, and no more than
    that are found.

    Source: `PostProcess` of AnchorDETR `models/anchor_detr.py`, which takes 100 of all columns, and
    of DETR `models/detr.py`, which takes all queries.

    Args:
        outputs: of the model.
        original_hw: heights and widths that boxes are scaled to, in pixels.
        columns: False for classes to leave out; columns beyond these stand for no class.
        count: at most queries x classes.
    """
    boxes, classes = outputs.boxes[-1], columns.shape[0]
    # Sigmoids keep the order of logits, which are finer where probabilities round to 1.
    scores = log_probabilities(outputs)[-1] if outputs.no_object else outputs.logits[-1]
    scores = jnp.where(columns, scores[..., :classes], -jnp.inf)
    if outputs.no_object:
        scores, labels = (x[..., 0] for x in jax.lax.top_k(scores, 1))
        best, query = jax.lax.top_k(scores, min(count, boxes.shape[1]))
        probability, label = jnp.exp(best), jnp.take_along_axis(labels, query, axis=1)
    else:
        best, index = jax.lax.top_k(scores.reshape(scores.shape[0], -1), count)
        probability, query, label = jax.nn.sigmoid(best), index // classes, index % classes
    chosen = jnp.take_along_axis(boxes, query[..., None], axis=1)
    scale = jnp.tile(original_hw[:, ::-1], (1, 2))[:, None, :]
    return RankedDetections(boxes=cxcywh_to_xyxy(chosen) * scale, scores=probability, labels=label)
