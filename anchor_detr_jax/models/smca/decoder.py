"""One decoder layer of SMCA: as DETR's, with a Gaussian for each query and head."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype
from jaxtyping import Array, Float

from anchor_detr_jax.layers.linear import XAVIER, Mlp, linear
from anchor_detr_jax.layers.normalization import layer_norm
from anchor_detr_jax.models.detr.encoder import MapPlaces
from anchor_detr_jax.models.detr.residual import attention, feed_forward, with_norm
from anchor_detr_jax.models.smca.config import SMCAConfig
from anchor_detr_jax.models.smca.gaussian import Gaussians, gaussian_bias

__all__ = ["DecoderLayer"]


class DecoderLayer(nn.Module):
    """Self-attention, modulated attention over the memory, feed-forward; post-norm.

    Attributes:
        config: the model's shape.
        first: it has the anchors, which all layers use.
        dtype: what is computed in; Gaussians are float32.
        in_parts: attention head by head.
    """

    config: SMCAConfig
    first: bool
    dtype: Dtype | None = None
    in_parts: bool = False

    def setup(self) -> None:
        """Name every part; the names are the parameter tree."""
        c, shape = self.config, self.config.layer
        self.self_attn = attention(shape, self.dtype, self.in_parts)
        self.norm1 = layer_norm(self.dtype)
        self.cross_attn = attention(shape, self.dtype, self.in_parts)
        self.norm2 = layer_norm(self.dtype)
        self.ffn = feed_forward(shape, self.dtype)
        self.dropout = nn.Dropout(c.dropout)
        self.gaussian_norm = layer_norm(None)
        if self.first:
            self.anchor = Mlp((c.hidden_dim, c.hidden_dim, 2), kernel_init=XAVIER)
        self.offset = linear(2 * c.num_heads, fan_in=c.hidden_dim, kernel_init=XAVIER)
        if c.scales:
            self.scale = nn.Dense(
                c.scales * c.num_heads,
                kernel_init=nn.initializers.zeros,
                bias_init=nn.initializers.ones,
            )

    def __call__(
        self,
        queries: Float[Array, "m q e"],
        query_places: Float[Array, "1 q e"],
        anchors: Float[Array, "b q 2"],
        memory: Float[Array, "b h w e"],
        places: MapPlaces,
        train: bool,
    ) -> Float[Array, "b q e"]:
        """`anchors`: (x, y) in cells of the map."""
        gaussians = self.gaussians(queries, query_places, anchors)
        queries = self.among_queries(queries, query_places, train)
        return self.over_memory(queries, query_places, gaussians, memory, places, train)

    def anchors(
        self, queries: Float[Array, "m q e"], query_places: Float[Array, "1 q e"]
    ) -> Float[Array, "m q 2"]:
        """Logits of (x, y), of the image in the first layer."""
        return self.anchor(self.gaussian_norm(queries + query_places))

    def gaussians(
        self,
        queries: Float[Array, "m q e"],
        query_places: Float[Array, "1 q e"],
        anchors: Float[Array, "b q 2"],
    ) -> Gaussians:
        """Of each head, by what the queries know before they look at each other."""
        c = self.config
        known = self.gaussian_norm(queries + query_places)
        m, q, _ = known.shape
        offsets = self.offset(known).reshape(m, q, c.num_heads, 2)
        scales = jnp.ones((m, q, c.num_heads, 1))
        if c.scales:
            scales = self.scale(known).reshape(m, q, c.num_heads, c.scales) ** 2
        if scales.shape[-1] == 1:
            scales = jnp.repeat(scales, 2, axis=-1)
        scales = jnp.pad(scales, [(0, 0)] * 3 + [(0, 3 - scales.shape[-1])])
        modulated = jnp.ones((q, c.num_heads, 1))
        if c.head_mixture:
            modulated = modulated * (jnp.arange(c.num_heads) < c.num_heads // 2)[:, None]
        if c.query_mixture:
            modulated = modulated * with_anchor(q)[:, None, None]
        return Gaussians(anchors[:, :, None] + offsets, scales * modulated / c.smooth)

    def among_queries(
        self, queries: Float[Array, "m q e"], query_places: Float[Array, "1 q e"], train: bool
    ) -> Float[Array, "m q e"]:
        """The first half: the queries look at each other."""

        def look(x: Array) -> Array:
            placed = x + query_places.astype(x.dtype)
            attended = self.self_attn(placed, placed, x, train=train)
            return self.dropout(attended, deterministic=not train)

        return with_norm(look, queries, self.norm1)

    def over_memory(
        self,
        queries: Float[Array, "m q e"],
        query_places: Float[Array, "1 q e"],
        gaussians: Gaussians,
        memory: Float[Array, "b h w e"],
        places: MapPlaces,
        train: bool,
    ) -> Float[Array, "b q e"]:
        """The second half: they look at the image."""
        self.sow("intermediates", "gaussians", gaussians)  # for pictures, where they are asked for
        b, h, w, e = memory.shape
        memory = memory.reshape(b, h * w, e)
        keys, bias = (
            memory + places.positions.astype(memory.dtype),
            gaussian_bias(gaussians, (h, w)),
        )

        def look(x: Array) -> Array:
            placed = x + query_places.astype(x.dtype)
            attended = self.cross_attn(placed, keys, memory, places.real, bias=bias, train=train)
            return self.dropout(attended, deterministic=not train)

        return self.ffn(with_norm(look, queries, self.norm2), train=train)


def with_anchor(queries: int) -> Float[Array, " q"]:
    """1 for queries that have an anchor where some have none: the second half; else 0."""
    return (jnp.arange(queries) >= queries // 2).astype(jnp.float32)
