"""Parts of DETR's layers, with the start that its matrices have: Xavier's."""

from __future__ import annotations

from collections.abc import Callable

from flax.typing import Dtype
from jaxtyping import Array, Float

from anchor_detr_jax.layers.attention import MultiHeadAttention
from anchor_detr_jax.layers.feed_forward import FeedForward
from anchor_detr_jax.layers.linear import XAVIER
from anchor_detr_jax.models.detr.config import LayerShape

__all__ = ["attention", "feed_forward", "with_norm"]


def with_norm(
    part: Callable[[Array], Array],
    x: Float[Array, "#b n e"],
    norm: Callable[[Array], Array],
    *,
    pre_norm: bool = False,
) -> Float[Array, "b n e"]:
    """norm(x + part(x)), or, with `pre_norm`, x + part(norm(x))."""
    return x + part(norm(x)) if pre_norm else norm(x + part(x))


def attention(
    shape: LayerShape, dtype: Dtype | None, in_parts: bool, *, name: str | None = None
) -> MultiHeadAttention:
    """Attention over everything."""
    return MultiHeadAttention(
        shape.num_heads, shape.dropout, dtype, in_parts, out_init=XAVIER, name=name
    )


def feed_forward(shape: LayerShape, dtype: Dtype | None, *, name: str | None = None) -> FeedForward:
    """The block after each attention over the image."""
    return FeedForward(
        shape.feedforward_dim, shape.dropout, dtype, shape.pre_norm, XAVIER, name=name
    )
