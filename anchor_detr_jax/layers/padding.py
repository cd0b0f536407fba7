"""Which part of a padded map is real.

Padding is always right and below, so a pair (rows, columns) per image says it all.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

__all__ = ["FeatureMap", "downsampled", "valid_mask", "valid_positions", "zero_padding"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FeatureMap:
    """Features of a batch of padded images, with the part of each that is real."""

    features: Float[Array, "b h w d"]
    valid_hw: Int[Array, "b 2"]


def downsampled(x: FeatureMap, stride: int) -> Int[Array, "b 2"]:
    """Valid size of a map after a convolution or pooling with `stride`: ceil(size / stride).

    The positions that are real are counted. A division would be right, too, but XLA copies it, and
    all those before it, into every loop that masks a map; of a sum it makes no copies.
    """
    if stride == 1:
        return x.valid_hw

    def along(axis: int) -> Int[Array, " b"]:
        starts = stride * jnp.arange(-(-x.features.shape[1 + axis] // stride))
        return jnp.sum(starts < x.valid_hw[:, axis, None], axis=1, dtype=x.valid_hw.dtype)

    return jnp.stack([along(0), along(1)], axis=1)


def valid_positions(valid: Int[Array, " b"], length: int) -> Bool[Array, "b length"]:
    """True at the first `valid` of `length` positions."""
    return jnp.arange(length) < valid[:, None]


def valid_mask(valid_hw: Int[Array, "b 2"], size: tuple[int, int]) -> Bool[Array, "b h w"]:
    """True on the real positions of maps of `size` (rows, columns)."""
    rows = valid_positions(valid_hw[:, 0], size[0])
    columns = valid_positions(valid_hw[:, 1], size[1])
    return rows[:, :, None] & columns[:, None, :]


def zero_padding(
    x: Float[Array, "b h w d"], valid_hw: Int[Array, "b 2"]
) -> Float[Array, "b h w d"]:
    """`x` with zeros in its padding, as a convolution finds them around an image alone."""
    mask = valid_mask(valid_hw, (x.shape[1], x.shape[2]))
    return jnp.where(mask[..., None], x, jnp.zeros((), x.dtype))
