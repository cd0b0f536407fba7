"""Convolutions and their gradients, against XLA's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anchor_detr_jax.layers.convolution import Convolution, convolved
from anchor_detr_jax.layers.winograd import winograd


def by_xla(x, kernel, stride, dilation):
    reach = dilation * (kernel.shape[0] // 2)
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(reach, reach)] * 2,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


CASES = [
    # size, stride, dilation, channels in and out; above and below where products take over
    (1, 1, 1, 5, 7),
    (1, 2, 1, 6, 4),
    (3, 1, 1, 64, 72),
    (3, 2, 1, 64, 64),
    (3, 1, 2, 80, 64),
    (3, 1, 1, 5, 72),
    (7, 2, 1, 3, 8),
    (5, 2, 3, 66, 64),
]


@pytest.mark.parametrize(("size", "stride", "dilation", "c", "d"), CASES)
@pytest.mark.parametrize("hw", [(17, 20), (35, 38)])
def test_values_and_gradients(size, stride, dilation, c, d, hw):
    rng = np.random.default_rng(size + stride + c)
    x = jnp.asarray(rng.normal(size=(2, *hw, c)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(size, size, c, d)), jnp.float32)

    def both(function):
        value, pull = jax.vjp(lambda x, k: function(x, k, stride, dilation), x, kernel)
        cotangent = jnp.cos(jnp.arange(value.size, dtype=jnp.float32)).reshape(value.shape)
        return value, *pull(cotangent)

    for ours, theirs in zip(
        jax.jit(lambda: both(convolved))(), jax.jit(lambda: both(by_xla))(), strict=True
    ):
        assert ours.shape == theirs.shape
        scale = float(jnp.abs(theirs).max())
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * scale, rtol=0)


def test_large_kernel_gradients_are_no_convolution_on_the_cpu():
    x, kernel = jnp.ones((1, 20, 20, 64)), jnp.ones((3, 3, 64, 64))

    def gradient(kernel):
        return jax.grad(lambda kernel: convolved(x, kernel, 1, 1).sum())(kernel)

    program = jax.jit(gradient).lower(kernel).compile().as_text()
    assert "window={size=20x20" not in program


def test_the_module_computes_in_its_type():
    module = Convolution(8, 3, dtype=jnp.bfloat16)
    x = jnp.ones((1, 6, 6, 4))
    variables = module.init(jax.random.key(0), x)
    assert variables["params"]["kernel"].shape == (3, 3, 4, 8)
    assert variables["params"]["kernel"].dtype == jnp.float32
    assert module.apply(variables, x).dtype == jnp.bfloat16


@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("hw", [(8, 12), (7, 10), (9, 13), (1, 2), (1, 1)])
def test_winograd_is_the_same_convolution(hw, dilation):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, *hw, 32)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 32, 24)) / 17, jnp.float32)
    found = winograd(x, kernel, dilation)
    np.testing.assert_allclose(found, by_xla(x, kernel, 1, dilation), atol=5e-6)


@pytest.mark.parametrize(
    ("channels", "stride", "dtype", "expected"),
    [
        (256, 1, jnp.float32, True),
        (128, 1, jnp.float32, False),
        (256, 2, jnp.float32, False),
        (256, 1, jnp.bfloat16, False),
    ],
)
def test_winograd_where_it_is_faster_and_rounds_little(channels, stride, dtype, expected):
    x = jnp.ones((1, 8, 8, channels), dtype)
    layer = Convolution(channels, 3, stride=stride, by_winograd=True, dtype=dtype)
    variables = jax.eval_shape(layer.init, jax.random.key(0), x)
    jaxpr = str(jax.make_jaxpr(layer.apply)(variables, x))
    assert ("conv_general_dilated" not in jaxpr) == expected


def test_winograds_kernels_are_not_all_made_at_once():
    """Transformed, each takes 4 MiB: those of six layers are never in memory together."""

    def run(x, kernels):
        for kernel in kernels:
            x = winograd(x, kernel)
        return x

    kernels = [jnp.ones((3, 3, 256, 256))] * 6
    program = jax.jit(run).lower(jnp.ones((1, 4, 4, 256)), kernels).compile()
    assert program.memory_analysis().temp_size_in_bytes < 4 * 16 * 256 * 256 * 4
