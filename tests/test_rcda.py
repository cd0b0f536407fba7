"""Row-column decoupled attention: against the reference, against the plain sum, and padded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import golden
from seeded_weights import seeded_array

from anchor_detr_jax.conversion.anchor_detr import attention_rules
from anchor_detr_jax.conversion.state_dict import to_state_dict, to_variables
from anchor_detr_jax.layers.rcda import RowColumnAttention, attend
from anchor_detr_jax.variable_names import flatten

ATTENTION = RowColumnAttention(heads=8)
RULES = attention_rules("attn", "attn", "rcda")
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


@pytest.mark.parametrize(("height", "width"), [(3, 8), (8, 3), (1, 5), (4, 4)])
def test_attend_is_the_plain_sum(height, width):
    rng = np.random.default_rng(0)
    rows = rng.uniform(size=(2, 3, 6, width)).astype(np.float32)
    columns = rng.uniform(size=(2, 3, 6, height)).astype(np.float32)
    value = rng.normal(size=(2, height, width, 3, 5)).astype(np.float32)
    expected = np.einsum("bnqw,bnqh,bhwnd->bqnd", rows, columns, value)
    ours = attend(jnp.asarray(rows), jnp.asarray(columns), jnp.asarray(value))
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


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
