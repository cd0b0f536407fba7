"""Convolutions whose gradients are fast on every device."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype
from jaxtyping import Array, Float

from anchor_detr_jax.layers.winograd import winograd

__all__ = ["Convolution", "convolved"]

_CHANNELS, _POSITIONS = 64, 256
"""From so many channels and output positions on, sums of matrix products are faster on the CPU."""


_FEW_CHANNELS = 4
"""Up to so many channels, a convolution of stride 2 is faster with columns taken in pairs."""


_WINOGRAD_CHANNELS = 256
"""With fewer, what Winograd's way adds takes longer than what it spares."""


class Convolution(nn.Module):
    """A square convolution; zeros stand around the map, as many as it reaches out.

    Attributes:
        features: channels that come out.
        size: side of the kernel, an odd number.
        stride: step from one output to the next.
        dilation: step from one kernel position to the next.
        bias: whether a number is added to each of the features.
        by_winograd: where it is faster on a CPU; not in training.
        dtype: what is computed in; None: as what comes in.
    """

    features: int
    size: int
    stride: int = 1
    dilation: int = 1
    bias: bool = False
    by_winograd: bool = False
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b i j d"]:
        shape = (self.size, self.size, x.shape[-1], self.features)
        initial = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
        kernel = self.param("kernel", initial, shape)
        x, kernel = promote_dtype(x, kernel, dtype=self.dtype)
        if self.by_winograd and _is_for_winograd(kernel, self.stride):
            y = winograd(x, kernel, self.dilation)
        else:
            y = convolved(x, kernel, self.stride, self.dilation)
        if not self.bias:
            return y
        return y + self.param("bias", nn.initializers.zeros, (self.features,)).astype(y.dtype)


def _is_for_winograd(kernel: Float[Array, "k k c d"], stride: int) -> bool:
    """In less than float32 its sums round too much."""
    size, _, *channels = kernel.shape
    return (
        (size, stride) == (3, 1)
        and min(channels) >= _WINOGRAD_CHANNELS
        and kernel.dtype == jnp.float32
    )


def convolved(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k c d"], stride: int, dilation: int
) -> Float[Array, "b i j d"]:
    """A convolution; that of a single pixel is a matrix product, which XLA does not see itself."""
    if kernel.shape[0] == 1:
        # Where sizes are symbolic, an index would become a gather.
        seen = jax.lax.slice(x, (0, 0, 0, 0), x.shape, (1, stride, stride, 1))
        return jnp.einsum("bhwc,cd->bhwd", seen, kernel[0, 0])
    few = x.shape[-1] <= _FEW_CHANNELS and (stride, dilation) == (2, 1)
    if few and isinstance(x.shape[2], int) and x.shape[2] % 2 == 0:
        return _over_pairs(x, kernel)
    return _spatial(x, kernel, stride, dilation)


def _over_pairs(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k c d"]
) -> Float[Array, "b i j d"]:
    """A convolution of stride 2, with two columns of pixels as one of twice the channels.

    Three channels are few to multiply at a time.
    """
    b, h, w, c = x.shape
    size, reach = kernel.shape[0], kernel.shape[0] // 2
    # A kernel of an even number of columns, that starts with the first of a pair.
    even = jnp.pad(kernel, ((0, 0), (reach % 2, 1 - reach % 2), (0, 0), (0, 0)))
    pairs, left = (size + 1) // 2, (reach + 1) // 2
    return jax.lax.conv_general_dilated(
        x.reshape(b, h, w // 2, 2 * c),
        even.reshape(size, pairs, 2 * c, -1),
        (2, 1),
        [(reach, reach), (left, pairs - 1 - left)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _plain(x, kernel, stride: int, dilation: int):
    reach = dilation * (kernel.shape[0] // 2)
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(reach, reach)] * 2,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


_spatial = jax.custom_vjp(_plain, nondiff_argnums=(2, 3))


def _forward(x, kernel, stride: int, dilation: int):
    return _plain(x, kernel, stride, dilation), (x, kernel)


def _backward(stride: int, dilation: int, saved, gradient):
    x, kernel = saved
    (of_x,) = jax.vjp(lambda x: _plain(x, kernel, stride, dilation), x)[1](gradient)

    def by_convolution(x, gradient):
        (of_kernel,) = jax.vjp(lambda k: _plain(x, k, stride, dilation), kernel)[1](gradient)
        return of_kernel

    _, height, width, _ = gradient.shape
    if min(x.shape[-1], gradient.shape[-1]) < _CHANNELS or height * width < _POSITIONS:
        return of_x, by_convolution(x, gradient)
    size = kernel.shape[0]
    by_products = partial(_kernel_gradient, size=size, stride=stride, dilation=dilation)
    return of_x, jax.lax.platform_dependent(x, gradient, cpu=by_products, default=by_convolution)


_spatial.defvjp(_forward, _backward)


def _kernel_gradient(
    x: Float[Array, "b h w c"],
    gradient: Float[Array, "b i j d"],
    *,
    size: int,
    stride: int,
    dilation: int,
) -> Float[Array, "k k c d"]:
    """The gradient of a kernel as a matrix product for each of its rows.

    To XLA's CPU backend it is a convolution with a kernel as large as the map, for which it has no
    fast way.
    """
    b, _, _, c = x.shape
    height, width, d = gradient.shape[1:]
    reach = dilation * (size // 2)
    padded = jnp.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))

    def seen_by(row: int, column: int) -> Float[Array, "b i j c"]:
        top, left = row * dilation, column * dilation
        bottom, right = top + (height - 1) * stride + 1, left + (width - 1) * stride + 1
        return jax.lax.slice(
            padded, (0, top, left, 0), (b, bottom, right, c), (1, stride, stride, 1)
        )

    rows = [
        jnp.einsum(
            "bijc,bijd->cd",
            jnp.concatenate([seen_by(row, column) for column in range(size)], axis=-1),
            gradient,
        )
        for row in range(size)
    ]
    return jnp.stack(rows).reshape(size, size, c, d)
