"""The block that follows each attention."""

from __future__ import annotations

import flax.linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

from anchor_detr_jax.layers.linear import Mlp
from anchor_detr_jax.layers.normalization import layer_norm

__all__ = ["FeedForward"]


class FeedForward(nn.Module):
    """norm(x + Linear(ReLU(Linear(x))))."""

    hidden: int
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "... e"]) -> Float[Array, "... e"]:
        change = Mlp((self.hidden, x.shape[-1]), dtype=self.dtype, name="mlp")(x)
        return layer_norm("norm", self.dtype)(x + change)
