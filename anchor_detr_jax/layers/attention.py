"""Softmax attention: the weights, and plain multi-head attention."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype
from jaxtyping import Array, Bool, Float

from anchor_detr_jax.layers.linear import stacked_xavier, uniform
from anchor_detr_jax.layers.recomputation import costly

__all__ = [
    "MultiHeadAttention",
    "attention_weights",
    "out_projection",
    "projected_heads",
]


def projected_heads(
    x: Float[Array, "... e"], heads: int, *, blocks: int, name: str, dtype: Dtype | None
) -> Float[Array, "... n d"]:
    """A linear layer's result, its features in `heads` equal parts.

    The layer is one of the `blocks` that the reference keeps in one `in_proj_weight`.
    """
    features = x.shape[-1]
    layer = nn.Dense(features, dtype=dtype, kernel_init=stacked_xavier(blocks), name=name)
    return layer(x).reshape(*x.shape[:-1], heads, features // heads)


def out_projection(features: int, *, dtype: Dtype | None) -> nn.Dense:
    """What joins the heads: PyTorch's start for the weight, zero for the bias."""
    start = uniform(1 / math.sqrt(features))
    return nn.Dense(features, dtype=dtype, kernel_init=start, name="out")


def attention_weights(
    query: Float[Array, "#b q n d"],
    key: Float[Array, "#b k n d"],
    real: Bool[Array, "#b k"] | None = None,
) -> Float[Array, "b n q k"]:
    """Softmax of the scaled products, in float32, over the real keys; zero for the others."""
    scale = 1 / math.sqrt(query.shape[-1])
    scores = jnp.einsum("bqnd,bknd->bnqk", query * scale, key, preferred_element_type=jnp.float32)
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
    """

    heads: int
    dropout: float = 0.0
    dtype: Dtype | None = None
    in_parts: bool = False

    @nn.compact
    def __call__(
        self,
        query: Float[Array, "#b q e"],
        key: Float[Array, "#b k e"],
        value: Float[Array, "#b k e"],
        real: Bool[Array, "#b k"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "b q e"]:
        project = partial(projected_heads, heads=self.heads, blocks=3, dtype=self.dtype)
        query, key = project(query, name="query"), project(key, name="key")
        value = project(value, name="value")
        if self.in_parts and not train:
            mixed = _head_by_head(query, key, value, real)
        else:
            dropout = nn.Dropout(self.dropout, deterministic=not train)
            mixed = _mixed_values(query, key, value, real, dropout)
        b, n, d, q = mixed.shape
        mixed = costly(mixed.reshape(b, n * d, q).swapaxes(1, 2))
        return out_projection(n * d, dtype=self.dtype)(mixed)


def _mixed_values(
    query: Float[Array, "#b q n d"],
    key: Float[Array, "#b k n d"],
    value: Float[Array, "#b k n d"],
    real: Bool[Array, "#b k"] | None,
    dropout: Callable[[Array], Array] = lambda weights: weights,
) -> Float[Array, "b n d q"]:
    """What each query sees of the values.

    The keys stand before the queries: sums over them are then sums of whole rows. And divided by
    the sum of the weights is the smaller array, that which comes out.
    """
    scale = 1 / math.sqrt(query.shape[-1])
    scores = jnp.einsum("bknd,bqnd->bnkq", key, query * scale, preferred_element_type=jnp.float32)
    if real is not None:
        scores = jnp.where(real[:, None, :, None], scores, -jnp.inf)
    weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=2, keepdims=True)))
    total = weights.sum(axis=2)[:, :, None]
    weights = dropout(weights.astype(query.dtype))
    mixed = jnp.einsum("bknd,bnkq->bndq", value, weights, preferred_element_type=jnp.float32)
    return (mixed / total).astype(value.dtype)


def _head_by_head(
    query: Float[Array, "#b q n d"],
    key: Float[Array, "#b k n d"],
    value: Float[Array, "#b k n d"],
    real: Bool[Array, "#b k"] | None,
) -> Float[Array, "b n d q"]:
    def one(head):
        query, key, value = (x[:, :, None] for x in head)
        return _mixed_values(query, key, value, real)[:, 0]

    heads = jax.tree.map(lambda x: jnp.moveaxis(x, 2, 0), (query, key, value))
    return jnp.moveaxis(jax.lax.map(one, heads), 0, 1)
