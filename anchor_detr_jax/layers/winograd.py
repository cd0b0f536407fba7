"""Convolutions of 3x3 with fewer multiplications, for CPUs.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016), F(2x2, 3x3).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from anchor_detr_jax.layers.waiting import zero_after

__all__ = ["winograd"]

_OF_KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)
"""What inputs are multiplied with, of each three numbers of a kernel in a row."""


def winograd(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c d"], dilation: int = 1
) -> Float[Array, "b h w d"]:
    """A convolution of stride 1, zeros around the map: 16 multiplications for 4 outputs, not 36.

    What is added before and after outweighs that where channels are few. Its rounding is larger
    than that of a plain sum, by little in float32 and by too much in bfloat16.

    Args:
        x: the map.
        kernel: of 3x3.
        dilation: step from one kernel position to the next.
    """
    if dilation == 1:
        return _four_at_a_time(x, kernel)
    b, h, w, c = x.shape
    n = dilation
    x = jnp.pad(x, ((0, 0), (0, -h % n), (0, -w % n), (0, 0)))
    rows, columns = x.shape[1] // n, x.shape[2] // n
    # Each n-th row and column is a map of its own.
    x = x.reshape(b, rows, n, columns, n, c).transpose(0, 2, 4, 1, 3, 5)
    y = _four_at_a_time(x.reshape(b * n * n, rows, columns, c), kernel)
    y = y.reshape(b, n, n, rows, columns, -1).transpose(0, 3, 1, 4, 2, 5)
    return y.reshape(b, rows * n, columns * n, -1)[:, :h, :w]


def _four_at_a_time(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c d"]
) -> Float[Array, "b h w d"]:
    """Outputs in squares of 2x2, each from a square of 4x4."""
    b, h, w, c = x.shape
    # In one product: 16 sums of up to nine parts are hundreds of instructions to XLA. And not
    # before the map is there: kernels are large, once they are transformed.
    of_kernel = np.kron(_OF_KERNEL, _OF_KERNEL) + zero_after(x)
    kernels = (of_kernel @ kernel.reshape(9, -1)).reshape(16, c, -1)
    x = jnp.pad(x, ((0, 0), (1, 1 + h % 2), (1, 1 + w % 2), (0, 0)))
    seen = [part for rows in _of_inputs(x, 1) for part in _of_inputs(rows, 2)]
    squares = seen[0].shape[1:3]
    products = [
        (part.reshape(-1, c) @ weight).reshape(b, *squares, -1)
        for part, weight in zip(seen, kernels, strict=True)
    ]
    by_column = [_of_products(products[i : i + 4]) for i in range(0, 16, 4)]
    left, right = (_of_products(list(column)) for column in zip(*by_column, strict=True))
    y = jnp.stack([jnp.stack(pair, axis=3) for pair in zip(left, right, strict=True)], axis=2)
    return y.reshape(b, 2 * squares[0], 2 * squares[1], -1)[:, :h, :w]


def _of_inputs(x: Float[Array, "b h w c"], axis: int) -> list[Array]:
    """What is multiplied, of each four inputs in a row; the next four start two further on."""
    count = x.shape[axis] // 2 - 1

    def every_second(start: int) -> Array:
        return jax.lax.slice_in_dim(x, start, start + 2 * count - 1, 2, axis)

    a, b, c, d = map(every_second, range(4))
    return [a - c, b + c, c - b, b - d]


def _of_products(products: list[Array]) -> list[Array]:
    """Two outputs in a row."""
    a, b, c, d = products
    return [a + b + c, b - c - d]
