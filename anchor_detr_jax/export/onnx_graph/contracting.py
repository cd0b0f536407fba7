"""Operators that sum over axes: products of matrices, convolutions, reductions, pooling."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax

from anchor_detr_jax.export.onnx_graph.dimensions import Dim, is_static
from anchor_detr_jax.export.onnx_graph.graph import Graph, Value
from anchor_detr_jax.export.onnx_graph.rearranging import reshaped
from anchor_detr_jax.export.onnx_graph.rules import Equation, RefusedError, Rule

__all__ = ["RULES"]

_CHANNELS_SECOND = (0, 3, 1, 2)
"""How ONNX wants the maps that JAX has as NHWC."""


def _dot_general(graph: Graph, equation: Equation, left: Value, right: Value) -> Value:
    (left_sum, right_sum), (left_batch, right_batch) = equation.params["dimension_numbers"]
    preferred = equation.params["preferred_element_type"]
    if not equation.dtype == left.dtype == right.dtype or preferred not in (None, equation.dtype):
        raise RefusedError(f"from {left.dtype} and {right.dtype} to {equation.dtype}")
    left_shape, right_shape = equation.in_shapes
    left = graph.repeated(left, left_sum, left_shape)
    right = graph.repeated(right, right_sum, right_shape)
    if left.order == _CHANNELS_SECOND and left_sum == (3,) and right.rank == 2:
        return _pointwise_convolution(graph, equation, left, right, right_sum[0])
    left_free = [a for a in range(left.rank) if a not in (*left_sum, *left_batch)]
    right_free = [a for a in range(right.rank) if a not in (*right_sum, *right_batch)]
    left = graph.ordered(left, (*left_batch, *left_free, *left_sum))
    right = graph.ordered(right, (*right_batch, *right_sum, *right_free))
    simple = len(left_sum) == len(right_free) == 1 and (not left_batch or len(left_free) == 1)
    if simple:
        name = graph.node("MatMul", left.name, right.name)
        return _product(graph, equation, (left, right), name, len(left_batch))
    batches = len(left_batch)
    matrices = [
        _as_matrices(graph, value, shape, (batches, batches + first))
        for value, shape, first in (
            (left, left_shape, len(left_free)),
            (right, right_shape, len(right_sum)),
        )
    ]
    name = graph.node("MatMul", *(graph.tensor(matrix) for matrix in matrices))
    product = graph.result(name, (), equation.dtype)
    return reshaped(graph, product, equation.shape)


def _product(
    graph: Graph, equation: Equation, sides: tuple[Value, Value], name: str, batches: int
) -> Value:
    """What a product of matrices is; where both sides repeat an item of the batch, it does too."""
    left, right = sides
    batch = [
        one if not (is_static(one) and one == 1) else other
        for one, other in zip(left.shape[:batches], right.shape[:batches], strict=True)
    ]
    shape = [*batch, *left.shape[batches:-1], right.shape[-1]]
    return graph.result(name, shape, equation.dtype)


def _as_matrices(graph: Graph, value: Value, shape: Sequence[Dim], cuts: tuple[int, int]) -> Value:
    """A batch of matrices: the axes between the cuts as rows, those after as columns."""
    ordered = [shape[axis] for axis in value.order]
    value = graph.repeated(value, range(value.rank), shape)
    first, second = cuts
    rows = 1 if first == second else _times(ordered[first:second])
    columns = _times(ordered[second:])
    target = [*ordered[:first], rows, columns]
    return reshaped(graph, graph.result(value.name, ordered, value.dtype), target)


def _times(dims: Sequence[Dim]) -> Dim:
    product: Dim = 1
    for dim in dims:
        product = product * dim
    return product


def _pointwise_convolution(
    graph: Graph, equation: Equation, maps: Value, matrix: Value, summed: int
) -> Value:
    """A product along the channels of maps that lie as ONNX wants them."""
    if matrix.array is None:
        raise RefusedError("of maps and a matrix that is computed")
    kernel = matrix.array if summed == 1 else matrix.array.T
    name = graph.node("Conv", maps.name, graph.constant(kernel[:, :, None, None], matrix.hint))
    shape = (maps.shape[0], kernel.shape[0], *maps.shape[2:])
    return graph.result(name, shape, equation.dtype, _CHANNELS_SECOND)


def _convolution(graph: Graph, equation: Equation, maps: Value, kernel: Value) -> Value:
    p = equation.params
    numbers = jax.lax.ConvDimensionNumbers(_CHANNELS_SECOND, (3, 2, 0, 1), _CHANNELS_SECOND)
    if p["dimension_numbers"] != numbers or set(p["lhs_dilation"]) != {1}:
        raise RefusedError("of other than maps [b, h, w, c] and kernels [h, w, c, d]")
    if p["batch_group_count"] != 1 or p["preferred_element_type"] not in (None, equation.dtype):
        raise RefusedError("with batch_group_count or preferred_element_type")
    maps = graph.ordered(graph.repeated(maps, range(4), equation.in_shapes[0]), _CHANNELS_SECOND)
    kernel = graph.ordered(kernel, (3, 2, 0, 1))
    low, high = zip(*p["padding"], strict=True)
    name = graph.node(
        "Conv",
        maps.name,
        kernel.name,
        kernel_shape=kernel.shape[2:],
        strides=p["window_strides"],
        pads=(*low, *high),
        dilations=p["rhs_dilation"],
        group=p["feature_group_count"],
    )
    shape = [equation.shape[axis] for axis in _CHANNELS_SECOND]
    return graph.result(name, shape, equation.dtype, _CHANNELS_SECOND)


def _max_pool(graph: Graph, equation: Equation, maps: Value) -> Value:
    p = equation.params
    if len(equation.shape) != 4 or {*p["base_dilation"], *p["window_dilation"]} != {1}:
        raise RefusedError("of other than maps [b, h, w, c], or dilated")
    outer = [(p[key][0], p[key][3]) for key in ("window_dimensions", "window_strides")]
    if outer != [(1, 1), (1, 1)] or any(amount for pair in p["padding"] for amount in pair):
        raise RefusedError("over other than rows and columns, or padded; pad first")
    maps = graph.ordered(graph.repeated(maps, range(4), equation.in_shapes[0]), _CHANNELS_SECOND)
    name = graph.node(
        "MaxPool",
        maps.name,
        kernel_shape=p["window_dimensions"][1:3],
        strides=p["window_strides"][1:3],
    )
    shape = [equation.shape[axis] for axis in _CHANNELS_SECOND]
    return graph.result(name, shape, equation.dtype, _CHANNELS_SECOND)


def _reduction(operator: str) -> Callable[..., Value]:
    def translated(graph: Graph, equation: Equation, value: Value) -> Value:
        axes = set(equation.params["axes"])
        value = graph.repeated(value, sorted(axes), equation.in_shapes[0])
        where = [i for i, axis in enumerate(value.order) if axis in axes]
        name = graph.node(operator, graph.tensor(value), graph.constant(where, "axes"), keepdims=0)
        left = [axis for axis in range(value.rank) if axis not in axes]
        kept = [
            (left.index(axis), dim)
            for axis, dim in zip(value.order, value.shape, strict=True)
            if axis not in axes
        ]
        order, shape = [axis for axis, _ in kept], [dim for _, dim in kept]
        return graph.result(name, shape, equation.dtype, order)

    return translated


_REDUCTIONS = {"reduce_sum": "ReduceSum", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin"}

RULES: dict[str, Rule] = {
    name: Rule(_reduction(operator), reads={"axes"}) for name, operator in _REDUCTIONS.items()
} | {
    "dot_general": Rule(
        _dot_general, reads={"dimension_numbers", "preferred_element_type"}, ignores={"precision"}
    ),
    "conv_general_dilated": Rule(
        _convolution,
        reads={
            "batch_group_count",
            "dimension_numbers",
            "feature_group_count",
            "lhs_dilation",
            "padding",
            "preferred_element_type",
            "rhs_dilation",
            "window_strides",
        },
        ignores={"precision"},
    ),
    "reduce_window_max": Rule(
        _max_pool,
        reads={
            "base_dilation",
            "padding",
            "window_dilation",
            "window_dimensions",
            "window_strides",
        },
    ),
}
