"""From logits and boxes to the best detections, in pixels of the original images."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from anchor_detr_jax.boxes import cxcywh_to_xyxy
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

    Source: AnchorDETR `models/anchor_detr.py`, `PostProcess`, which takes 100 of all columns.

    Args:
        outputs: of the model.
        original_hw: heights and widths that boxes are scaled to, in pixels.
        columns: False for classes to leave out.
        count: at most queries x classes.
    """
    logits, boxes = outputs.logits[-1], outputs.boxes[-1]
    num_classes = logits.shape[-1]
    logits = jnp.where(columns, logits, -jnp.inf)
    best, index = jax.lax.top_k(logits.reshape(logits.shape[0], -1), count)
    chosen = jnp.take_along_axis(boxes, index[..., None] // num_classes, axis=1)
    scale = jnp.tile(original_hw[:, ::-1], (1, 2))[:, None, :]
    return RankedDetections(
        boxes=cxcywh_to_xyxy(chosen) * scale,
        scores=jax.nn.sigmoid(best),
        labels=index % num_classes,
    )
