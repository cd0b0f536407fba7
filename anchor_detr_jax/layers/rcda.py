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
from anchor_detr_jax.layers.rcda_forms import attend_by_scan, attend_in_chunks, attend_whole
from anchor_detr_jax.layers.recomputation import costly

__all__ = [
    "RCDA_FORMS",
    "RowColumnAttention",
    "attend",
    "check_form",
    "mean_over_columns",
    "mean_over_rows",
]


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


def check_form(name: str) -> None:
    """Refuse what is no way to compute `attend`.

    Raises:
        ValueError: with the name, and the names there are.
    """
    if name not in RCDA_FORMS:
        raise ValueError(f"rcda_impl is {name!r}, and must be one of {RCDA_FORMS}")


def attend(
    row_weights: Float[Array, "b n q w"],
    column_weights: Float[Array, "b n q h"],
    value: Float[Array, "b h w n d"],
    *,
    impl: str = "auto",
) -> Float[Array, "b q n d"]:
    """Sum over the map of column weight x row weight x value.

    Args:
        row_weights: over the columns.
        column_weights: over the rows.
        value: the map.
        impl: how it is computed. All give the same, to the noise of the type.
            `scan`: a product for each row or column, whichever are fewer. The least memory, and
                the fastest on CPUs.
            `whole`: one product, which is kept: queries x the shorter axis x features.
            `chunks`: the same for some queries at a time, recomputed in the backward pass.
            `pallas`: kernels that keep it on the chip, for GPUs and TPUs (interpreted on CPUs) and
                for bfloat16 or tensorfloat32: exact float32 does not fit a GPU's registers.
            `auto`: `scan` on CPUs, else `chunks`: few large products keep an accelerator busier
                than many small ones. That is a presumption; neither was measured on one.

    Raises:
        ValueError: for any other `impl`.
    """
    check_form(impl)
    if impl == "auto":
        impl = "scan" if jax.default_backend() == "cpu" else "chunks"
    return _FORMS[impl](row_weights, column_weights, value)


def _by_kernel(row_weights, column_weights, value):
    # Pallas is experimental: what it will no longer have must not keep others from starting.
    from anchor_detr_jax.layers.rcda_kernel import attend_by_kernel

    return attend_by_kernel(row_weights, column_weights, value)


_FORMS = {
    "scan": attend_by_scan,
    "whole": attend_whole,
    "chunks": attend_in_chunks,
    "pallas": _by_kernel,
}
RCDA_FORMS = ("auto", *_FORMS)


class RowColumnAttention(nn.Module):
    """RCDA with its five projections.

    Called with queries for the rows and for the columns (one set for each image, or one for all),
    and with maps of keys and values. Padding is neither averaged into a key nor looked at.
    """

    heads: int
    dropout: float = 0.0
    dtype: Dtype | None = None
    impl: str = "auto"

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
        mixed = attend(dropout(row_weights), dropout(column_weights), value, impl=self.impl)
        mixed = costly(mixed.reshape(*mixed.shape[:2], -1))
        return out_projection(query_row.shape[-1], dtype=self.dtype)(mixed)
