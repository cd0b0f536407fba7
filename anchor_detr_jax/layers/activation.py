"""The end of a residual block."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["relu_of_sum"]


@jax.custom_jvp
def relu_of_sum(x: Float[Array, "*s"], y: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """relu(x + y), to the bit.

    XLA computes a unary end anew for each of its two readers, back through all blocks of a stage,
    and holds all that it needs for that.
    """
    return x + jnp.maximum(y, -x)


@relu_of_sum.defjvp
def _(primals, tangents):
    """Passed on where the sum is above zero: a single mask is all that the backward pass keeps."""
    total = relu_of_sum(*primals)
    return total, jnp.where(total > 0, tangents[0] + tangents[1], 0)
