"""Row-column decoupled attention: against the reference, against the plain sum, and padded."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import NARROW, golden
from seeded_weights import seeded_array

from anchor_detr_jax.conversion.rules import attention_rules
from anchor_detr_jax.conversion.state_dict import to_state_dict, to_variables
from anchor_detr_jax.layers.rcda import RowColumnAttention, attend
from anchor_detr_jax.layers.rcda_forms import attend_in_chunks, attend_whole
from anchor_detr_jax.models.build import make_model
from anchor_detr_jax.training.config import train_config_from_dict
from anchor_detr_jax.variable_names import flatten

ATTENTION = RowColumnAttention(heads=8)
BLOCKS = ("query_row", "query_column", "key_row", "key_column", "value")
RULES = attention_rules("attn", "attn", BLOCKS)
INPUTS = ("query_row", "query_col", "key_row", "key_col", "value")
SHAPES = {
    "attn.in_proj_weight": (1280, 256),
    "attn.in_proj_bias": (1280,),
    "attn.out_proj.weight": (256, 256),
    "attn.out_proj.bias": (256,),
}


@pytest.fixture(scope="module", params=["wide", "tall"])
def case(request):
    """Inputs, parameters and expectations of a golden case, by the reference's names."""
    file = golden("rcda")
    arrays = {
        name.removeprefix(f"{request.param}/"): file[name]
        for name in file
        if name.startswith(request.param)
    }
    real = ~arrays["mask"]
    arrays["valid_hw"] = np.stack([real[:, :, 0].sum(1), real[:, 0, :].sum(1)], axis=1)
    tensors = {name: seeded_array(name, shape, int(file["seed"])) for name, shape in SHAPES.items()}
    arrays = {name: jnp.asarray(array) for name, array in arrays.items()}
    arguments = [arrays[name] for name in (*INPUTS, "valid_hw")]
    template = jax.eval_shape(lambda: ATTENTION.init(jax.random.key(0), *arguments))
    template = {"params": {"attn": template["params"]}}
    arrays["variables"] = to_variables(RULES, tensors, template)["params"]["attn"]
    return arrays


def as_the_reference_averages(inputs):
    """Keys that are the mean over everything already, padding included.

    That is the reference's fault that ours does not share: with these it must agree to the noise.
    """
    query_row, query_column, key_row, key_column, value = inputs
    key_row = jnp.broadcast_to(key_row.mean(1, keepdims=True), key_row.shape)
    key_column = jnp.broadcast_to(key_column.mean(2, keepdims=True), key_column.shape)
    return query_row, query_column, key_row, key_column, value


def apply(case, params, *inputs, **options):
    return ATTENTION.apply({"params": params}, *inputs, case["valid_hw"], **options)


def test_output_is_the_references(case):
    inputs = [case[name] for name in INPUTS]
    ours = apply(case, case["variables"], *inputs)
    np.testing.assert_allclose(ours[1], case["output"][1], atol=2e-6)  # the image without padding
    ours = apply(case, case["variables"], *as_the_reference_averages(inputs))
    np.testing.assert_allclose(ours, case["output"], atol=2e-6)


def test_mean_weights_are_the_references(case):
    inputs = as_the_reference_averages([case[name] for name in INPUTS])
    _, seen = apply(case, case["variables"], *inputs, mutable=["intermediates"])
    rows = seen["intermediates"]["row_weights"][0]
    columns = seen["intermediates"]["column_weights"][0]
    ours = jnp.einsum("bnqh,bnqw->qbhw", columns, rows) / ATTENTION.heads
    np.testing.assert_allclose(ours, case["weights"], atol=1e-6)


def test_gradients_are_the_references(case):
    def objective(params, *inputs):
        ours = apply(case, params, *as_the_reference_averages(inputs))
        return jnp.sum(ours * case["cotangent"])

    inputs = [case[name] for name in INPUTS]
    params, *ours = jax.grad(objective, argnums=tuple(range(6)))(case["variables"], *inputs)
    found = dict(zip(INPUTS, ours, strict=True))
    tensors = to_state_dict(RULES, {"params": {"attn": params}})
    found |= {name.removeprefix("attn."): tensor for name, tensor in tensors.items()}
    found["in_proj_weight"] = found["in_proj_weight"][:, ::32]
    for name, gradient in found.items():
        expected = case[f"grad/{name}"]
        np.testing.assert_allclose(
            gradient, expected, atol=2e-6 * np.abs(expected).max(), err_msg=name
        )


def inputs(*, b, n, q, h, w, d):
    """A gradient of the result, both weights, and a value."""
    rng = np.random.default_rng(0)
    rows, columns = rng.uniform(size=(b, n, q, w)), rng.uniform(size=(b, n, q, h))
    value, gradient = rng.normal(size=(b, h, w, n, d)), rng.normal(size=(b, q, n, d))
    return [jnp.asarray(array, jnp.float32) for array in (gradient, rows, columns, value)]


