"""Where things are: normalised coordinates and their sine embeddings.

Source: AnchorDETR `models/transformer.py` (`pos2posemb1d`, `pos2posemb2d`, `mask2pos`).
"""

from __future__ import annotations

import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

__all__ = ["cell_centres", "cell_ends", "sine_embedding_1d", "sine_embedding_2d"]


def cell_centres(valid: Int[Array, " b"], length: int) -> Float[Array, "b length"]:
    """Centres of `length` cells, of which the first `valid` span [0, 1]; beyond 1 past it."""
    return (jnp.arange(length, dtype=jnp.float32) + 0.5) / valid[:, None]


def cell_ends(valid: Int[Array, " b"], length: int) -> Float[Array, "b length"]:
    """Far ends of `length` cells, of which the first `valid` span [0, 1]; beyond 1 past it.

    Source: DETR `models/position_encoding.py`, whose small number in the divisor this keeps.
    """
    return jnp.arange(1, length + 1, dtype=jnp.float32) / (valid[:, None] + 1e-6)


def sine_embedding_1d(
    position: Float[Array, ...], dim: int, temperature: float = 10000.0
) -> Float[Array, "... dim"]:
    """Sines and cosines of 2 pi `position`, interleaved, at `dim / 2` geometric wavelengths."""
    wavelength = temperature ** (2 * jnp.arange(dim // 2, dtype=jnp.float32) / dim)
    angle = position[..., None] * (2 * math.pi) / wavelength
    return jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1).reshape(*position.shape, dim)


def sine_embedding_2d(points_xy: Float[Array, "... 2"], dim: int) -> Float[Array, "... dim"]:
    """`dim / 2` numbers for y, then `dim / 2` for x."""
    x, y = points_xy[..., 0], points_xy[..., 1]
    return jnp.concatenate(
        [sine_embedding_1d(y, dim // 2), sine_embedding_1d(x, dim // 2)], axis=-1
    )
