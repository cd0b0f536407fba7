"""RCDA's Pallas kernels: interpreted against the plain sum, and lowered for GPUs and TPUs."""

import math
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import NARROW, make_detector
from test_model_options import images, losses_and_gradients  # noqa: F401
from test_rcda import exact, inputs, with_gradients

from anchor_detr_jax.layers.rcda_kernel import attend_by_kernel
from anchor_detr_jax.models.build import make_model

PROGRAM = Path(__file__).with_name("rcda_on_devices.py")
SHAPES = [
    {"b": 2, "n": 3, "q": 130, "h": 5, "w": 9, "d": 8},  # a second tile of two queries
    {"b": 1, "n": 2, "q": 128, "h": 33, "w": 3, "d": 32},  # high; exactly one tile
    {"b": 1, "n": 1, "q": 1, "h": 1, "w": 1, "d": 1},
    {"b": 1, "n": 1, "q": 3, "h": 17, "w": 20, "d": 20},  # two powers of two contracted
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernels_are_the_plain_sum(shape):
    arrays = inputs(**shape)
    ours = jax.jit(partial(with_gradients, attend_by_kernel))(*arrays)
    for array, expected in zip(ours, exact(*arrays), strict=True):
        np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_kernels_in_bfloat16_round_once_or_twice():
    arrays = [array.astype(jnp.bfloat16) for array in inputs(b=1, n=2, q=200, h=20, w=30, d=16)]
    ours = jax.jit(partial(with_gradients, attend_by_kernel))(*arrays)
    for array, expected in zip(ours, exact(*arrays), strict=True):
        assert array.dtype == jnp.bfloat16
        apart = np.asarray(array, np.float64) - expected
        assert np.sqrt(np.mean(apart**2) / np.mean(expected**2)) < 0.003


def test_kernels_do_not_see_padding():
    """Weights of padding are zero: what stands there changes nothing, and gets no gradient."""
    gradient, rows, columns, value = inputs(b=1, n=2, q=5, h=6, w=7, d=4)
    rows, columns = rows.at[..., 5:].set(0), columns.at[..., 4:].set(0)
    real = jnp.zeros((6, 7), bool).at[:4, :5].set(True)[None, :, :, None, None]
    ours = jax.jit(partial(with_gradients, attend_by_kernel))
    before = ours(gradient, rows, columns, value)
    after = ours(gradient, rows, columns, jnp.where(real, value, 1e4))
    np.testing.assert_array_equal(after[0], before[0])
    np.testing.assert_array_equal(after[1][..., :5], before[1][..., :5])
    np.testing.assert_array_equal(after[2][..., :4], before[2][..., :4])
    np.testing.assert_array_equal(after[3], before[3])
    assert not np.any(np.where(real, 0, after[3]))


def lowered(platform, dtype, *, b=1, q=4200, h=50, w=84) -> str:
    """The program for R50-DC5's encoder at 800 x 1344: its sum and gradients."""
    if platform == "cuda":
        pytest.importorskip("jax.experimental.pallas.triton", reason="JAX will remove it")
    n, d = 8, 32
    shapes = ((b, q, n, d), (b, n, q, w), (b, n, q, h), (b, h, w, n, d))
    arrays = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
    function = partial(with_gradients, partial(attend_by_kernel, platform=platform))
    return jax.jit(function).trace(*arrays).lower(lowering_platforms=(platform,)).as_text()


KERNEL = {"cuda": "__gpu$xla.gpu.triton", "tpu": "@tpu_custom_call"}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("platform", KERNEL)
def test_kernels_are_lowered(platform, dtype):
    """No such device is needed for that; whether they are fast there, only one can say."""
    for precision in (None, "float32", "tensorfloat32"):
        with jax.default_matmul_precision(precision):
            assert lowered(platform, dtype).count(KERNEL[platform]) == 3


@pytest.mark.parametrize("shape", [{"h": 84, "w": 50}, {"b": 2, "q": 900, "h": 25, "w": 42}])
def test_nothing_large_is_in_device_memory(shape):
    """Every array of the program is far from queries x rows x features."""
    program = lowered("tpu", jnp.float32, **shape)
    sizes = [math.prod(map(int, dims.split("x"))) for dims in re.findall(r"<([\dx]+)x", program)]
    sizes_of = {"b": 1, "q": 4200} | shape
    large = sizes_of["b"] * sizes_of["q"] * min(shape["h"], shape["w"]) * 256
    assert len(sizes) > 10
    assert sizes_of["b"] * sizes_of["q"] * 256 < max(sizes) < large / 10


def test_precision_is_that_of_the_caller():
    """Also in kernels that are traced later, for several devices or as gradients."""
    arrays = inputs(b=1, n=1, q=2, h=2, w=2, d=2)

    def products(precision):
        with jax.default_matmul_precision(precision):
            traced = jax.make_jaxpr(partial(with_gradients, attend_by_kernel))(*arrays)
        return re.findall(r"precision=\(Precision.(\w+)", str(traced))

    assert products("float32") == 4 * ["HIGHEST"]
    assert products("tensorfloat32") == 4 * ["HIGH"]


@pytest.mark.slow  # a process with devices of its own
def test_each_device_has_its_own_images(tmp_path):
    subprocess.run(
        [sys.executable, PROGRAM, tmp_path / "found.npz"],
        check=True,
        env=os.environ
        | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"},
    )
    with np.load(tmp_path / "found.npz") as file:
        found = dict(file)
    assert found["kept"]
    assert not found["said"].size, found["said"]
    for way in ("cut by XLA", "cut by hand"):
        for i in range(4):
            np.testing.assert_allclose(found[f"{way}/{i}"], found[f"one device/{i}"], atol=1e-5)


@pytest.mark.slow  # a whole model with its gradients, compiled once for each
@pytest.mark.parametrize("options", [{"rcda_impl": "pallas"}, {"rcda_impl": "chunks"}], ids=str)
def test_a_model_has_the_same_gradients(images, options):  # noqa: F811
    variables = make_detector(NARROW).variables
    expected = losses_and_gradients(make_model(NARROW, rcda_impl="scan"), variables, images)
    for remat in ("none", "layers"):
        model = make_model(NARROW, remat=remat, **options)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(
                a, b, rtol=1e-4, atol=1e-5 * (1 + np.abs(a).max())
            ),
            *(expected, losses_and_gradients(model, variables, images)),
        )