def with_gradients(function, gradient, *arrays):
    """The result, and the gradients of both weights and of the value."""
    result, backward = jax.vjp(function, *arrays)
    return (result, *backward(gradient))


def exact(*arrays):
    """The same by the definition, in float64."""
    gradient, rows, columns, value = (np.asarray(array, np.float64) for array in arrays)
    return (
        np.einsum("bnqw,bnqh,bhwnd->bqnd", rows, columns, value),
        np.einsum("bqnd,bnqh,bhwnd->bnqw", gradient, columns, value),
        np.einsum("bqnd,bnqw,bhwnd->bnqh", gradient, rows, value),
        np.einsum("bqnd,bnqw,bnqh->bhwnd", gradient, rows, columns),
    )


FORMS = {
    **{name: partial(attend, impl=name) for name in ("scan", "whole", "chunks")},
    "four queries at a time": partial(attend_in_chunks, chunk_bytes=4 * 4 * 3 * 5 * 3),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("height", "width"), [(3, 8), (8, 3), (1, 5)])
def test_attend_is_the_plain_sum(form, height, width):
    arrays = inputs(b=2, n=3, q=6, h=height, w=width, d=5)
    ours = jax.jit(partial(with_gradients, FORMS[form]))(*arrays)
    for array, expected in zip(ours, exact(*arrays), strict=True):
        np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_bfloat16_is_summed_in_float32(form):
    """Of gradients too: what loops share is not rounded at each of their turns."""
    arrays = [array.astype(jnp.bfloat16) for array in inputs(b=1, n=3, q=60, h=40, w=50, d=5)]
    ours = jax.jit(partial(with_gradients, FORMS[form]))(*arrays)
    for array, expected in zip(ours, exact(*arrays), strict=True):
        assert array.dtype == jnp.bfloat16
        apart = np.asarray(array, np.float64) - expected
        assert np.sqrt(np.mean(apart**2) / np.mean(expected**2)) < 0.003


@pytest.mark.parametrize(("platform", "form"), [("cpu", "scan"), ("gpu", "chunks")])
def test_auto_chooses_by_the_device(monkeypatch, platform, form):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    arrays = inputs(b=1, n=1, q=2, h=2, w=3, d=2)[1:]
    chosen, auto = (jax.make_jaxpr(partial(attend, impl=name))(*arrays) for name in (form, "auto"))
    assert str(chosen) == str(auto)


def test_unknown_form():
    arrays = inputs(b=1, n=1, q=1, h=1, w=1, d=1)[1:]
    says = r"rcda_impl is 'fast', and must be one of .*'scan', 'whole', 'chunks', 'pallas'"
    with pytest.raises(ValueError, match=says):
        attend(*arrays, impl="fast")
    with pytest.raises(ValueError, match=says):
        make_model(NARROW, rcda_impl="fast")
    with pytest.raises(ValueError, match=says):
        train_config_from_dict({"rcda_impl": "fast"})


def test_chunks_hold_what_they_are_told():
    """For 16 MiB an image: two of them, and what the backward pass makes of them."""
    arrays = jax.eval_shape(lambda: inputs(b=2, n=8, q=3000, h=40, w=48, d=32))
    form = partial(attend_in_chunks, chunk_bytes=16 * 2**20)
    compiled = jax.jit(partial(with_gradients, form)).lower(*arrays).compile()
    whole = jax.jit(partial(with_gradients, attend_whole)).lower(*arrays).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 2 * 4 * 16 * 2**20
    assert whole.memory_analysis().temp_size_in_bytes > 2 * 2 * 4 * 3000 * 40 * 256


def test_padding_is_not_looked_at(case):
    """The first image of the case is partly padded; anything may stand there."""
    before = apply(case, case["variables"], *(case[name] for name in INPUTS))
    padding = case["mask"][..., None]
    changed = [
        jnp.where(padding, 1e3, case[name]) if case[name].ndim == 4 else case[name]
        for name in INPUTS
    ]
    after = apply(case, case["variables"], *changed)
    np.testing.assert_allclose(after, before, atol=1e-6)
    assert case["mask"].any()


def test_no_intermediate_of_the_size_of_queries_times_rows():
    """Compiled for 1000 queries on 32 x 48, the largest temporary is far below Q x H x E."""
    q, h, w, e = 1000, 32, 48, 256
    attention = RowColumnAttention(heads=4)
    query, keys = jnp.zeros((1, q, e)), jnp.zeros((1, h, w, e))
    arguments = (query, query, keys, keys, keys, jnp.array([[h, w]]))
    params = attention.init(jax.random.key(0), *arguments)

    def objective(params, *arguments):
        return jnp.sum(attention.apply(params, *arguments) ** 2)

    compiled = jax.jit(jax.grad(objective)).lower(params, *arguments).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * q * h * e / 2
    assert set(flatten(params)) >= {"params/key_row/kernel", "params/out/bias"}
