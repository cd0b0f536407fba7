"""Operators that act on each element alone; they take tensors in whatever order of axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from anchor_detr_jax.export.onnx_graph.dimensions import is_static
from anchor_detr_jax.export.onnx_graph.graph import Graph, Value, element_type
from anchor_detr_jax.export.onnx_graph.rules import Equation, RefusedError, Rule

__all__ = ["RULES", "elementwise"]


def elementwise(graph: Graph, operator: str, values: Sequence[Value], dtype, **how) -> Value:
    """One node over values that are broadcast against each other."""
    order = _common_order(values)
    aligned = [
        value if value.rank == 0 or value.rank < len(order) else graph.ordered(value, order)
        for value in values
    ]
    full = [value for value in aligned if value.rank == len(order)]
    shape = tuple(
        next((dim for dim in dims if not (is_static(dim) and dim == 1)), 1)
        for dims in zip(*(value.shape for value in full), strict=True)
    )
    name = graph.node(operator, *map(graph.tensor, aligned), **how)
    return graph.result(name, shape, dtype, order)


def _common_order(values: Sequence[Value]) -> tuple[int, ...]:
    """The order of the tensor that would be dearest to transpose."""
    rank = max(value.rank for value in values)

    def cost(value: Value) -> tuple[bool, bool, int]:
        long = sum(not (is_static(dim) and dim == 1) for dim in value.shape)
        return value.rank == rank, value.array is None, long

    return max(values, key=cost).order


def _plain(operator: str) -> Callable[..., Value]:
    def translated(graph: Graph, equation: Equation, *values: Value) -> Value:
        return elementwise(graph, operator, values, equation.dtype)

    return translated


def _logical(operator: str) -> Callable[..., Value]:
    def translated(graph: Graph, equation: Equation, *values: Value) -> Value:
        if any(value.dtype != bool for value in values):
            raise RefusedError("of whole numbers")
        return elementwise(graph, operator, values, bool)

    return translated


def _max(graph: Graph, equation: Equation, one: Value, other: Value) -> Value:
    for value, bound in ((one, other), (other, one)):
        if bound.array is not None and np.isneginf(bound.array).all() and bound.rank == 0:
            return value
        if bound.array is not None and not bound.array.any() and value.dtype == np.float32:
            return elementwise(graph, "Relu", [value], equation.dtype)
    return elementwise(graph, "Max", [one, other], equation.dtype)


def _not_equal(graph: Graph, equation: Equation, one: Value, other: Value) -> Value:
    equal = elementwise(graph, "Equal", [one, other], bool)
    return elementwise(graph, "Not", [equal], bool)


def _rsqrt(graph: Graph, equation: Equation, value: Value) -> Value:
    root = elementwise(graph, "Sqrt", [value], equation.dtype)
    return elementwise(graph, "Reciprocal", [root], equation.dtype)


def _square(graph: Graph, equation: Equation, value: Value) -> Value:
    return elementwise(graph, "Mul", [value, value], equation.dtype)


def _integer_pow(graph: Graph, equation: Equation, value: Value) -> Value:
    if equation.params["y"] != 2:
        raise RefusedError(f"with y={equation.params['y']}")
    return _square(graph, equation, value)


def _convert(graph: Graph, equation: Equation, value: Value) -> Value:
    if value.dtype == equation.dtype:
        return value
    return elementwise(graph, "Cast", [value], equation.dtype, to=element_type(equation.dtype))


def _select(graph: Graph, equation: Equation, which: Value, *cases: Value) -> Value:
    if which.dtype != bool or len(cases) != 2:
        raise RefusedError("by a number")
    if_false, if_true = cases
    if which.array is not None and which.array.all():
        return if_true
    if which.array is not None and not which.array.any():
        return if_false
    return elementwise(graph, "Where", [which, if_true, if_false], equation.dtype)


def _remainder(graph: Graph, equation: Equation, one: Value, other: Value) -> Value:
    return elementwise(graph, "Mod", [one, other], equation.dtype, fmod=1)


def floor_divided(graph: Graph, equation: Equation, one: Value, other: Value) -> Value:
    """Whole numbers divided, rounded down: `jax.numpy.floor_divide`, whose own form is long."""
    if not np.issubdtype(equation.dtype, np.integer):
        raise RefusedError("of fractions")
    rest = elementwise(graph, "Mod", [one, other], equation.dtype)  # has the divisor's sign
    whole = elementwise(graph, "Sub", [one, rest], equation.dtype)
    return elementwise(graph, "Div", [whole, other], equation.dtype)


_OPERATORS = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "min": "Min",
    "pow": "Pow",
    "neg": "Neg",
    "abs": "Abs",
    "sign": "Sign",
    "exp": "Exp",
    "log": "Log",
    "sin": "Sin",
    "cos": "Cos",
    "tanh": "Tanh",
    "erf": "Erf",
    "sqrt": "Sqrt",
    "floor": "Floor",
    "ceil": "Ceil",
    "logistic": "Sigmoid",
    "eq": "Equal",
    "lt": "Less",
    "le": "LessOrEqual",
    "gt": "Greater",
    "ge": "GreaterOrEqual",
}

RULES: dict[str, Rule] = {name: Rule(_plain(operator)) for name, operator in _OPERATORS.items()} | {
    "and": Rule(_logical("And")),
    "or": Rule(_logical("Or")),
    "not": Rule(_logical("Not")),
    "max": Rule(_max),
    "ne": Rule(_not_equal),
    "rsqrt": Rule(_rsqrt),
    "square": Rule(_square),
    "integer_pow": Rule(_integer_pow, reads={"y"}),
    "convert_element_type": Rule(_convert, reads={"new_dtype"}, ignores={"weak_type"}),
    "select_n": Rule(_select),
    "rem": Rule(_remainder),
}
