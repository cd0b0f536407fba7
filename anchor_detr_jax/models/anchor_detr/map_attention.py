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
    """Embeddings of where a map's columns, rows and cells are; those that its attention uses.

    Attributes:
        x: of the columns' x, for RCDA.
        y: of the rows' y, for RCDA.
        xy: of the cells, for multi-head attention.
        valid_hw: how much of each map is real.
    """

    x: Float[Array, "b w e"] | None
    y: Float[Array, "b h e"] | None
    xy: Float[Array, "b h w e"] | None
    valid_hw: Int[Array, "b 2"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class QueryPlaces:
    """Embeddings of where queries are: of x, of y, and of both; b may be 1, for all images."""

    x: Float[Array, "b q e"] | None
    y: Float[Array, "b q e"] | None
    xy: Float[Array, "b q e"] | None


def map_attention(
    config: AnchorDETRConfig, *, dtype: Dtype | None, name: str
) -> RowColumnAttention | MultiHeadAttention:
    """The attention over a map that a configuration asks for."""
    kind = RowColumnAttention if config.attention == "rcda" else MultiHeadAttention
    return kind(config.num_heads, config.dropout, dtype, name=name)


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


def cells_as_queries(places: MapPlaces, size: tuple[int, int]) -> QueryPlaces:
    """Every cell of maps of `size` (rows, columns) as a query, row by row."""

    def of_every_cell(embedding, missing_axis):
        if embedding is None:
            return None
        if missing_axis is not None:
            embedding = jnp.expand_dims(embedding, missing_axis)
        b, e = embedding.shape[0], embedding.shape[-1]
        return jnp.broadcast_to(embedding, (b, *size, e)).reshape(b, -1, e)

    return QueryPlaces(
        x=of_every_cell(places.x, 1),
        y=of_every_cell(places.y, 2),
        xy=of_every_cell(places.xy, None),
    )
