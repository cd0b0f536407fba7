"""Linear layers that start as the reference's do (PyTorch's defaults, and Xavier for attention)."""

from __future__ import annotations

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

__all__ = ["XAVIER", "Mlp", "linear", "stacked_xavier", "uniform"]


XAVIER = nn.initializers.xavier_uniform()
"""One for all, as modules that differ in nothing are to compare equal."""


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
    features: int,
    *,
    fan_in: int,
    name: str | None = None,
    dtype: Dtype | None = None,
    kernel_init: Initializer | None = None,
) -> nn.Dense:
    """A dense layer whose weight and bias start uniform in +-1/sqrt(fan_in), as PyTorch's do.

    With `kernel_init`, the weight starts as that says.
    """
    start = uniform(1 / math.sqrt(fan_in))
    return nn.Dense(
        features, dtype=dtype, kernel_init=kernel_init or start, bias_init=start, name=name
    )


class Mlp(nn.Module):
    """Linear layers with ReLU between them: `linear0`, `linear1`, ...

    With `zero_start`, the last one starts with a weight of zero and this bias. `kernel_init` is how
    the others' weights start; None: as PyTorch's do.
    """

    features: tuple[int, ...]
    zero_start: tuple[float, ...] | None = None
    dtype: Dtype | None = None
    kernel_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "... i"]) -> Float[Array, "... o"]:
        *hidden, last = self.features
        as_torch = partial(linear, dtype=self.dtype, kernel_init=self.kernel_init)
        for i, features in enumerate(hidden):
            x = nn.relu(as_torch(features, fan_in=x.shape[-1], name=f"linear{i}")(x))
        name = f"linear{len(hidden)}"
        if self.zero_start is None:
            return as_torch(last, fan_in=x.shape[-1], name=name)(x)
        bias = jnp.asarray(self.zero_start, jnp.float32)
        return nn.Dense(
            last,
            dtype=self.dtype,
            kernel_init=nn.initializers.zeros,
            bias_init=lambda key, shape, dtype: bias.astype(dtype),
            name=name,
        )(x)
