"""Box formats and how much boxes overlap. A format's name is the order of its four numbers."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["cxcywh_to_xyxy", "generalized_iou"]


def cxcywh_to_xyxy(boxes_cxcywh: Float[Array, "... 4"]) -> Float[Array, "... 4"]:
    """Centre and size to corners, in whatever unit the boxes have."""
    centre, size = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:]
    return jnp.concatenate([centre - 0.5 * size, centre + 0.5 * size], axis=-1)


def generalized_iou(
    some_xyxy: Float[Array, "*#s 4"], others_xyxy: Float[Array, "*#s 4"]
) -> Float[Array, "*s"]:
    """GIoU of boxes one by one, in [-1, 1]; axes of size one are repeated.

    Two boxes of no area at one place have -1 and not NaN. Source: Rezatofighi et al., CVPR 2019.
    """

    def area(corner, opposite):
        sides = jnp.maximum(opposite - corner, 0)
        return sides[..., 0] * sides[..., 1]

    a, b, c, d = (
        some_xyxy[..., :2],
        some_xyxy[..., 2:],
        others_xyxy[..., :2],
        others_xyxy[..., 2:],
    )
    shared = area(jnp.maximum(a, c), jnp.minimum(b, d))
    union = area(a, b) + area(c, d) - shared
    hull = area(jnp.minimum(a, c), jnp.maximum(b, d))
    tiny = jnp.finfo(some_xyxy.dtype).tiny
    return shared / jnp.maximum(union, tiny) - 1 + union / jnp.maximum(hull, tiny)
