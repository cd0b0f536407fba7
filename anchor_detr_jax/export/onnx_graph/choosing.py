"""Operators that choose among elements: the largest ones, and those at given places."""

from __future__ import annotations

import jax
import numpy as np

from anchor_detr_jax.export.onnx_graph.dimensions import is_static, same
from anchor_detr_jax.export.onnx_graph.graph import Graph, Value, element_type
from anchor_detr_jax.export.onnx_graph.rearranging import squeezed
from anchor_detr_jax.export.onnx_graph.rules import Equation, RefusedError, Rule

__all__ = ["RULES"]


def _top_k(graph: Graph, equation: Equation, value: Value) -> list[Value]:
    exact = graph.exact(value, equation.in_shapes[0])
    best, places = graph.nodes_of(
        "TopK",
        graph.tensor(exact),
        graph.constant([equation.params["k"]], "size"),
        outputs=2,
        axis=equation.params["axis"],
    )
    places = graph.node("Cast", places, to=element_type(np.int32))
    return [
        graph.result(best, equation.shape, value.dtype),
        graph.result(places, equation.shape, np.int32),
    ]


def _gather(graph: Graph, equation: Equation, operand: Value, places: Value) -> Value:
    """Whole slices at places along one axis, the same for a batch or of its own for each item."""
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    shape, places_shape = equation.in_shapes
    if places.array is not None and len(places_shape) == 1:
        return _window(graph, equation, operand, places.array)
    batch = tuple(numbers.operand_batching_dims)
    if len(numbers.start_index_map) != 1:
        raise RefusedError("at places along several axes")
    (axis,) = numbers.start_index_map
    whole = all(
        size == 1 if a == axis or a in batch else same(size, shape[a])
        for a, size in enumerate(sizes)
    )
    if not whole or tuple(numbers.collapsed_slice_dims) != (axis,):
        raise RefusedError("of parts of slices")
    if equation.params["mode"] == jax.lax.GatherScatterMode.CLIP:
        raise RefusedError(
            "with places that are clipped"
        )  # ONNX answers wrong places with an error
    exact = graph.tensor(graph.exact(operand, shape))
    index = graph.tensor(graph.exact(places, places_shape))
    index = graph.node("Cast", index, to=element_type(np.int64))
    between = len(places_shape) - 1
    expected = tuple(a for a in range(len(equation.shape)) if not axis <= a < axis + between)
    if not batch and tuple(numbers.offset_dims) == expected:
        index = graph.node("Squeeze", index, graph.constant([between], "axes"))
        name = graph.node("Gather", exact, index, axis=axis)
    elif batch == (0,) == tuple(numbers.start_indices_batching_dims) and axis == 1:
        if tuple(numbers.offset_dims) != tuple(range(between, len(equation.shape))):
            raise RefusedError("with slices among the places")
        name = graph.node("GatherND", exact, index, batch_dims=1)
    else:
        raise RefusedError(f"with {numbers}")
    return graph.result(name, equation.shape, equation.dtype)


def _window(graph: Graph, equation: Equation, value: Value, place: np.ndarray) -> Value:
    """One window at a known place: what `x[:, 1:]` is where sizes are symbolic."""
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    (shape, _), starts = equation.in_shapes, dict.fromkeys(range(len(sizes)), 0)
    starts |= dict(zip(numbers.start_index_map, place.tolist(), strict=True))
    cut = [axis for axis, size in enumerate(sizes) if not same(size, shape[axis])]
    inside = all(is_static(shape[a]) and 0 <= starts[a] <= shape[a] - sizes[a] for a in cut)
    if not inside or any(starts[axis] for axis in starts if axis not in cut):
        raise RefusedError("of a window that may reach out")
    value = graph.repeated(value, cut, shape)
    if cut:
        first, end = ([starts[a] for a in cut], [starts[a] + sizes[a] for a in cut])
        where = [value.order.index(axis) for axis in cut]
        name = graph.node("Slice", graph.tensor(value), *map(graph.constant, (first, end, where)))
        lengths = [
            sizes[axis] if axis in cut else dim
            for axis, dim in zip(value.order, value.shape, strict=True)
        ]
        value = graph.result(name, lengths, value.dtype, value.order)
    return squeezed(graph, value, numbers.collapsed_slice_dims)


RULES: dict[str, Rule] = {
    "top_k": Rule(_top_k, reads={"k", "axis"}, ignores={"operand", "is_stable"}),
    "gather": Rule(
        _gather,
        reads={"dimension_numbers", "slice_sizes", "mode"},
        ignores={"fill_value", "indices_are_sorted", "unique_indices"},
    ),
}
