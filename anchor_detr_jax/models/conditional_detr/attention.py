"""Attentions in which content and position stay apart until they are compared."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype
from jaxtyping import Array, Bool, Float

from anchor_detr_jax.layers.attention import attend_to_all, out_projection
from anchor_detr_jax.layers.linear import XAVIER, linear
from anchor_detr_jax.models.detr.config import LayerShape

__all__ = ["CrossAttention", "SelfAttention"]


class SelfAttention(nn.Module):
    """Queries over queries; content and position are projected apart, and added."""

    shape: LayerShape
    dtype: Dtype | None = None
    in_parts: bool = False

    @nn.compact
    def __call__(
        self, content: Float[Array, "m q e"], places: Float[Array, "1 q e"], train: bool
    ) -> Float[Array, "m q e"]:
        project = _Projections(self.shape, self.dtype)
        places = places.astype(content.dtype)
        query = project(content, "query_content") + project(places, "query_position")
        key = project(content, "key_content") + project(places, "key_position")
        mixed = attend_to_all(
            query,
            key,
            project(content, "value"),
            dropout=project.dropout(train),
            in_parts=self.in_parts,
        )
        return out_projection(mixed.shape[-1], dtype=self.dtype, start=XAVIER)(mixed)


class CrossAttention(nn.Module):
    """Queries over cells: each head compares content with content, and position with position.

    Attributes:
        shape: of the layer.
        placed: the layer is the first, whose content says nothing yet: positions are added to it.
        dtype: what is computed in.
        in_parts: attention head by head.
    """

    shape: LayerShape
    placed: bool
    dtype: Dtype | None = None
    in_parts: bool = False

    @nn.compact
    def __call__(
        self,
        content: Float[Array, "m q e"],
        places: Float[Array, "1 q e"],
        spatial: Float[Array, "m q e"],
        memory: Float[Array, "b k e"],
        positions: Float[Array, "b k e"],
        real: Bool[Array, "b k"],
        train: bool,
    ) -> Float[Array, "b q e"]:
        """`places`: the queries' embeddings; `spatial`: sines of their reference points, scaled."""
        project = _Projections(self.shape, self.dtype)
        query, key = project(content, "query_content"), project(memory, "key_content")
        key_position = project(positions.astype(memory.dtype), "key_position")
        if self.placed:
            query = query + project(places.astype(content.dtype), "query_position")
            key = key + key_position
        query_position = project(spatial.astype(content.dtype), "query_sine")
        query = jnp.concatenate([query, query_position], axis=-1)
        key = jnp.concatenate([key, key_position], axis=-1)
        # For pictures of where queries look; nothing where nobody asks for it.
        self.sow("intermediates", "query", query)
        self.sow("intermediates", "key", key)
        mixed = attend_to_all(
            query,
            key,
            project(memory, "value"),
            real,
            dropout=project.dropout(train),
            in_parts=self.in_parts,
        )
        return out_projection(mixed.shape[-1], dtype=self.dtype, start=XAVIER)(mixed)


class _Projections:
    """Linear layers whose results are cut into heads, for use in a module's compact call."""

    def __init__(self, shape: LayerShape, dtype: Dtype | None) -> None:
        self._shape, self._dtype = shape, dtype

    def __call__(self, x: Float[Array, "b n e"], name: str) -> Float[Array, "b n h d"]:
        features, heads = self._shape.hidden_dim, self._shape.num_heads
        layer = linear(
            features, fan_in=x.shape[-1], name=name, dtype=self._dtype, kernel_init=XAVIER
        )
        return layer(x).reshape(*x.shape[:-1], heads, features // heads)

    def dropout(self, train: bool) -> nn.Dropout | None:
        """Of attention weights."""
        return nn.Dropout(self._shape.dropout, deterministic=False) if train else None
