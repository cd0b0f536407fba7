"""The Pallas kernels of `rcda_kernel`: what lies between RCDA's two products stays on the chip.

`out[d, q] = sum_s steps[s, q] * sum_c value[s, d, c] * contracted[c, q]`, and its three gradients.
Every program adds up in float32 what it alone writes; no two write to one place.

The same source is lowered by Triton for GPUs and by Mosaic for TPUs. Elsewhere it is interpreted,
which is slow and right. JAX 0.11.0 deprecates its way to Triton; `_call` alone knows of it.

Axes: B images, N heads, Q queries (a multiple of `QUERIES`), C and D (powers of two from 16 on),
S steps (a multiple of `STEPS`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Float

__all__ = ["QUERIES", "STEPS", "Target", "backward_value", "backward_weights", "forward"]

QUERIES = 128
"""Queries of one tile: the lanes of a TPU."""

STEPS = 4
"""Steps whose gradient of the value one program computes: of 32 features, a product of 128 rows."""

_WARPS = 8
"""Of a GPU's program: with 4, the registers do not hold the sums of the gradients."""

_NOT_ON_TPU = ("high", "tensorfloat32", "bfloat16_3x")
"""Precisions that Mosaic lacks; the next higher one takes their place."""


class Target(NamedTuple):
    """What kernels are compiled for.

    It is fixed where `attend` is traced: on several devices the kernels themselves are traced
    later, on their way through XLA.

    Attributes:
        platform: `cpu` (interpreted), `gpu`, `cuda`, `rocm` or `tpu`.
        precision: of products of float32, as for `jax.default_matmul_precision`.
    """

    platform: str
    precision: str | None

    def product(self, x: Array, y: Array, axes: tuple[int, int]) -> Array:
        """Matrix product over an axis of each, added up in float32."""
        precision = self.precision
        if self.platform == "tpu" and precision in _NOT_ON_TPU:
            precision = "float32"
        return jax.lax.dot_general(
            x,
            y,
            (((axes[0],), (axes[1],)), ((), ())),
            precision=precision,
            preferred_element_type=jnp.float32,
        )


