"""One decoder layer of Conditional DETR."""

from __future__ import annotations

import flax.linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

from anchor_detr_jax.layers.normalization import layer_norm
from anchor_detr_jax.models.conditional_detr.attention import CrossAttention, SelfAttention
from anchor_detr_jax.models.detr.config import LayerShape
from anchor_detr_jax.models.detr.encoder import MapPlaces
from anchor_detr_jax.models.detr.residual import feed_forward, with_norm

__all__ = ["DecoderLayer"]


class DecoderLayer(nn.Module):
    """Self-attention, attention over the memory, feed-forward; post-norm.

    Attributes:
        shape: of the layer.
        first: its content says nothing yet, so that positions are added to it.
        dtype: what is computed in.
        in_parts: attention head by head.
    """

    shape: LayerShape
    first: bool
    dtype: Dtype | None = None
    in_parts: bool = False

    def setup(self) -> None:
        """Name every part; the names are the parameter tree."""
        self.self_attn = SelfAttention(self.shape, self.dtype, self.in_parts)
        self.norm1 = layer_norm(self.dtype)
        self.cross_attn = CrossAttention(self.shape, self.first, self.dtype, self.in_parts)
        self.norm2 = layer_norm(self.dtype)
        self.ffn = feed_forward(self.shape, self.dtype)
        self.dropout = nn.Dropout(self.shape.dropout)

    def __call__(
        self,
        queries: Float[Array, "m q e"],
        places: Float[Array, "1 q e"],
        spatial: Float[Array, "m q e"],
        memory: Float[Array, "b k e"],
        map_places: MapPlaces,
        train: bool,
    ) -> Float[Array, "b q e"]:
        """`spatial`: sines of the queries' reference points, scaled by what they know so far."""
        queries = self.among_queries(queries, places, train)
        return self.over_memory(queries, places, spatial, memory, map_places, train)

    def among_queries(
        self, queries: Float[Array, "m q e"], places: Float[Array, "1 q e"], train: bool
    ) -> Float[Array, "m q e"]:
        """The first half: the queries look at each other."""

        def look(x: Array) -> Array:
            return self.dropout(self.self_attn(x, places, train), deterministic=not train)

        return with_norm(look, queries, self.norm1)

    def over_memory(
        self,
        queries: Float[Array, "m q e"],
        places: Float[Array, "1 q e"],
        spatial: Float[Array, "m q e"],
        memory: Float[Array, "b k e"],
        map_places: MapPlaces,
        train: bool,
    ) -> Float[Array, "b q e"]:
        """The second half: they look at the image."""

        def look(x: Array) -> Array:
            attended = self.cross_attn(
                x, places, spatial, memory, map_places.positions, map_places.real, train
            )
            return self.dropout(attended, deterministic=not train)

        return self.ffn(with_norm(look, queries, self.norm2), train=train)
