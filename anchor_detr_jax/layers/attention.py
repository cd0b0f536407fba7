"""Softmax attention: the weights, and plain multi-head attention."""

from __future__ import annotations

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype
from jaxtyping import Array, Bool, Float

from anchor_detr_jax.layers.linear import stacked_xavier, uniform

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
    """Softmax attention of every query over every key. Source: `torch.nn.MultiheadAttention`."""

    heads: int
    dropout: float = 0.0
    dtype: Dtype | None = None

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
        weights = attention_weights(project(query, name="query"), project(key, name="key"), real)
        weights = nn.Dropout(self.dropout, deterministic=not train)(weights)
        mixed = jnp.einsum("bnqk,bknd->bqnd", weights, project(value, name="value"))
        mixed = mixed.reshape(*mixed.shape[:2], -1)
        return out_projection(query.shape[-1], dtype=self.dtype)(mixed)
