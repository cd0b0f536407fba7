"""Row-column decoupled attention (RCDA).

Attention over a map, as the product of one softmax over its columns (where along a row to look) and
one over its rows: `out[q] = sum_hw column_weights[q, h] * row_weights[q, w] * value[h, w]`.
Source: "Anchor DETR", section 3.4; AnchorDETR `models/row_column_decoupled_attention.py`.

In the paper's words *row* attention looks along a row, so its weights run over the width.
Axes: B images, Q queries, N heads, H rows, W columns, E features, D features of one head.
"""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype
from jaxtyping import Array, Float, Int

from anchor_detr_jax.layers.attention import (
    attention_weights,
    out_projection,
    projected_heads,
)
from anchor_detr_jax.layers.padding import valid_positions

__all__ = ["RowColumnAttention", "attend", "mean_over_columns", "mean_over_rows"]


def mean_over_rows(
    x: Float[Array, "b h w e"], valid_rows: Int[Array, " b"]
) -> Float[Array, "b w e"]:
    """Mean of each column over its real rows."""
    real = valid_positions(valid_rows, x.shape[1])[:, :, None, None]
    total = jnp.sum(x, axis=1, where=real, dtype=jnp.float32)
    return (total / valid_rows[:, None, None]).astype(x.dtype)


def mean_over_columns(
    x: Float[Array, "b h w e"], valid_columns: Int[Array, " b"]
) -> Float[Array, "b h e"]:
    """Mean of each row over its real columns."""
    return mean_over_rows(x.swapaxes(1, 2), valid_columns)


def attend(
    row_weights: Float[Array, "b n q w"],
    column_weights: Float[Array, "b n q h"],
    value: Float[Array, "b h w n d"],
) -> Float[Array, "b q n d"]:
    """Sum over the map of column weight x row weight x value.

    Contracts the longer axis by matrix products, one for each step along the shorter axis, and adds
    these up; the body is recomputed in the backward pass. So nothing of size queries x H x features
    is ever in memory, forward or backward.
    """
    if value.shape[1] > value.shape[2]:
        row_weights, column_weights = column_weights, row_weights
        value = value.swapaxes(1, 2)
    b, n, q, _ = row_weights.shape

    @jax.checkpoint
    def add_row(total, row):
        weight, row_value = row
        along = jnp.einsum(
            "bnqw,bnwd->bnqd", row_weights, row_value, preferred_element_type=jnp.float32
        )
        return total + weight[..., None] * along, None

    rows = (jnp.moveaxis(column_weights, -1, 0), jnp.transpose(value, (1, 0, 3, 2, 4)))
    start = jnp.zeros((b, n, q, value.shape[-1]), jnp.float32)
    total, _ = jax.lax.scan(add_row, start, rows)
    return total.astype(value.dtype).swapaxes(1, 2)


class RowColumnAttention(nn.Module):
    """RCDA with its five projections.

    Called with queries for the rows and for the columns (one set for each image, or one for all),
    and with maps of keys and values. Padding is neither averaged into a key nor looked at.
    """

    heads: int
    dropout: float = 0.0
    dtype: Dtype | None = None

    @nn.compact
    def __call__(
        self,
        query_row: Float[Array, "#b q e"],
        query_column: Float[Array, "#b q e"],
        key_row: Float[Array, "b h w e"],
        key_column: Float[Array, "b h w e"],
        value: Float[Array, "b h w e"],
        valid_hw: Int[Array, "b 2"],
        *,
        train: bool = False,
    ) -> Float[Array, "b q e"]:
        valid_h, valid_w = valid_hw[:, 0], valid_hw[:, 1]
        project = partial(projected_heads, heads=self.heads, blocks=5, dtype=self.dtype)

        # A projection's mean is the mean's projection, and the mean is the smaller one to project.
        row_weights = attention_weights(
            project(query_row, name="query_row"),
            project(mean_over_rows(key_row, valid_h), name="key_row"),
            valid_positions(valid_w, key_row.shape[2]),
        )
        column_weights = attention_weights(
            project(query_column, name="query_column"),
            project(mean_over_columns(key_column, valid_w), name="key_column"),
            valid_positions(valid_h, key_column.shape[1]),
        )
        self.sow("intermediates", "row_weights", row_weights)
        self.sow("intermediates", "column_weights", column_weights)
        dropout = nn.Dropout(self.dropout, deterministic=not train)
        value = project(value, name="value")
        mixed = attend(dropout(row_weights), dropout(column_weights), value)
        mixed = mixed.reshape(*mixed.shape[:2], -1)
        return out_projection(query_row.shape[-1], dtype=self.dtype)(mixed)
