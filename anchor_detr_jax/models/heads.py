"""What turns a query's features into classes and a box."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from anchor_detr_jax.layers.linear import Mlp, uniform

__all__ = ["BoxHead", "focal_class_head", "inverse_sigmoid"]


def inverse_sigmoid(x: Float[Array, ...], epsilon: float = 1e-5) -> Float[Array, ...]:
    """log(x / (1 - x)), with x and 1 - x kept above `epsilon`."""
    x = jnp.clip(x, 0.0, 1.0)
    return jnp.log(jnp.maximum(x, epsilon) / jnp.maximum(1 - x, epsilon))


def focal_class_head(num_classes: int, *, fan_in: int, prior: float = 0.01) -> nn.Dense:
    """One sigmoid a class, each starting at a probability of `prior`."""
    return nn.Dense(
        num_classes,
        kernel_init=uniform(1 / math.sqrt(fan_in)),
        bias_init=nn.initializers.constant(-math.log((1 - prior) / prior)),
    )


class BoxHead(nn.Module):
    """A box for each query: the centre as an offset from where it is, the size freely.

    Attributes:
        hidden_dim: width between the layers.
        zero_start: what the last layer gives at first, everywhere; None: it starts as PyTorch's.
    """

    hidden_dim: int
    zero_start: tuple[float, float, float, float] | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "... q e"], centres: Float[Array, "q 2"] | None = None
    ) -> Float[Array, "... q 4"]:
        """`centres`: logits of (x, y) that offsets are added to; None: the centre is free, too."""
        mlp = Mlp((self.hidden_dim, self.hidden_dim, 4), zero_start=self.zero_start, name="mlp")
        logits = mlp(x).astype(jnp.float32)
        if centres is not None:
            logits = logits + jnp.pad(centres, ((0, 0), (0, 2)))
        return jax.nn.sigmoid(logits)
