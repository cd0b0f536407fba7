"""Where a query looked: the weights of the decoder's attention over the image.

Axes: L decoder layers, S feature levels, N heads, Q queries, H rows and W columns of a map, D
features of one head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from anchor_detr_jax.layers.attention import attention_weights
from anchor_detr_jax.layers.padding import valid_mask
from anchor_detr_jax.models.anchor_detr import AnchorDETRConfig
from anchor_detr_jax.structures import pytree

__all__ = ["AttentionMaps", "PlainLooks", "RcdaLooks", "noted", "noted_looks"]


@dataclass(frozen=True)
class AttentionMaps:
    """Where one query looked, in each decoder layer, with each head; host arrays.

    A map's cells beyond `valid_hw` are padding, and all weights there are exactly 0.

    Attributes:
        row: attention along a row, which says where from left to right; adds to 1 over W. Of
            plain attention, which has none: the sum of `product` over the rows.
        column: attention along a column, which says where from top to bottom; adds to 1 over H.
            Of plain attention: the sum of `product` over the columns.
        product: what each cell of the map counted; adds to 1 over the map. Under RCDA it is column
            weight times row weight.
        valid_hw: rows and columns of the map that show the picture; they span all of it.
    """

    row: Float[np.ndarray, "l n w"]
    column: Float[np.ndarray, "l n h"]
    product: Float[np.ndarray, "l n h w"]
    valid_hw: tuple[int, int]

    @property
    def without_padding(self) -> AttentionMaps:
        """The same, with nothing but the cells that show the picture."""
        h, w = self.valid_hw
        return AttentionMaps(
            row=self.row[..., :w],
            column=self.column[..., :h],
            product=self.product[..., :h, :w],
            valid_hw=self.valid_hw,
        )

    def of(self, layer: int, head: int | None) -> AttentionMaps:
        """One layer and one head, or the mean over the heads; L and N are 1.

        The sums of the mean product over rows and columns are the mean row and column attention.
        """
        one = [x[layer][None] for x in (self.row, self.column, self.product)]
        one = [x.mean(1, keepdims=True) if head is None else x[:, head][:, None] for x in one]
        return AttentionMaps(*one, valid_hw=self.valid_hw)


@pytree
@dataclass(frozen=True)
class RcdaLooks:
    """Row and column weights of all queries on one image."""

    row: Float[Array | np.ndarray, "l s n q w"]
    column: Float[Array | np.ndarray, "l s n q h"]

    @property
    def levels(self) -> int:
        """Feature levels that were looked at."""
        return self.row.shape[1]

    def maps(self, query: int, level: int, valid_hw: tuple[int, int]) -> AttentionMaps:
        """What one query looked at on one level."""
        row = np.asarray(self.row[:, level, :, query], np.float32)
        column = np.asarray(self.column[:, level, :, query], np.float32)
        product = column[..., :, None] * row[..., None, :]
        return AttentionMaps(row, column, product, valid_hw)


@pytree
@dataclass(frozen=True)
class PlainLooks:
    """Projected queries and keys of plain attention on one image.

    The weights of all queries over all cells would be large; those of one query are not.
    """

    query: Float[Array | np.ndarray, "l s q n d"]
    key: Float[Array | np.ndarray, "l s h w n d"]

    @property
    def levels(self) -> int:
        """Feature levels that were looked at."""
        return self.key.shape[1]

    def maps(self, query: int, level: int, valid_hw: tuple[int, int]) -> AttentionMaps:
        """What one query looked at on one level."""
        layers, _, h, w, _, _ = self.key.shape
        keys = jnp.asarray(self.key[:, level]).reshape(layers, h * w, *self.key.shape[-2:])
        real = valid_mask(jnp.array([valid_hw]), (h, w)).reshape(1, h * w)
        one = jnp.asarray(self.query[:, level, query : query + 1])
        weights = np.asarray(attention_weights(one, keys, real), np.float32)
        product = weights.reshape(layers, -1, h, w)
        return AttentionMaps(product.sum(-2), product.sum(-1), product, valid_hw)


def noted(module: Any, method: str) -> bool:
    """For `capture_intermediates`: the projections from which plain attention's weights follow.

    RCDA notes its weights itself.
    """
    return module.name in ("query", "key") and method == "__call__"


def noted_looks(
    intermediates: Mapping[str, Any], config: AnchorDETRConfig, map_hw: tuple[int, int]
) -> RcdaLooks | PlainLooks:
    """What the decoder noted on one image.

    Args:
        intermediates: the model's collection of this name, for a batch of one image.
        config: of the model.
        map_hw: size of the map, padding included.
    """
    layers = [intermediates[f"decoder_{i}"]["cross_attn"] for i in range(config.decoder_layers)]
    if config.attention == "rcda":
        return RcdaLooks(
            row=jnp.stack([layer["row_weights"][0] for layer in layers]),
            column=jnp.stack([layer["column_weights"][0] for layer in layers]),
        )
    queries, keys = ([layer[name]["__call__"][0] for layer in layers] for name in ("query", "key"))
    levels, heads = config.num_levels, config.num_heads
    # Before its first look at an image, there is one set of queries for all levels.
    query = jnp.stack([jnp.broadcast_to(x, (levels, *x.shape[1:])) for x in queries])
    key = jnp.stack(keys)
    return PlainLooks(
        query=query.reshape(*query.shape[:-1], heads, -1),
        key=key.reshape(*key.shape[:2], *map_hw, heads, -1),
    )
