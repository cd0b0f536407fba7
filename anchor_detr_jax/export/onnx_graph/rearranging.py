"""Operators that move, repeat, cut and join, and compute nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from anchor_detr_jax.export.onnx_graph.dimensions import Dim, is_static, same
from anchor_detr_jax.export.onnx_graph.graph import Graph, Value, constant_value, element_type
from anchor_detr_jax.export.onnx_graph.rules import Equation, RefusedError, Rule

__all__ = ["RULES", "reshaped", "squeezed"]

_END = np.iinfo(np.int64).max


def _broadcast(graph: Graph, equation: Equation, value: Value, *sizes: Value) -> Value:
    """New axes are 1 in the tensor, and so are those that get longer."""
    if sizes:
        raise RefusedError("with sizes that are computed")
    places = equation.params["broadcast_dimensions"]
    new = [axis for axis in range(len(equation.shape)) if axis not in places]
    if value.array is not None:
        sizes_by_axis = dict(zip(places, value.array.shape, strict=True))
        shape = [sizes_by_axis.get(axis, 1) for axis in range(len(equation.shape))]
        return constant_value(value.array.reshape(shape), value.hint)
    if not new:
        return replace(value, order=tuple(places[axis] for axis in value.order))
    if value.order == tuple(range(value.rank)):
        where, order = new, range(len(equation.shape))
    else:
        where = list(range(len(new)))
        order = (*new, *(places[axis] for axis in value.order))
    remaining = iter(value.shape)
    shape = [1 if i in where else next(remaining) for i in range(len(equation.shape))]
    name = graph.node("Unsqueeze", graph.tensor(value), graph.constant(where, "axes"))
    return graph.result(name, shape, value.dtype, order)


def _reshape(graph: Graph, equation: Equation, value: Value) -> Value:
    old, new = equation.in_shapes[0], equation.shape
    kept_old, kept_new = _long_axes(old), _long_axes(new)
    if len(kept_old) == len(kept_new) and all(
        same(old[i], new[j]) for i, j in zip(kept_old, kept_new, strict=True)
    ):
        return _with_other_ones(graph, value, dict(zip(kept_new, kept_old, strict=True)), len(new))
    split = next((a for a, (i, j) in enumerate(zip(old, new, strict=False)) if not same(i, j)), 0)
    rest = (*old[:split], *new[split : split + 2], *old[split + 1 :])
    if len(rest) == len(new) and all(map(same, rest, new)) and all(map(is_static, new)):
        return _split(graph, graph.repeated(value, [split], old), split, new)
    return reshaped(graph, graph.exact(value, old), new)


def _split(graph: Graph, value: Value, axis: int, shape: Sequence[Dim]) -> Value:
    """One axis of the array cut into two; the tensor's axes stay in their order."""
    order: list[int] = []
    for a in value.order:
        order += [a, a + 1] if a == axis else [a + (a > axis)]
    sizes = dict(zip((a + (a > axis) for a in value.order), value.shape, strict=True))
    sizes |= {axis: shape[axis], axis + 1: shape[axis + 1]}
    stored = [sizes[a] for a in order]
    name = graph.node("Reshape", graph.tensor(value), graph.shape(stored))
    return graph.result(name, stored, value.dtype, order)


def _long_axes(shape: Sequence[Dim]) -> list[int]:
    return [axis for axis, dim in enumerate(shape) if not (is_static(dim) and dim == 1)]


def _with_other_ones(graph: Graph, value: Value, kept: dict[int, int], rank: int) -> Value:
    """Axes of size 1 dropped and added; `kept`: the old axis of each new one that stays."""
    shape = [value.size(kept[axis]) if axis in kept else 1 for axis in range(rank)]
    if value.array is not None:
        return constant_value(value.array.reshape(shape), value.hint)
    value = graph.ordered(value, range(value.rank))
    dropped = [axis for axis in range(value.rank) if axis not in kept.values()]
    added = [axis for axis in range(rank) if axis not in kept]
    name = value.name
    if dropped != added:
        if dropped:
            name = graph.node("Squeeze", name, graph.constant(dropped, "axes"))
        if added:
            name = graph.node("Unsqueeze", name, graph.constant(added, "axes"))
    return graph.result(name, shape, value.dtype)


