"""One decoder layer: the queries look at each other, then at the image from their anchor points."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype
from jaxtyping import Array, Float

from anchor_detr_jax.layers.attention import MultiHeadAttention
from anchor_detr_jax.layers.feed_forward import FeedForward
from anchor_detr_jax.layers.linear import linear
from anchor_detr_jax.layers.normalization import layer_norm
from anchor_detr_jax.models.anchor_detr.config import AnchorDETRConfig
from anchor_detr_jax.models.anchor_detr.map_attention import (
    MapPlaces,
    QueryPlaces,
    look_at_map,
    map_attention,
)

__all__ = ["DecoderLayer"]


class DecoderLayer(nn.Module):
    """Self-attention, attention over the memory, feed-forward; post-norm."""

    config: AnchorDETRConfig
    dtype: Dtype | None = None
    rcda_impl: str = "auto"
    in_parts: bool = False

    def setup(self) -> None:
        """Name every part; the names are the parameter tree."""
        c, dtype = self.config, self.dtype
        self.self_attn = MultiHeadAttention(c.num_heads, c.dropout, dtype, self.in_parts)
        self.norm2 = layer_norm(dtype)
        self.cross_attn = map_attention(c, dtype=dtype, rcda_impl=self.rcda_impl)
        self.norm1 = layer_norm(dtype)
        self.ffn = FeedForward(c.feedforward_dim, c.dropout, dtype)
        self.dropout = nn.Dropout(c.dropout)
        if c.num_levels > 1:
            self.join_levels = linear(c.hidden_dim, fan_in=c.hidden_dim * c.num_levels, dtype=dtype)

    def __call__(
        self,
        queries: Float[Array, "m q e"],
        query_places: QueryPlaces,
        memory: Float[Array, "bl h w e"],
        memory_places: MapPlaces,
        train: bool,
    ) -> Float[Array, "b q e"]:
        """`queries`: one set for each image, or one for all (m = 1)."""
        queries = self.among_queries(queries, query_places, train)
        return self.over_memory(queries, query_places, memory, memory_places, train)

    def among_queries(
        self, queries: Float[Array, "m q e"], query_places: QueryPlaces, train: bool
    ) -> Float[Array, "m q e"]:
        """The first half: the queries look at each other."""
        placed = queries + query_places.xy
        attended = self.self_attn(placed, placed, queries, train=train)
        return self.norm2(queries + self.dropout(attended, deterministic=not train))

    def over_memory(
        self,
        queries: Float[Array, "m q e"],
        query_places: QueryPlaces,
        memory: Float[Array, "bl h w e"],
        memory_places: MapPlaces,
        train: bool,
    ) -> Float[Array, "b q e"]:
        """The second half: they look at the image."""
        levels = self.config.num_levels
        per_map = queries if queries.shape[0] == 1 else jnp.repeat(queries, levels, axis=0)
        attended = look_at_map(
            self.cross_attn, per_map, query_places, memory, memory_places, train=train
        )
        if levels > 1:
            attended = self._joined_levels(attended)
        queries = self.norm1(queries + self.dropout(attended, deterministic=not train))
        return self.ffn(queries, train=train)

    def _joined_levels(self, attended: Float[Array, "bl q e"]) -> Float[Array, "b q e"]:
        """What a query saw of each level, feature by feature, to one."""
        levels = self.config.num_levels
        _, q, e = attended.shape
        side_by_side = jnp.moveaxis(attended.reshape(-1, levels, q, e), 1, 3).reshape(
            -1, q, e * levels
        )
        return self.join_levels(side_by_side)
