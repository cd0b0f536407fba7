"""The encoder's layers: over the cells of a map, and over the levels of a cell."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype
from jaxtyping import Array, Float

from anchor_detr_jax.layers.attention import MultiHeadAttention
from anchor_detr_jax.layers.feed_forward import FeedForward
from anchor_detr_jax.layers.normalization import layer_norm
from anchor_detr_jax.models.anchor_detr.config import AnchorDETRConfig
from anchor_detr_jax.models.anchor_detr.map_attention import (
    MapPlaces,
    cells_as_queries,
    look_at_map,
    map_attention,
)

__all__ = ["EncoderLayer", "LevelLayer"]


class EncoderLayer(nn.Module):
    """Attention of a map over itself, then a feed-forward block; post-norm."""

    config: AnchorDETRConfig
    dtype: Dtype | None = None
    rcda_impl: str = "auto"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w e"], places: MapPlaces, train: bool
    ) -> Float[Array, "b h w e"]:
        c = self.config
        b, h, w, e = x.shape
        attention = map_attention(c, dtype=self.dtype, rcda_impl=self.rcda_impl, name="self_attn")
        cells = x.reshape(b, h * w, e)
        attended = look_at_map(attention, cells, cells_as_queries(places), x, places, train=train)
        attended = nn.Dropout(c.dropout, deterministic=not train)(attended)
        x = layer_norm(self.dtype, name="norm1")(x + attended.reshape(x.shape))
        return FeedForward(c.feedforward_dim, c.dropout, self.dtype, name="ffn")(x, train=train)


class LevelLayer(nn.Module):
    """Attention among the levels of one cell of one image, then a feed-forward block; post-norm."""

    config: AnchorDETRConfig
    dtype: Dtype | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "bl h w e"], level_embedding: Float[Array, "l e"], train: bool
    ) -> Float[Array, "bl h w e"]:
        """`x`: the levels of each image one after another."""
        c = self.config
        levels, e = level_embedding.shape
        _, h, w, _ = x.shape
        cells = jnp.moveaxis(x.reshape(-1, levels, h, w, e), 1, 3).reshape(-1, levels, e)
        placed = cells + level_embedding.astype(cells.dtype)
        attention = MultiHeadAttention(c.num_heads, c.dropout, self.dtype, name="self_attn")
        attended = attention(placed, placed, cells, train=train)
        attended = jnp.moveaxis(attended.reshape(-1, h, w, levels, e), 3, 1).reshape(x.shape)
        attended = nn.Dropout(c.dropout, deterministic=not train)(attended)
        x = layer_norm(self.dtype, name="norm1")(x + attended)
        return FeedForward(c.feedforward_dim, c.dropout, self.dtype, name="ffn")(x, train=train)