def reshaped(graph: Graph, value: Value, shape: Sequence[Dim]) -> Value:
    """An exact value in another shape; at most one size is left to the operator to find."""
    if value.array is not None and all(map(is_static, shape)):
        return constant_value(value.array.reshape(shape), value.hint)
    unknown = [axis for axis, dim in enumerate(shape) if not is_static(dim)]
    if len(unknown) <= 1:
        target = graph.constant([dim if is_static(dim) else -1 for dim in shape], "shape")
    else:
        target = graph.shape(shape)
    name = graph.node("Reshape", graph.tensor(value), target)
    return graph.result(name, shape, value.dtype)


def _transpose(graph: Graph, equation: Equation, value: Value) -> Value:
    """Nothing is moved: the tensor's axes are other axes of the array now."""
    permutation = tuple(equation.params["permutation"])
    if value.array is not None:
        return constant_value(value.array.transpose(permutation), value.hint)
    return replace(value, order=tuple(permutation.index(axis) for axis in value.order))


def _squeeze(graph: Graph, equation: Equation, value: Value) -> Value:
    return squeezed(graph, value, equation.params["dimensions"])


def squeezed(graph: Graph, value: Value, axes: Sequence[int]) -> Value:
    """A value without these axes, of size 1."""
    kept = [axis for axis in range(value.rank) if axis not in axes]
    if value.array is not None:
        return constant_value(value.array.squeeze(tuple(axes)), value.hint)
    if not axes:
        return value
    where = [i for i, axis in enumerate(value.order) if axis in axes]
    name = graph.node("Squeeze", value.name, graph.constant(where, "axes"))
    left = [(kept.index(a), d) for a, d in zip(value.order, value.shape, strict=True) if a in kept]
    return graph.result(name, [dim for _, dim in left], value.dtype, [axis for axis, _ in left])


def _concatenate(graph: Graph, equation: Equation, *values: Value) -> Value:
    exact = [
        graph.ordered(graph.exact(value, shape), range(value.rank))
        for value, shape in zip(values, equation.in_shapes, strict=True)
    ]
    names = [graph.tensor(value) for value in exact]
    name = graph.node("Concat", *names, axis=equation.params["dimension"])
    return graph.result(name, equation.shape, equation.dtype)


def _stack(graph: Graph, equation: Equation, *values: Value) -> Value:
    axis = equation.params["axis"]
    exact = [
        graph.exact(value, shape) for value, shape in zip(values, equation.in_shapes, strict=True)
    ]
    where = graph.constant([axis], "axes")
    names = [graph.node("Unsqueeze", graph.tensor(value), where) for value in exact]
    name = graph.node("Concat", *names, axis=axis)
    return graph.result(name, equation.shape, equation.dtype)


def _unstack(graph: Graph, equation: Equation, value: Value) -> list[Value]:
    axis, length = equation.params["axis"], equation.in_shapes[0][equation.params["axis"]]
    value = graph.repeated(value, [axis], equation.in_shapes[0])
    where = graph.constant([value.order.index(axis)], "axes")
    shape = [1 if a == axis else d for a, d in zip(value.order, value.shape, strict=True)]
    parts = []
    for i in range(length):
        ends = [graph.constant([at], "size") for at in (i, i + 1)]
        name = graph.node("Slice", graph.tensor(value), *ends, where)
        part = graph.result(name, shape, value.dtype, value.order)
        parts.append(squeezed(graph, part, [axis]))
    return parts


def _tile(graph: Graph, equation: Equation, value: Value) -> Value:
    exact = graph.exact(value, equation.in_shapes[0])
    name = graph.node("Tile", graph.tensor(exact), graph.shape(equation.params["reps"]))
    return graph.result(name, equation.shape, equation.dtype)


