"""How queries look at a map: along its rows and columns, or at all of its cells."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax.typing import Dtype
from jaxtyping import Array, Float, Int

from anchor_detr_jax.layers.attention import MultiHeadAttention
from anchor_detr_jax.layers.padding import valid_mask
from anchor_detr_jax.layers.rcda import RowColumnAttention
from anchor_detr_jax.models.anchor_detr.config import AnchorDETRConfig

__all__ = ["MapPlaces", "QueryPlaces", "cells_as_queries", "look_at_map", "map_attention"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MapPlaces:
    """Embeddings of where a map's columns, rows and cells are.

    RCDA uses x and y, multi-head attention xy; what is not used is not computed under `jax.jit`.
    """

    x: Float[Array, "b w e"]
    y: Float[Array, "b h e"]
    xy: Float[Array, "b h w e"]
    valid_hw: Int[Array, "b 2"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class QueryPlaces:
    """Embeddings of where queries are: of x, of y, and of both; b may be 1, for all images."""

    x: Float[Array, "b q e"]
    y: Float[Array, "b q e"]
    xy: Float[Array, "b q e"]


def map_attention(
    config: AnchorDETRConfig, *, dtype: Dtype | None, rcda_impl: str, name: str | None = None
) -> RowColumnAttention | MultiHeadAttention:
    """The attention over a map that a configuration asks for; `rcda_impl` as for `attend`."""
    if config.attention == "rcda":
        return RowColumnAttention(config.num_heads, config.dropout, dtype, rcda_impl, name=name)
    return MultiHeadAttention(config.num_heads, config.dropout, dtype, name=name)


def look_at_map(
    attention: RowColumnAttention | MultiHeadAttention,
    queries: Float[Array, "#b q e"],
    query_places: QueryPlaces,
    features: Float[Array, "b h w e"],
    map_places: MapPlaces,
    *,
    train: bool,
) -> Float[Array, "b q e"]:
    """What queries see of the real part of each map. Values carry no positions."""
    b, h, w, e = features.shape
    if isinstance(attention, RowColumnAttention):
        return attention(
            queries + query_places.x,
            queries + query_places.y,
            features + map_places.x[:, None, :, :],
            features + map_places.y[:, :, None, :],
            features,
            map_places.valid_hw,
            train=train,
        )
    return attention(
        queries + query_places.xy,
        (features + map_places.xy).reshape(b, h * w, e),
        features.reshape(b, h * w, e),
        valid_mask(map_places.valid_hw, (h, w)).reshape(b, h * w),
        train=train,
    )


def cells_as_queries(places: MapPlaces) -> QueryPlaces:
    """Every cell of the maps as a query, row by row."""
    b, h, w, e = places.xy.shape

    def of_every_cell(embedding):
        return jnp.broadcast_to(embedding, (b, h, w, e)).reshape(b, h * w, e)

    return QueryPlaces(
        x=of_every_cell(places.x[:, None, :, :]),
        y=of_every_cell(places.y[:, :, None, :]),
        xy=of_every_cell(places.xy),
    )
