"""Symbolic sizes, such as `32*floordiv(height + 31, 32)`, as small computations in the graph."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from jax import export

__all__ = ["Dim", "DimensionError", "evaluated", "is_static", "same"]

Dim = Any
"""A size: an int, or one of `jax.export.symbolic_shape`."""


class DimensionError(ValueError):
    """An expression over sizes that has no translation."""


def is_static(dim: Dim) -> bool:
    """Whether a size is a number."""
    return not export.is_symbolic_dim(dim)


def same(one: Dim, other: Dim) -> bool:
    """Whether two sizes are known to be equal."""
    return bool(one == other)


_OPERATORS = {ast.Add: "Add", ast.Sub: "Sub", ast.Mult: "Mul"}
_FUNCTIONS = {"mod": "Mod", "max": "Max", "min": "Min"}


def evaluated(
    dim: Dim, *, symbol: Callable[[str], str], number: Callable[[int], str], node: Callable
) -> str:
    """The name of a tensor int64 [1] that holds a size.

    `str` of a symbolic size is a formula in the grammar that `jax.export.symbolic_shape` reads.

    Args:
        dim: the size.
        symbol: the tensor of a symbol.
        number: the tensor of a constant.
        node: `node(operator, *inputs)` adds a node and gives its output.

    Raises:
        DimensionError: for a formula of other operations.
    """

    def walk(tree: ast.expr) -> str:
        match tree:
            case ast.Name(id=name):
                return symbol(name)
            case ast.Constant(value=int(value)):
                return number(value)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return node("Neg", walk(operand))
            case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _OPERATORS:
                return node(_OPERATORS[type(operator)], walk(left), walk(right))
            case ast.Call(func=ast.Name(id="floordiv"), args=[left, right]):
                whole, divisor = walk(left), walk(right)
                # ONNX's Div rounds towards zero, its Mod has the sign of the divisor.
                multiple = node("Sub", whole, node("Mod", whole, divisor))
                return node("Div", multiple, divisor)
            case ast.Call(func=ast.Name(id=name), args=[left, right]) if name in _FUNCTIONS:
                return node(_FUNCTIONS[name], walk(left), walk(right))
        raise DimensionError(f"the size {dim} has no translation to ONNX ({ast.unparse(tree)})")

    return walk(ast.parse(str(dim), mode="eval").body)
