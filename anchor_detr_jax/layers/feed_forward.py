"""The block that follows each attention."""

from __future__ import annotations

import flax.linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

from anchor_detr_jax.layers.linear import linear
from anchor_detr_jax.layers.normalization import layer_norm

__all__ = ["FeedForward"]


class FeedForward(nn.Module):
    """norm(x + Linear(ReLU(Linear(x)))), with dropout after the ReLU and at the end."""

    hidden: int
    dropout: float = 0.0
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "... e"], *, train: bool = False) -> Float[Array, "... e"]:
        features = x.shape[-1]
        dropout = nn.Dropout(self.dropout, deterministic=not train)
        y = linear(self.hidden, fan_in=features, name="linear1", dtype=self.dtype)(x)
        y = dropout(nn.relu(y))
        y = linear(features, fan_in=self.hidden, name="linear2", dtype=self.dtype)(y)
        return layer_norm(self.dtype, name="norm")(x + dropout(y))
