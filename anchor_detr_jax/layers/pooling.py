"""The pooling of a ResNet's stem."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from anchor_detr_jax.layers.padding import FeatureMap, downsampled, zero_padding

__all__ = ["max_pool"]


def max_pool(x: FeatureMap) -> FeatureMap:
    """The greatest of 3x3, at every second row and column.

    After a ReLU, zero is as neutral to a maximum as the -inf of PyTorch's padding.
    """
    features, (h, w) = zero_padding(x.features, x.valid_hw), x.features.shape[1:3]
    if isinstance(h, int) and isinstance(w, int):
        features = _max_of_three(_max_of_three(features, axis=1), axis=2)
    else:  # symbolic sizes are not known to be even
        features = jnp.pad(features, ((0, 0), (1, 1), (1, 1), (0, 0)))
        features = nn.max_pool(features, (3, 3), (2, 2))
    return FeatureMap(features, downsampled(x, 2))


def _max_of_three(x: Float[Array, "b h w c"], *, axis: int) -> Float[Array, "b i j c"]:
    """The greatest of each second row, or column, and of its two neighbours; zeros around.

    They are taken in pairs: XLA's own pooling is several times slower on the CPU.
    """
    length = x.shape[axis]
    x = jnp.pad(x, [(0, length % 2 if i == axis else 0) for i in range(4)])
    pairs = x.reshape(*x.shape[:axis], -1, 2, *x.shape[axis + 1 :])
    first, second = jnp.unstack(pairs, axis=axis + 1)
    before = jax.lax.slice_in_dim(second, 0, second.shape[axis] - 1, axis=axis)
    before = jnp.pad(before, [(1 if i == axis else 0, 0) for i in range(4)])
    return jnp.maximum(jnp.maximum(first, second), before)
