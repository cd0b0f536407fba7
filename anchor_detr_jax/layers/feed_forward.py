"""The block that follows each attention."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from anchor_detr_jax.layers.linear import linear
from anchor_detr_jax.layers.normalization import layer_norm

__all__ = ["FeedForward"]


class FeedForward(nn.Module):
    """norm(x + Linear(ReLU(Linear(x)))), with dropout after the ReLU and at the end.

    Attributes:
        hidden: width between the layers.
        dropout: rate in training.
        dtype: what is computed in.
        pre_norm: x + Linear(ReLU(Linear(norm(x)))) instead.
        kernel_init: start of the weights; None: PyTorch's.
    """

    hidden: int
    dropout: float = 0.0
    dtype: Dtype | None = None
    pre_norm: bool = False
    kernel_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "... e"], *, train: bool = False) -> Float[Array, "... e"]:
        features = x.shape[-1]
        dropout = nn.Dropout(self.dropout, deterministic=not train)
        norm = layer_norm(self.dtype, name="norm")
        as_told = partial(linear, dtype=self.dtype, kernel_init=self.kernel_init)
        y = norm(x) if self.pre_norm else x
        y = as_told(self.hidden, fan_in=features, name="linear1")(y)
        y = dropout(nn.relu(y))
        y = dropout(as_told(features, fan_in=self.hidden, name="linear2")(y))
        return x + y if self.pre_norm else norm(x + y)
