"""RCDA's sum over the map by Pallas kernels: arrays as these want them, gradients, devices.

One axis of the map is *contracted*, by matrix products; along the other one the kernels take
*steps*. Queries come last in every array, where a GPU's threads read them side by side and a TPU
has its lanes.

Axes: B images, N heads, Q queries, C contracted and S steps (rows and columns of the map, or the
other way round), D features of one head; all but B and N filled up with zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.custom_partitioning import custom_partitioning
from jaxtyping import Array, Float

from anchor_detr_jax.layers import rcda_programs as programs
from anchor_detr_jax.layers.rcda_programs import QUERIES, STEPS, Target

__all__ = ["attend_by_kernel"]


def attend_by_kernel(
    row_weights: Float[Array, "b n q w"],
    column_weights: Float[Array, "b n q h"],
    value: Float[Array, "b h w n d"],
    *,
    platform: str | None = None,
) -> Float[Array, "b q n d"]:
    """Sum over the map of column weight x row weight x value.

    Differentiable once, in reverse. A batch that is cut over devices stays cut, and so do heads.

    Args:
        row_weights: over the columns.
        column_weights: over the rows.
        value: the map; the weights have its type.
        platform: to compile for; None: that of JAX's default devices.
    """
    b, h, w, n, d = value.shape
    if h * _filled(w) > w * _filled(h):  # whichever leaves less to compute
        row_weights, column_weights = column_weights, row_weights
        value, h, w = value.swapaxes(1, 2), w, h
    q = row_weights.shape[2]
    c, s, full_q = _filled(w), _multiple(h, STEPS), _multiple(q, QUERIES)
    settings: Any = jax.config
    target = Target(
        platform=platform or jax.default_backend(),
        precision=settings.jax_default_matmul_precision,
    )
    out: Array = _weighted_sum(
        _grown(row_weights.swapaxes(2, 3), (b, n, c, full_q)),
        _grown(column_weights.swapaxes(2, 3), (b, n, s, full_q))[:, :, :, None, :],
        _grown(jnp.transpose(value, (0, 3, 1, 4, 2)), (b, n, s, _filled(d), c)),
        target,
    )
    return jnp.transpose(out[:, :, :d, :q], (0, 3, 1, 2))


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _weighted_sum(
    contracted: Float[Array, "b n c q"],
    steps: Float[Array, "b n s 1 q"],
    value: Float[Array, "b n s d c"],
    target: Target,
) -> Float[Array, "b n d q"]:
    return _forward(contracted, steps, value, target)


def _with_residuals(contracted, steps, value, target):
    return _forward(contracted, steps, value, target), (contracted, steps, value)


def _gradients(target, residuals, gradient):
    contracted, steps, value = residuals
    of_contracted, of_steps = _backward_weights(contracted, steps, value, gradient, target)
    return of_contracted, of_steps, _backward_value(contracted, steps, gradient, target)


_weighted_sum.defvjp(_with_residuals, _gradients)


def _on_each_device(program: Callable[..., Any], rule: str) -> Callable[..., Any]:
    """Let each device compute a program for its own images and heads.

    To XLA a kernel is a whole; without this, every device would gather and compute all of it.

    Args:
        program: takes arrays and a `Target`.
        rule: the axes of its arguments and results, as `custom_partitioning` wants them.
    """

    def partition(target, mesh, arguments, results):
        shardings = jax.tree.map(lambda leaf: leaf.sharding, (results, arguments))
        return mesh, lambda *arrays: program(*arrays, target), *shardings

    arguments, results = (side.replace(",", " ").split() for side in rule.split("->"))
    never_cut = [axis for axis in dict.fromkeys(arguments + results) if axis not in "bn"]
    cut = custom_partitioning(program, static_argnums=(rule.split("->")[0].count(",") + 1,))
    cut.def_partition(partition, sharding_rule=rule, need_replication_factors=tuple(never_cut))
    return cut


_forward = _on_each_device(programs.forward, "b n c q, b n s i q, b n s d c -> b n d q")
_backward_weights = _on_each_device(
    programs.backward_weights,
    "b n c q, b n s i q, b n s d c, b n d q -> b n c q, b n s i q",
)
_backward_value = _on_each_device(
    programs.backward_value, "b n c q, b n s i q, b n d q -> b n s d c"
)


def _multiple(size: int, of: int) -> int:
    return -(-size // of) * of


def _filled(size: int) -> int:
    """The power of two that a GPU's product needs, 16 at least."""
    return max(16, 1 << (size - 1).bit_length())


def _grown(x: Array, shape: tuple[int, ...]) -> Array:
    """With zeros behind each axis, up to a shape."""
    return jnp.pad(x, [(0, full - size) for size, full in zip(x.shape, shape, strict=True)])
