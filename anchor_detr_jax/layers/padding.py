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


def downsampled(valid_hw: Int[Array, "b 2"], stride: int) -> Int[Array, "b 2"]:
    """Valid size of a map after a convolution or pooling with `stride`: ceil(size / stride).

    XLA copies these instructions into every loop that masks a map, so they are few: a division that
    rounds towards zero is one, one that rounds down is twelve. Sizes are not negative, but where a
    band lies below an image, and none of it is real by either.
    """
    if stride == 1:
        return valid_hw
    return jax.lax.div(valid_hw + (stride - 1), jnp.full_like(valid_hw, stride))


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