def _slice(graph: Graph, equation: Equation, value: Value) -> Value:
    p, old = equation.params, equation.in_shapes[0]
    steps = p["strides"] or [1] * len(old)
    cut = [
        axis
        for axis in range(len(old))
        if not same(equation.shape[axis], old[axis]) and same(value.size(axis), old[axis])
    ]
    if not cut:
        return value
    starts = graph.shape([p["start_indices"][axis] for axis in cut])
    ends = graph.shape(
        [_END if same(p["limit_indices"][axis], old[axis]) else p["limit_indices"][axis]
         for axis in cut]
    )  # fmt: skip
    where = graph.constant([value.order.index(axis) for axis in cut], "axes")
    name = graph.node(
        "Slice", graph.tensor(value), starts, ends, where, graph.shape([steps[a] for a in cut])
    )
    shape = [
        equation.shape[axis] if axis in cut else dim
        for axis, dim in zip(value.order, value.shape, strict=True)
    ]
    return graph.result(name, shape, value.dtype, value.order)


def _reverse(graph: Graph, equation: Equation, value: Value) -> Value:
    axes = equation.params["dimensions"]
    where = graph.constant([value.order.index(axis) for axis in axes], "axes")
    first, step = graph.constant([-1] * len(axes), "size"), graph.constant([-1] * len(axes), "size")
    end = graph.constant([-_END] * len(axes), "size")
    name = graph.node("Slice", graph.tensor(value), first, end, where, step)
    return replace(value, name=name, array=None)


def _pad(graph: Graph, equation: Equation, value: Value, filling: Value) -> Value:
    config = equation.params["padding_config"]
    if any(interior != 0 for _, _, interior in config):
        raise RefusedError("between elements")
    padded = [a for a, (lo, hi, _) in enumerate(config) if not (same(lo, 0) and same(hi, 0))]
    if not padded:
        return value
    value = graph.repeated(value, padded, equation.in_shapes[0])
    low = [config[axis][0] for axis in value.order]
    high = [config[axis][1] for axis in value.order]
    name = graph.node("Pad", graph.tensor(value), graph.shape([*low, *high]), graph.tensor(filling))
    shape = [
        equation.shape[axis] if axis in padded else dim
        for axis, dim in zip(value.order, value.shape, strict=True)
    ]
    return graph.result(name, shape, value.dtype, value.order)


def _iota(graph: Graph, equation: Equation) -> Value:
    axis, rank = equation.params["dimension"], len(equation.shape)
    length, shape = equation.shape[axis], [1] * rank
    shape[axis] = length
    if is_static(length):
        return constant_value(np.arange(length, dtype=equation.dtype).reshape(shape), "places")
    start, step = (graph.constant(np.asarray(i, np.int64), "size") for i in (0, 1))
    end = graph.node("Squeeze", graph.dimension(length))
    name = graph.node("Range", start, end, step)
    name = graph.node("Cast", name, to=element_type(equation.dtype))
    others = [i for i in range(rank) if i != axis]
    if others:
        name = graph.node("Unsqueeze", name, graph.constant(others, "axes"))
    return graph.result(name, shape, equation.dtype)


def _size_as_value(graph: Graph, equation: Equation) -> Value:
    name = graph.node("Squeeze", graph.dimension(equation.params["dim"]))
    name = graph.node("Cast", name, to=element_type(equation.dtype))
    return graph.result(name, (), equation.dtype)


def _unchanged(graph: Graph, equation: Equation, value: Value) -> Value:
    return value


RULES: dict[str, Rule] = {
    "broadcast_in_dim": Rule(_broadcast, reads={"broadcast_dimensions"}, ignores={"shape"}),
    "reshape": Rule(_reshape, ignores={"new_sizes"}),
    "transpose": Rule(_transpose, reads={"permutation"}),
    "squeeze": Rule(_squeeze, reads={"dimensions"}),
    "concatenate": Rule(_concatenate, reads={"dimension"}),
    "stack": Rule(_stack, reads={"axis"}),
    "unstack": Rule(_unstack, reads={"axis"}),
    "tile": Rule(_tile, reads={"reps"}),
    "slice": Rule(_slice, reads={"start_indices", "limit_indices", "strides"}),
    "rev": Rule(_reverse, reads={"dimensions"}),
    "pad": Rule(_pad, reads={"padding_config"}),
    "iota": Rule(_iota, reads={"dimension"}, ignores={"dtype", "shape"}),
    "dim_as_value": Rule(_size_as_value, reads={"dim"}),
    "stop_gradient": Rule(_unchanged),
    "copy": Rule(_unchanged),
    "name": Rule(_unchanged, ignores={"name"}),
}
