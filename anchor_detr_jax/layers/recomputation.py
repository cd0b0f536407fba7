"""What a layer keeps for its backward pass, and what it computes again there."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

__all__ = ["RECOMPUTATION", "costly", "recomputed"]

RECOMPUTATION = ("none", "cheap", "layers")
"""What is computed again: nothing; all but convolutions and products with weights; whole layers."""

_COSTLY = "costly"


def costly(x: jax.Array) -> jax.Array:
    """`x`, which "cheap" is to keep: computing it again would take long."""
    return checkpoint_name(x, _COSTLY)


def recomputed(layer: nn.Module, *arguments: Any, what: str, static: tuple[Any, ...] = ()) -> Any:
    """`layer(*arguments, *static)`, with a backward pass that computes some of it again.

    Args:
        layer: any module; it is called.
        arguments: arrays, in pytrees.
        what: one of `RECOMPUTATION`.
        static: further arguments that no array is.
    """
    if what == "none" or layer.is_initializing():
        return layer(*arguments, *static)

    # Flat lists, as the gradient of an integer is no value for the dataclass that it stands in.
    leaves, structure = jax.tree.flatten(arguments)
    made: list[Any] = []

    def call(layer: nn.Module, *leaves: jax.Array) -> list[jax.Array]:
        outcome = layer(*jax.tree.unflatten(structure, leaves), *static)
        flat, made[:] = jax.tree.flatten(outcome)[0], [jax.tree.structure(outcome)]
        return flat

    kept = nn.remat(call, policy=_is_costly if what == "cheap" else None)

    def forward(layer: nn.Module, *leaves: jax.Array) -> Any:
        return nn.vjp(kept, layer, *leaves)

    def backward(pull_back: Any, gradient: list[Any]) -> Any:
        known = next(g for g in gradient if jnp.issubdtype(g.dtype, jnp.inexact))
        pull_back = jax.lax.platform_dependent(
            pull_back, known, cpu=_only_after, default=lambda kept, _: kept
        )
        return pull_back(gradient)

    flat = nn.custom_vjp(call, forward_fn=forward, backward_fn=backward)(layer, *leaves)
    return jax.tree.unflatten(made[0], flat)


def _is_costly(primitive: Any, *_: Any, **parameters: Any) -> bool:
    """JAX asks this of every operation; its result is kept if so."""
    if primitive.name == "dot_general":
        _, (batch_axes, _) = parameters["dimension_numbers"]
        return not batch_axes  # with weights; products of two activations are attention's
    if primitive.name == "name":
        return parameters["name"] == _COSTLY
    return primitive.name in ("conv_general_dilated", "gt", "eq")  # where a ReLU let through


def _only_after(kept: Any, known: jax.Array) -> Any:
    """What a layer kept, unchanged, but not to be had before `known` is, a part of its gradient.

    XLA's CPU backend drops the barriers that `jax.checkpoint` sets before it orders the work, and
    would compute everything again at once, for no gain.
    """
    # True even for infinities and NaN, which XLA does not find out. What is sorted becomes part of
    # no other computation, which it would else be repeated in.
    there = jax.lax.sort(known.ravel()[:2])[0] * 0 != 1

    def after(leaf: jax.Array) -> jax.Array:
        if leaf.dtype != bool and not jnp.issubdtype(leaf.dtype, jnp.inexact):
            return leaf
        return jnp.where(there, leaf, jnp.zeros((), leaf.dtype))

    return jax.tree.map(after, kept)
