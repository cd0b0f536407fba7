"""Conversions between box formats. A format's name is the order of its four numbers."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["cxcywh_to_xyxy"]


def cxcywh_to_xyxy(boxes_cxcywh: Float[Array, "... 4"]) -> Float[Array, "... 4"]:
    """Centre and size to corners, in whatever unit the boxes have."""
    centre, size = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:]
    return jnp.concatenate([centre - 0.5 * size, centre + 0.5 * size], axis=-1)
