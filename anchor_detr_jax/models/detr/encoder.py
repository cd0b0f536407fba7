"""From the backbone's map to DETR's memory: what each cell shows, having looked at all others."""

from __future__ import annotations

import math
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype
from jaxtyping import Array, Bool, Float, Int

from anchor_detr_jax.layers.linear import uniform
from anchor_detr_jax.layers.normalization import layer_norm
from anchor_detr_jax.layers.padding import FeatureMap, valid_mask
from anchor_detr_jax.layers.position import cell_ends, sine_embedding_2d
from anchor_detr_jax.layers.recomputation import recomputed
from anchor_detr_jax.models.detr.config import LayerShape
from anchor_detr_jax.models.detr.residual import attention, feed_forward, with_norm

__all__ = ["Encoder", "MapPlaces"]

_LEARNED = 50
"""Rows, and columns, that learned positions are for."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MapPlaces:
    """Where a map's cells are.

    Attributes:
        positions: embeddings of where they are, row by row.
        real: True on cells of the image.
        image_hw: rows and columns of pixels that are real.
    """

    positions: Float[Array, "b k e"]
    real: Bool[Array, "b k"]
    image_hw: Int[Array, "b 2"]


class Encoder(nn.Module):
    """Projection to the model's width, positions, and layers of self-attention.

    Attributes:
        shape: of the layers.
        layers: how many.
        positions: `sine` or `learned`.
        dtype: what is computed in; None: float32. Positions are float32.
        remat: what the backward pass computes again, one of `RECOMPUTATION`.
        in_parts: attention head by head.
    """

    shape: LayerShape
    layers: int
    positions: str = "sine"
    dtype: Dtype | None = None
    remat: str = "none"
    in_parts: bool = False

    @nn.compact
    def __call__(
        self, stage: FeatureMap, image_hw: Int[Array, "b 2"], train: bool
    ) -> tuple[Float[Array, "b h w e"], MapPlaces]:
        b, h, w, d = stage.features.shape
        start = uniform(1 / math.sqrt(d))
        project = nn.Conv(
            self.shape.hidden_dim,
            kernel_size=(1, 1),
            dtype=self.dtype,
            kernel_init=start,
            bias_init=start,
            name="input_proj",
        )
        x = project(stage.features).reshape(b, h * w, -1)
        where = self._learned(h, w) if self.positions == "learned" else self._sines(stage)
        places = MapPlaces(
            positions=jnp.broadcast_to(where, (b, h, w, where.shape[-1])).reshape(b, h * w, -1),
            real=valid_mask(stage.valid_hw, (h, w)).reshape(b, h * w),
            image_hw=image_hw,
        )
        for i in range(self.layers):
            layer = EncoderLayer(self.shape, self.dtype, self.in_parts, name=f"layer_{i}")
            x = recomputed(layer, x, places, what=self.remat, static=(train,))
        if self.shape.pre_norm:
            x = layer_norm(self.dtype, name="norm")(x)
        return x.reshape(b, h, w, -1), places

    def _sines(self, stage: FeatureMap) -> Float[Array, "b h w e"]:
        _, h, w, _ = stage.features.shape
        x = cell_ends(stage.valid_hw[:, 1], w)
        y = cell_ends(stage.valid_hw[:, 0], h)
        cells = jnp.stack(jnp.broadcast_arrays(x[:, None, :], y[:, :, None]), axis=-1)
        return sine_embedding_2d(cells, self.shape.hidden_dim)

    def _learned(self, h: int, w: int) -> Float[Array, "h w e"]:
        """Half of the features are the column's, then half are the row's."""
        if max(h, w) > _LEARNED:
            raise ValueError(
                f"the map has {h} rows and {w} columns, and learned positions are for at most "
                f"{_LEARNED} of each; use smaller pictures, or positions='sine'"
            )
        half, start = (_LEARNED, self.shape.hidden_dim // 2), nn.initializers.uniform(1.0)
        columns = self.param("column_positions", start, half)[None, :w]
        rows = self.param("row_positions", start, half)[:h, None]
        wide = (h, w, half[1])
        return jnp.concatenate(
            [jnp.broadcast_to(columns, wide), jnp.broadcast_to(rows, wide)], axis=-1
        )


class EncoderLayer(nn.Module):
    """Attention of a map's cells over one another, then a feed-forward block."""

    shape: LayerShape
    dtype: Dtype | None = None
    in_parts: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "b k e"], places: MapPlaces, train: bool
    ) -> Float[Array, "b k e"]:
        attend = attention(self.shape, self.dtype, self.in_parts, name="self_attn")

        def look(x: Float[Array, "b k e"]) -> Float[Array, "b k e"]:
            placed = x + places.positions.astype(x.dtype)
            attended = attend(placed, placed, x, places.real, train=train)
            return nn.Dropout(self.shape.dropout, deterministic=not train)(attended)

        x = with_norm(look, x, layer_norm(self.dtype, name="norm1"), pre_norm=self.shape.pre_norm)
        return feed_forward(self.shape, self.dtype, name="ffn")(x, train=train)
