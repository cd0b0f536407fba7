"""The translation from JAX to ONNX: onnxruntime computes what JAX does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

pytest.importorskip("onnx", reason='needs ONNX: pip install "anchor_detr_jax[onnx]"')
onnxruntime = pytest.importorskip("onnxruntime", reason="comes with the extra [onnx]")

import onnx  # noqa: E402

from anchor_detr_jax.export.onnx_graph import onnx_model  # noqa: E402

WEIGHT = np.linspace(-1, 1, 3 * 3 * 4 * 6, dtype=np.float32).reshape(3, 3, 4, 6)
MATRIX = np.linspace(-1, 2, 24, dtype=np.float32).reshape(4, 6)


def translated(function, *shapes):
    """The checked model of a function without weights."""
    names = [f"in{i}" for i in range(len(shapes))]
    outputs = jax.tree.leaves(jax.eval_shape(function, *shapes))
    model = onnx_model(
        jax.make_jaxpr(function)(*shapes),
        [],
        inputs=names,
        outputs=[f"out{i}" for i in range(len(outputs))],
        name="test",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def check(model, function, *arrays):
    session = onnxruntime.InferenceSession(model.SerializeToString())
    found = session.run(None, {f"in{i}": array for i, array in enumerate(arrays)})
    for one, right in zip(found, jax.tree.leaves(function(*arrays)), strict=True):
        right = np.asarray(right)
        assert one.dtype == right.dtype
        np.testing.assert_allclose(one, right, rtol=2e-6, atol=2e-6)


def random(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def convolved(x, stride=1, dilation=1, pad=1):
    return jax.lax.conv_general_dilated(
        x,
        WEIGHT,
        (stride, stride),
        [(pad, pad + 1), (0, pad)],
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def norm(x):
    centred = x - x.mean(-1, keepdims=True)
    normal = centred * (jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * MATRIX[0])
    return normal + MATRIX[1]


def pooled(x):
    padded = jnp.pad(jax.nn.relu(x), ((0, 0), (1, 1), (1, 1), (0, 0)))
    return jax.lax.reduce_window(padded, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "VALID")


def pooled_in_pairs(x, axes=(1, 2)):
    """What `pooled` does, of even sizes."""
    x = jax.nn.relu(convolved(x))
    for axis in axes:
        first, second = jnp.unstack(
            x.reshape(*x.shape[:axis], -1, 2, *x.shape[axis + 1 :]), axis=axis + 1
        )
        before = jax.lax.slice_in_dim(second, 0, second.shape[axis] - 1, axis=axis)
        before = jnp.pad(before, [(int(i == axis), 0) for i in range(4)])
        x = jnp.maximum(jnp.maximum(first, second), before)
    return x


def nearly_pooled(x):
    """Of a pair, its first is taken twice; and the pair after it."""
    first, second = jnp.unstack(x.reshape(2, 4, 2, 6, 4), axis=2)
    before = jnp.pad(first[:, :-1], ((0, 0), (1, 0), (0, 0), (0, 0)))
    after = jnp.pad(second[:, 1:], ((0, 0), (0, 1), (0, 0), (0, 0)))
    two = jnp.maximum(first, second)
    return jnp.maximum(two, before), jnp.maximum(two, after)


def pointwise(x):
    y = jax.nn.relu(convolved(x))
    seen = jax.lax.slice(y, (0, 0, 0, 0), y.shape, (1, 2, 2, 1))
    return jnp.einsum("bhwc,dc->bhwd", seen, MATRIX) + MATRIX[:, 0]


MAP = (2, 9, 7, 4)
CASES = {
    "convolution": (convolved, MAP),
    "convolution, strided": (lambda x: convolved(x, stride=2, pad=0), MAP),
    "convolution, dilated": (lambda x: convolved(x, dilation=2, pad=2) + MATRIX[0], MAP),
    "convolutions, of one pixel": (pointwise, MAP),
    "residual": (lambda x: x + jnp.maximum(jnp.sin(x), -x), MAP),
    "max pool": (pooled, MAP),
    "max pool, in pairs": (pooled_in_pairs, MAP),
    "max pool, in pairs of columns": (lambda x: pooled_in_pairs(x, [2]), MAP),
    "max pool, columns first": (lambda x: pooled_in_pairs(x, [2, 1]), MAP),
    "maxima of other pairs": (nearly_pooled, (2, 8, 6, 4)),
    "layer norm": (norm, (2, 3, 6)),
    "softmax": (lambda x: jax.nn.softmax(jnp.where(x > 0, x, -jnp.inf), axis=1), (2, 40, 3)),
    "product, several sums": (lambda x: jnp.einsum("bhwc,dhwc->bd", x, x), MAP),
    "product, of heads": (lambda x: jnp.einsum("bqnd,bknd->bnqk", x, x[:, :3]), (2, 5, 3, 4)),
    "product, outer": (lambda x: jnp.einsum("bnqw,bhwd->bnqhd", x, x), (2, 3, 7, 7)),
    "product, no free axis": (lambda x: jnp.einsum("bnqh,bnqh->bnq", x, x), MAP),
    "product, of a repeated": (
        lambda x: jnp.einsum("bqe,bke->bqk", jnp.broadcast_to(x[:1], x.shape), x),
        (3, 5, 4),
    ),
    "reductions": (lambda x: (x.max((1, 2)), x.min(3), x.sum((0, 3)), x.mean(1)), MAP),
    "repeated, then reduced": (lambda x: jnp.broadcast_to(x[:, None], (2, 5, 3)).sum(1), (2, 3)),
    "moved": (lambda x: jnp.moveaxis(x, 1, 3).reshape(2, -1, 9)[:, 1:-1, ::-1], MAP),
    "moved, then added": (
        lambda x: (x.swapaxes(1, 2) + x[0, :7, :, :1]).swapaxes(0, 3),
        (2, 7, 7, 4),
    ),
    "cut in pairs": (
        lambda x: jnp.maximum(*jnp.unstack(convolved(x)[:, 1:].reshape(2, 6, 2, -1, 6), axis=2)),
        (2, 12, 7, 4),
    ),
    "joined": (lambda x: jnp.stack([jnp.tile(x, (1, 2)), jnp.concatenate([x, x], 1)], 1), (2, 3)),
    "at places": (
        lambda x: jnp.take_along_axis(x, jnp.argsort(-MATRIX[:2, :3])[..., None], axis=1),
        (2, 5, 4),
    ),
    "of a table": (lambda x: jnp.asarray(MATRIX)[(x[:, :2] > 0).astype(int)], (2, 3)),
    "the best": (lambda x: jax.lax.top_k(x.reshape(2, -1), 7), (2, 5, 4)),
    "whole numbers, divided": (lambda x: jnp.floor(9 * x).astype(jnp.int32) // 4, (3, 12)),
    "a bound of nothing": (lambda x: jnp.clip(x, 0, 1) * ~jnp.zeros((3,), bool), (2, 3)),
    "constants alone": (lambda x: x * 0 + jnp.arange(12.0).reshape(3, 4).T.ravel()[:3], (2, 3)),
}


@pytest.mark.parametrize("case", CASES)
def test_it_computes_what_jax_does(case):
    function, shape = CASES[case]
    model = translated(function, jax.ShapeDtypeStruct(shape, jnp.float32))
    check(model, function, random(*shape))


def symbolic(x):
    b, h, w, c = x.shape
    below, right = -h % 4, (w + 3) // 4 * 4 - w
    x = jnp.pad(x, ((0, 0), (0, below), (0, right), (0, 0)), constant_values=2.0)
    places = (jnp.arange(x.shape[2]) + 0.5) / w
    rows = jnp.broadcast_to(x.mean(1)[:, None], x.shape).reshape(b, -1, c)
    return rows + (x * places[:, None]).reshape(b, -1, c)[..., 1:2]


@pytest.mark.parametrize("shape", [(1, 5, 8, 3), (3, 4, 1, 3), (2, 11, 6, 3)])
def test_sizes_may_be_symbolic(shape):
    b, h, w = export.symbolic_shape("b,h,w")
    model = translated(symbolic, jax.ShapeDtypeStruct((b, h, w, 3), jnp.float32))
    check(model, symbolic, random(*shape))


def operators(function, shape):
    model = translated(function, jax.ShapeDtypeStruct(shape, jnp.float32))
    return [node.op_type for node in model.graph.node]


def test_graphs_are_clean():
    """Groups are one operator, constants are computed once, and maps are transposed once."""
    assert operators(norm, (2, 3, 6)) == ["LayerNormalization", "Identity"]
    assert operators(lambda x: jax.nn.softmax(x, 1), (2, 3)) == ["Softmax", "Identity"]
    ends = ["Transpose", "Identity"]
    assert operators(lambda x: convolved(x) + MATRIX[0], MAP) == ["Transpose", "Conv", *ends]
    assert operators(pointwise, MAP) == ["Transpose", "Conv", "Relu", "Conv", *ends]
    in_pairs = operators(pooled_in_pairs, MAP)
    assert in_pairs == ["Transpose", "Conv", "Relu", "Pad", "MaxPool", *ends]
    two = lambda x: convolved(jax.nn.relu(convolved(x))[..., :4])  # noqa: E731
    assert operators(two, MAP) == ["Transpose", "Conv", "Relu", "Slice", "Conv", *ends]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (jnp.cumsum, "cumsum"),
        (lambda x: jax.lax.fori_loop(0, x.shape[0], lambda i, y: y + i, x), "scan|while"),
        (lambda x: x.at[0].set(1.0), "scatter"),
        (lambda x: jnp.take(x, jnp.argmax(x)[None], mode="clip"), "argmax|clipped"),
        (lambda x: x**3, "y=3"),
    ],
)
def test_what_it_does_not_know_it_refuses(function, words):
    with pytest.raises(ValueError, match=rf"({words}).*no translation"):
        translated(function, jax.ShapeDtypeStruct((4,), jnp.float32))


def test_a_padded_max_pool_is_refused():
    padded = lambda x: jax.lax.reduce_window(  # noqa: E731
        x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME"
    )
    with pytest.raises(ValueError, match="pad first"):
        translated(padded, jax.ShapeDtypeStruct(MAP, jnp.float32))
