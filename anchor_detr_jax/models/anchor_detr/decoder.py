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

    @nn.compact
    def __call__(
        self,
        queries: Float[Array, "m q e"],
        query_places: QueryPlaces,
        memory: Float[Array, "bl h w e"],
        memory_places: MapPlaces,
        train: bool,
    ) -> Float[Array, "b q e"]:
        """`queries`: one set for each image, or one for all (m = 1)."""
        c = self.config
        dropout = nn.Dropout(c.dropout, deterministic=not train)
        placed = queries + query_places.xy
        attention = MultiHeadAttention(c.num_heads, c.dropout, self.dtype, name="self_attn")
        attended = attention(placed, placed, queries, train=train)
        queries = layer_norm("norm2", self.dtype)(queries + dropout(attended))

        attention = map_attention(c, dtype=self.dtype, name="cross_attn")
        per_map = queries if len(queries) == 1 else jnp.repeat(queries, c.num_levels, axis=0)
        attended = look_at_map(attention, per_map, query_places, memory, memory_places, train=train)
        if c.num_levels > 1:
            attended = self._joined_levels(attended)
        queries = layer_norm("norm1", self.dtype)(queries + dropout(attended))
        return FeedForward(c.feedforward_dim, c.dropout, self.dtype, name="ffn")(
            queries, train=train
        )

    def _joined_levels(self, attended: Float[Array, "bl q e"]) -> Float[Array, "b q e"]:
        """What a query saw of each level, feature by feature, to one."""
        levels = self.config.num_levels
        _, q, e = attended.shape
        side_by_side = jnp.moveaxis(attended.reshape(-1, levels, q, e), 1, 3).reshape(
            -1, q, e * levels
        )
        join = linear(e, fan_in=e * levels, name="join_levels", dtype=self.dtype)
        return join(side_by_side)
