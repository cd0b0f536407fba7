"""What turns a query's features into classes and a box."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype
from jaxtyping import Array, Float

from anchor_detr_jax.layers.linear import Mlp, uniform

__all__ = ["BoxHead", "focal_class_head", "inverse_sigmoid"]


def inverse_sigmoid(x: Float[Array, ...], epsilon: float = 1e-5) -> Float[Array, ...]:
    """log(x / (1 - x)), with x and 1 - x kept above `epsilon`."""
    x = jnp.clip(x, 0.0, 1.0)
    return jnp.log(jnp.maximum(x, epsilon) / jnp.maximum(1 - x, epsilon))


def focal_class_head(
    num_classes: int, *, fan_in: int, dtype: Dtype | None = None, prior: float = 0.01
) -> nn.Dense:
    """One sigmoid a class, each starting at a probability of `prior`."""
    return nn.Dense(
        num_classes,
        dtype=dtype,
        kernel_init=uniform(1 / math.sqrt(fan_in)),
        bias_init=nn.initializers.constant(-math.log((1 - prior) / prior)),
    )


class BoxHead(nn.Module):
    """A box around each query's anchor point: the centre as an offset from it, the size freely."""

    hidden_dim: int
    dtype: Dtype | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "... q e"], anchor_points: Float[Array, "q 2"]
    ) -> Float[Array, "... q 4"]:
        mlp = Mlp(
            (self.hidden_dim, self.hidden_dim, 4),
            zero_start=(0.0, 0.0, -2.0, -2.0),
            dtype=self.dtype,
            name="mlp",
        )
        reference = jnp.pad(inverse_sigmoid(anchor_points), ((0, 0), (0, 2)))
        return jax.nn.sigmoid(mlp(x).astype(jnp.float32) + reference)
