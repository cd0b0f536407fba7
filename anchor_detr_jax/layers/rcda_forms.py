"""Ways to compute RCDA's sum over the map that XLA compiles; they differ in speed and memory alone.

`out[q] = sum_hw column_weights[q, h] * row_weights[q, w] * value[h, w]`. All contract the longer
axis of the map by matrix products, and weigh what is left of the shorter one.
Axes: B images, Q queries, N heads, H rows, W columns, D features of one head.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["attend_by_scan", "attend_in_chunks", "attend_whole"]

_CHUNK_BYTES = 64 * 2**20

# What is recomputed stands inside a loop, where there is nothing to be merged with.
_recomputed = partial(jax.checkpoint, prevent_cse=False)


def attend_by_scan(
    row_weights: Float[Array, "b n q w"],
    column_weights: Float[Array, "b n q h"],
    value: Float[Array, "b h w n d"],
) -> Float[Array, "b q n d"]:
    """One product for each step along the shorter axis, and all added up.

    The body is recomputed in the backward pass, so nothing is in memory that has the size of the
    queries times an axis times the features.
    """
    row_weights, column_weights, value = _wider_than_high(row_weights, column_weights, value)
    b, n, q, _ = row_weights.shape
    # The loop sums the gradient of what all steps share, in the type in which they share it.
    shared = row_weights.astype(jnp.float32)

    @_recomputed
    def add_row(total, row):
        weight, row_value = row
        along = jnp.einsum(
            "bnqw,bnwd->bnqd",
            shared.astype(row_weights.dtype),
            row_value,
            preferred_element_type=jnp.float32,
        )
        return total + weight[..., None] * along, None

    rows = (jnp.moveaxis(column_weights, -1, 0), jnp.transpose(value, (1, 0, 3, 2, 4)))
    # Of zeros that depend on nothing, those of all layers are made when a program starts, and kept.
    zero = 0 * jax.lax.stop_gradient(shared[..., :1])
    start = jnp.broadcast_to(zero, (b, n, q, value.shape[-1]))
    total, _ = jax.lax.scan(add_row, start, rows, unroll=2)
    return total.astype(value.dtype).swapaxes(1, 2)


def attend_whole(
    row_weights: Float[Array, "b n q w"],
    column_weights: Float[Array, "b n q h"],
    value: Float[Array, "b h w n d"],
) -> Float[Array, "b q n d"]:
    """One large product for all steps at once: float32 of queries x shorter axis x features."""
    row_weights, column_weights, value = _wider_than_high(row_weights, column_weights, value)
    along = jnp.einsum("bnqw,bhwnd->bnqhd", row_weights, value, preferred_element_type=jnp.float32)
    total = jnp.einsum("bnqh,bnqhd->bqnd", column_weights, along)
    return total.astype(value.dtype)


def attend_in_chunks(
    row_weights: Float[Array, "b n q w"],
    column_weights: Float[Array, "b n q h"],
    value: Float[Array, "b h w n d"],
    *,
    chunk_bytes: int = _CHUNK_BYTES,
) -> Float[Array, "b q n d"]:
    """`attend_whole` for so many queries at a time that its product is small for each image.

    Args:
        row_weights: over the columns.
        column_weights: over the rows.
        value: the map.
        chunk_bytes: of an image's product, at most, unless that of one query is larger. It does
            not depend on the batch, which may be cut over devices.
    """
    b, n, q, _ = row_weights.shape
    _, h, w, _, d = value.shape
    count = -(-q // max(1, chunk_bytes // (4 * n * d * min(h, w))))
    size = -(-q // count)
    shared = value.astype(jnp.float32)  # as in `attend_by_scan`

    def cut(weights: Float[Array, "b n q k"]) -> Float[Array, "count b n size k"]:
        filled = jnp.pad(weights, ((0, 0), (0, 0), (0, count * size - q), (0, 0)))
        return jnp.moveaxis(filled.reshape(b, n, count, size, -1), 2, 0)

    @_recomputed
    def attend_chunk(weights):
        row, column = weights
        return attend_whole(row, column, shared.astype(value.dtype))

    chunks = jax.lax.map(attend_chunk, (cut(row_weights), cut(column_weights)))
    return jnp.moveaxis(chunks, 0, 1).reshape(b, count * size, n, d)[:, :q]


def _wider_than_high(
    row_weights: Float[Array, "b n q w"],
    column_weights: Float[Array, "b n q h"],
    value: Float[Array, "b h w n d"],
) -> tuple[Float[Array, "b n q l"], Float[Array, "b n q s"], Float[Array, "b s l n d"]]:
    """The same sum with the longer axis l in the place of the columns."""
    height, width = value.shape[1:3]
    # Which of two symbolic sizes is longer is not known, and the sum is the same.
    if isinstance(height, int) and isinstance(width, int) and height > width:
        return column_weights, row_weights, value.swapaxes(1, 2)
    return row_weights, column_weights, value
