"""One decoder layer: the queries look at each other, then at the image from their anchor points."""

from __future__ import annotations

from dataclasses import dataclass

import flax.linen as nn
import jax
from flax.typing import Dtype
from jaxtyping import Array, Float, Int

from anchor_detr_jax.layers.attention import MultiHeadAttention
from anchor_detr_jax.layers.feed_forward import FeedForward
from anchor_detr_jax.layers.normalization import layer_norm
from anchor_detr_jax.layers.rcda import RowColumnAttention

__all__ = ["DecoderLayer", "Memory", "QueryPositions"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Memory:
    """The encoded map, as keys see it along rows and along columns, and as it is."""

    in_row: Float[Array, "b h w e"]
    in_column: Float[Array, "b h w e"]
    values: Float[Array, "b h w e"]
    valid_hw: Int[Array, "b 2"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class QueryPositions:
    """Embeddings of the anchor points: of (x, y) together, of x and of y. Alike for all images."""

    xy: Float[Array, "1 q e"]
    x: Float[Array, "1 q e"]
    y: Float[Array, "1 q e"]


class DecoderLayer(nn.Module):
    """Self-attention, RCDA over the memory, feed-forward; post-norm."""

    heads: int
    feedforward_dim: int
    dtype: Dtype | None = None

    @nn.compact
    def __call__(
        self, queries: Float[Array, "m q e"], position: QueryPositions, memory: Memory
    ) -> Float[Array, "b q e"]:
        """`queries`: one set for each image, or one for all (m = 1)."""
        placed = queries + position.xy
        attended = MultiHeadAttention(self.heads, self.dtype, name="self_attn")(
            placed, placed, queries
        )
        queries = layer_norm("norm2", self.dtype)(queries + attended)
        attended = RowColumnAttention(self.heads, self.dtype, name="cross_attn")(
            queries + position.x,
            queries + position.y,
            memory.in_row,
            memory.in_column,
            memory.values,
            memory.valid_hw,
        )
        queries = layer_norm("norm1", self.dtype)(queries + attended)
        return FeedForward(self.feedforward_dim, self.dtype, name="ffn")(queries)