def forward(
    contracted: Float[Array, "b n c q"],
    steps: Float[Array, "b n s 1 q"],
    value: Float[Array, "b n s d c"],
    target: Target,
) -> Float[Array, "b n d q"]:
    """The sum. A program has one tile of queries."""
    b, n, c, q = contracted.shape
    s, d = value.shape[2:4]

    def rcda_forward(contracted_ref, steps_ref, value_ref, out_ref):
        tile = contracted_ref[...]

        def add_step(i, total):
            return total + _float32(steps_ref[i]) * target.product(value_ref[i], tile, (1, 0))

        total = jax.lax.fori_loop(0, s, add_step, jnp.zeros((d, QUERIES), jnp.float32))
        out_ref[...] = total.astype(out_ref.dtype)

    return _call(
        rcda_forward,
        grid=(b, n, q // QUERIES),
        inputs=(_tile(c), _tile(s, 1), _all(s, d, c)),
        outputs=_tile(d),
        results=jax.ShapeDtypeStruct((b, n, d, q), value.dtype),
        target=target,
    )(contracted, steps, value)


def backward_weights(
    contracted: Float[Array, "b n c q"],
    steps: Float[Array, "b n s 1 q"],
    value: Float[Array, "b n s d c"],
    gradient: Float[Array, "b n d q"],
    target: Target,
) -> tuple[Float[Array, "b n c q"], Float[Array, "b n s 1 q"]]:
    """Gradients of both weights. A program has one tile of queries."""
    b, n, c, q = contracted.shape
    s, d = value.shape[2:4]

    def rcda_backward_weights(
        contracted_ref, steps_ref, value_ref, gradient_ref, of_contracted, of_steps
    ):
        tile, gradient = contracted_ref[...], gradient_ref[...]

        def add_step(i, total):
            features = value_ref[i]
            seen = target.product(features, tile, (1, 0))
            of_step = jnp.sum(_float32(gradient) * seen, axis=0, keepdims=True)
            of_steps[i] = of_step.astype(of_steps.dtype)
            return total + _float32(steps_ref[i]) * target.product(features, gradient, (0, 0))

        total = jax.lax.fori_loop(0, s, add_step, jnp.zeros((c, QUERIES), jnp.float32))
        of_contracted[...] = total.astype(of_contracted.dtype)

    weights = (contracted, steps)
    return _call(
        rcda_backward_weights,
        grid=(b, n, q // QUERIES),
        inputs=(_tile(c), _tile(s, 1), _all(s, d, c), _tile(d)),
        outputs=(_tile(c), _tile(s, 1)),
        results=tuple(jax.ShapeDtypeStruct(array.shape, array.dtype) for array in weights),
        target=target,
    )(contracted, steps, value, gradient)


def backward_value(
    contracted: Float[Array, "b n c q"],
    steps: Float[Array, "b n s 1 q"],
    gradient: Float[Array, "b n d q"],
    target: Target,
) -> Float[Array, "b n s d c"]:
    """Gradient of the value. A program has some steps, and goes through all queries."""
    b, n, c, q = contracted.shape
    s, d = steps.shape[2], gradient.shape[2]

    def rcda_backward_value(contracted_ref, steps_ref, gradient_ref, of_value):
        def add_tile(i, total):
            here = pl.ds(pl.multiple_of(i * QUERIES, QUERIES), QUERIES)
            tile = contracted_ref[:, here]
            weighed = _float32(steps_ref[:, :, here]) * _float32(gradient_ref[:, here])[None]
            rows = weighed.astype(tile.dtype).reshape(STEPS * d, QUERIES)
            return total + target.product(rows, tile, (1, 1))

        start = jnp.zeros((STEPS * d, c), jnp.float32)
        total = jax.lax.fori_loop(0, q // QUERIES, add_tile, start)
        of_value[...] = total.reshape(STEPS, d, c).astype(of_value.dtype)

    return _call(
        rcda_backward_value,
        grid=(b, n, s // STEPS),
        inputs=(_all(c, q), _some_steps(1, q), _all(d, q)),
        outputs=_some_steps(d, c),
        results=jax.ShapeDtypeStruct((b, n, s, d, c), gradient.dtype),
        target=target,
    )(contracted, steps, gradient)


def _call(
    kernel: Callable[..., None],
    *,
    grid: tuple[int, ...],
    inputs: tuple[pl.BlockSpec, ...],
    outputs: Any,
    results: Any,
    target: Target,
) -> Callable[..., Any]:
    """A kernel over a grid of programs, whose first axes are images and heads."""
    parameters = None
    if target.platform in ("gpu", "cuda", "rocm"):
        from jax.experimental.pallas import triton  # not in every future JAX

        parameters = triton.CompilerParams(num_warps=_WARPS, num_stages=2)
    return pl.pallas_call(
        kernel,
        grid=grid,
        in_specs=inputs,
        out_specs=outputs,
        out_shape=results,
        interpret=target.platform == "cpu",
        compiler_params=parameters,
    )


def _tile(*sizes: int) -> pl.BlockSpec:
    """Of one image and head: all of axes of these sizes, and one tile of queries."""
    zeros = (0,) * len(sizes)
    return pl.BlockSpec((None, None, *sizes, QUERIES), lambda b, n, i: (b, n, *zeros, i))


def _some_steps(*sizes: int) -> pl.BlockSpec:
    """Of one image and head: some steps, and all of axes of these sizes."""
    zeros = (0,) * len(sizes)
    return pl.BlockSpec((None, None, STEPS, *sizes), lambda b, n, i: (b, n, i, *zeros))


def _all(*sizes: int) -> pl.BlockSpec:
    """Of one image and head: all of axes of these sizes."""
    zeros = (0,) * len(sizes)
    return pl.BlockSpec((None, None, *sizes), lambda b, n, i: (b, n, *zeros))


def _float32(x: Array) -> Array:
    return x.astype(jnp.float32)
