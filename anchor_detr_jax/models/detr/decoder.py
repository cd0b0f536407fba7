"""One decoder layer of DETR: the queries look at each other, then at the image."""

from __future__ import annotations

import flax.linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

from anchor_detr_jax.layers.normalization import layer_norm
from anchor_detr_jax.models.detr.config import LayerShape
from anchor_detr_jax.models.detr.encoder import MapPlaces
from anchor_detr_jax.models.detr.residual import attention, feed_forward, with_norm

__all__ = ["DecoderLayer"]


class DecoderLayer(nn.Module):
    """Self-attention, attention over the memory, feed-forward."""

    shape: LayerShape
    dtype: Dtype | None = None
    in_parts: bool = False

    def setup(self) -> None:
        """Name every part; the names are the parameter tree."""
        self.self_attn = attention(self.shape, self.dtype, self.in_parts)
        self.norm1 = layer_norm(self.dtype)
        self.cross_attn = attention(self.shape, self.dtype, self.in_parts)
        self.norm2 = layer_norm(self.dtype)
        self.ffn = feed_forward(self.shape, self.dtype)
        self.dropout = nn.Dropout(self.shape.dropout)

    def __call__(
        self,
        queries: Float[Array, "m q e"],
        query_places: Float[Array, "1 q e"],
        memory: Float[Array, "b k e"],
        places: MapPlaces,
        train: bool,
    ) -> Float[Array, "b q e"]:
        """`queries`: one set for each image, or one for all (m = 1)."""
        queries = self.among_queries(queries, query_places, train)
        return self.over_memory(queries, query_places, memory, places, train)

    def among_queries(
        self, queries: Float[Array, "m q e"], query_places: Float[Array, "1 q e"], train: bool
    ) -> Float[Array, "m q e"]:
        """The first half: the queries look at each other."""

        def look(x: Array) -> Array:
            placed = x + query_places.astype(x.dtype)
            attended = self.self_attn(placed, placed, x, train=train)
            return self.dropout(attended, deterministic=not train)

        return with_norm(look, queries, self.norm1, pre_norm=self.shape.pre_norm)

    def over_memory(
        self,
        queries: Float[Array, "m q e"],
        query_places: Float[Array, "1 q e"],
        memory: Float[Array, "b k e"],
        places: MapPlaces,
        train: bool,
    ) -> Float[Array, "b q e"]:
        """The second half: they look at the image."""
        keys = memory + places.positions.astype(memory.dtype)

        def look(x: Array) -> Array:
            placed = x + query_places.astype(x.dtype)
            attended = self.cross_attn(placed, keys, memory, places.real, train=train)
            return self.dropout(attended, deterministic=not train)

        queries = with_norm(look, queries, self.norm2, pre_norm=self.shape.pre_norm)
        return self.ffn(queries, train=train)
