"""One encoder layer: every position of the map looks along its row and its column."""

from __future__ import annotations

import flax.linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float, Int

from anchor_detr_jax.layers.feed_forward import FeedForward
from anchor_detr_jax.layers.normalization import layer_norm
from anchor_detr_jax.layers.rcda import RowColumnAttention

__all__ = ["EncoderLayer"]


class EncoderLayer(nn.Module):
    """RCDA of a map over itself, then a feed-forward block; post-norm."""

    heads: int
    feedforward_dim: int
    dtype: Dtype | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w e"],
        x_position: Float[Array, "b w e"],
        y_position: Float[Array, "b h e"],
        valid_hw: Int[Array, "b 2"],
    ) -> Float[Array, "b h w e"]:
        """`x_position` and `y_position`: embeddings of the columns' and of the rows' places."""
        b, h, w, e = x.shape
        in_row = x + x_position[:, None, :, :]
        in_column = x + y_position[:, :, None, :]
        attended = RowColumnAttention(self.heads, self.dtype, name="self_attn")(
            in_row.reshape(b, h * w, e),
            in_column.reshape(b, h * w, e),
            in_row,
            in_column,
            x,
            valid_hw,
        )
        x = layer_norm("norm1", self.dtype)(x + attended.reshape(x.shape))
        return FeedForward(self.feedforward_dim, self.dtype, name="ffn")(x)
