"""Linear layers that start as the reference's do (PyTorch's defaults, and Xavier for attention)."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

__all__ = ["Mlp", "linear", "stacked_xavier", "uniform"]


def uniform(bound: float) -> Initializer:
    """An initializer: uniform in [-bound, bound]."""

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def stacked_xavier(blocks: int) -> Initializer:
    """Xavier uniform over a stack of `blocks` square matrices, for one of them.

    The reference keeps the input projections of an attention as one matrix and starts them as one.
    """
    return nn.initializers.variance_scaling(2 / (blocks + 1), "fan_avg", "uniform")


def linear(
    features: int, *, fan_in: int, name: str | None = None, dtype: Dtype | None = None
) -> nn.Dense:
    """A dense layer whose weight and bias start uniform in +-1/sqrt(fan_in), as PyTorch's do."""
    start = uniform(1 / math.sqrt(fan_in))
    return nn.Dense(features, dtype=dtype, kernel_init=start, bias_init=start, name=name)


class Mlp(nn.Module):
    """Linear layers with ReLU between them: `linear0`, `linear1`, ...

    With `zero_start`, the last one starts with a weight of zero and this bias.
    """

    features: tuple[int, ...]
    zero_start: tuple[float, ...] | None = None
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "... i"]) -> Float[Array, "... o"]:
        *hidden, last = self.features
        for i, features in enumerate(hidden):
            x = linear(features, fan_in=x.shape[-1], name=f"linear{i}", dtype=self.dtype)(x)
            x = nn.relu(x)
        name = f"linear{len(hidden)}"
        if self.zero_start is None:
            return linear(last, fan_in=x.shape[-1], name=name, dtype=self.dtype)(x)
        bias = jnp.asarray(self.zero_start, jnp.float32)
        return nn.Dense(
            last,
            dtype=self.dtype,
            kernel_init=nn.initializers.zeros,
            bias_init=lambda key, shape, dtype: bias.astype(dtype),
            name=name,
        )(x)
