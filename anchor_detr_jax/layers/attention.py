"""Softmax attention: the weights, and plain multi-head attention."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Bool, Float

from anchor_detr_jax.layers.linear import stacked_xavier, uniform
from anchor_detr_jax.layers.recomputation import costly

__all__ = [
    "MultiHeadAttention",
    "ScoreBias",
    "attend_to_all",
    "attention_weights",
    "out_projection",
    "projected_heads",
]


ScoreBias = jax.tree_util.Partial
"""A function of no further argument that gives what is added to scores, [b, n, k, q].

The third axis of each array that it holds is that of the heads.
"""


def projected_heads(
    x: Float[Array, "... e"], heads: int, *, blocks: int, name: str, dtype: Dtype | None
) -> Float[Array, "... n d"]:
    """A linear layer's result, its features in `heads` equal parts.

    The layer is one of the `blocks` that the reference keeps in one `in_proj_weight`.
    """
    features = x.shape[-1]
    layer = nn.Dense(features, dtype=dtype, kernel_init=stacked_xavier(blocks), name=name)
    return layer(x).reshape(*x.shape[:-1], heads, features // heads)


def out_projection(
    features: int, *, dtype: Dtype | None, start: Initializer | None = None
) -> nn.Dense:
    """What joins the heads: PyTorch's start for the weight, if no other, and zero for the bias."""
    start = start or uniform(1 / math.sqrt(features))
    return nn.Dense(features, dtype=dtype, kernel_init=start, name="out")


def attention_weights(
    query: Float[Array, "#b q n d"],
    key: Float[Array, "#b k n d"],
    real: Bool[Array, "#b k"] | None = None,
    *,
    bias: ScoreBias | None = None,
) -> Float[Array, "b n q k"]:
    """Softmax of the scaled products, in float32, over the real keys; zero for the others.

    `bias` is added to the products.
    """
    scale = 1 / math.sqrt(query.shape[-1])
    scores = jnp.einsum("bqnd,bknd->bnqk", query * scale, key, preferred_element_type=jnp.float32)
    if bias is not None:
        scores = scores + bias().swapaxes(2, 3)
    if real is not None:
        scores = jnp.where(real[:, None, None, :], scores, -jnp.inf)
    return jax.nn.softmax(scores, axis=-1).astype(query.dtype)


class MultiHeadAttention(nn.Module):
    """Softmax attention of every query over every key. Source: `torch.nn.MultiheadAttention`.

    Attributes:
        heads: how many.
        dropout: rate in training.
        dtype: what is computed in.
        in_parts: one head after another, for CPUs, whose caches then hold the scores; not in
            training.
        out_init: start of the weight that joins the heads; None: PyTorch's.
    """

    heads: int
    dropout: float = 0.0
    dtype: Dtype | None = None
    in_parts: bool = False
    out_init: Initializer | None = None

    @nn.compact
    def __call__(
        self,
        query: Float[Array, "#b q e"],
        key: Float[Array, "#b k e"],
        value: Float[Array, "#b k e"],
        real: Bool[Array, "#b k"] | None = None,
        *,
        bias: ScoreBias | None = None,
        train: bool = False,
    ) -> Float[Array, "b q e"]:
        project = partial(projected_heads, heads=self.heads, blocks=3, dtype=self.dtype)
        mixed = attend_to_all(
            project(query, name="query"),
            project(key, name="key"),
            project(value, name="value"),
            real,
            bias=bias,
            dropout=nn.Dropout(self.dropout, deterministic=False) if train else None,
            in_parts=self.in_parts,
        )
        return out_projection(mixed.shape[-1], dtype=self.dtype, start=self.out_init)(mixed)


def attend_to_all(
    query: Float[Array, "#b q n d"],
    key: Float[Array, "#b k n d"],
    value: Float[Array, "#b k n v"],
    real: Bool[Array, "#b k"] | None = None,
    *,
    bias: ScoreBias | None = None,
    dropout: Callable[[Array], Array] | None = None,
    in_parts: bool = False,
) -> Float[Array, "b q n*v"]:
    """What each query sees of the values, its heads side by side.

    Args:
        query: of each of the `n` heads.
        key: likewise.
        value: likewise.
        real: True on the keys that count; None: all.
        bias: what is added to the scaled scores.
        dropout: of the weights, in training.
        in_parts: head by head, where nothing is dropped.
    """
    mix = _head_by_head if in_parts and dropout is None else partial(_mixed_values, dropout=dropout)
    mixed = mix(query, key, value, real, bias)
    b, n, v, q = mixed.shape
    return costly(mixed.reshape(b, n * v, q).swapaxes(1, 2))


def _mixed_values(
    query: Float[Array, "#b q n d"],
    key: Float[Array, "#b k n d"],
    value: Float[Array, "#b k n v"],
    real: Bool[Array, "#b k"] | None,
    bias: ScoreBias | None,
    dropout: Callable[[Array], Array] | None = None,
) -> Float[Array, "b n v q"]:
    """The keys stand before the queries: sums over them are then sums of whole rows.

    And divided by the sum of the weights is the smaller array, that which comes out.
    """
    scale = 1 / math.sqrt(query.shape[-1])
    scores = jnp.einsum("bknd,bqnd->bnkq", key, query * scale, preferred_element_type=jnp.float32)
    if bias is not None:
        scores = scores + bias()
    if real is not None:
        scores = jnp.where(real[:, None, :, None], scores, -jnp.inf)
    weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=2, keepdims=True)))
    total = weights.sum(axis=2)[:, :, None]
    weights = weights.astype(query.dtype)
    weights = weights if dropout is None else dropout(weights)
    mixed = jnp.einsum("bknd,bnkq->bndq", value, weights, preferred_element_type=jnp.float32)
    return (mixed / total).astype(value.dtype)


def _head_by_head(
    query: Float[Array, "#b q n d"],
    key: Float[Array, "#b k n d"],
    value: Float[Array, "#b k n v"],
    real: Bool[Array, "#b k"] | None,
    bias: ScoreBias | None,
) -> Float[Array, "b n v q"]:
    def one(head):
        query, key, value, bias = jax.tree.map(lambda x: x[:, :, None], head)
        return _mixed_values(query, key, value, real, bias)[:, 0]

    heads = jax.tree.map(lambda x: jnp.moveaxis(x, 2, 0), (query, key, value, bias))
    return jnp.moveaxis(jax.lax.map(one, heads), 0, 1)
