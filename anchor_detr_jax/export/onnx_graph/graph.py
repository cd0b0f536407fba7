"""An ONNX graph that grows node by node, and what stands in it for JAX's arrays."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import helper

from anchor_detr_jax.export.onnx_graph.dimensions import Dim, evaluated, is_static, same

__all__ = ["Graph", "Value", "constant_value", "element_type"]


@dataclass(frozen=True)
class Value:
    """What stands for an array in the graph, without having been copied into its exact form.

    An axis that the array repeats may be 1 in the tensor, and the tensor's axes may stand in
    another order: so broadcasting and transposing cost nothing until an operator needs them done.

    Attributes:
        shape: of the tensor.
        order: the array's axis that each of the tensor's axes holds.
        dtype: numpy's.
        name: of the tensor; "" for a constant that may never come into the graph.
        array: of a constant, in the array's own order of axes.
        hint: what to call a constant.
    """

    shape: tuple[Dim, ...]
    order: tuple[int, ...]
    dtype: np.dtype
    name: str = ""
    array: np.ndarray | None = None
    hint: str = "constant"

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def size(self, axis: int) -> Dim:
        """The tensor's size along an axis of the array."""
        return self.shape[self.order.index(axis)]

    def sizes(self) -> tuple[Dim, ...]:
        """The tensor's sizes in the order of the array's axes."""
        return tuple(self.size(axis) for axis in range(self.rank))

    def known(self) -> np.ndarray:
        """A constant's array.

        Raises:
            ValueError: for what is no constant.
        """
        if self.array is None:
            raise ValueError(f"{self.name} is computed, and no constant")
        return self.array


def constant_value(array: np.ndarray, hint: str = "constant") -> Value:
    """A constant."""
    array = np.asarray(array)
    return Value(array.shape, tuple(range(array.ndim)), array.dtype, array=array, hint=hint)


def element_type(dtype: Any) -> int:
    """ONNX's number for an element type.

    Raises:
        ValueError: for one that ONNX's operators do not compute with.
    """
    try:
        return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    except (KeyError, ValueError):
        raise ValueError(f"ONNX has no element type {np.dtype(dtype)}") from None


class Graph:
    """Nodes, initializers and names; what was computed once is not computed again.

    Attributes:
        scope: where in the model the nodes that come now belong; the start of their names.
        nodes: in an order in which they can run.
        initializers: constants by name.
        shapes: of what nodes computed, by name.
    """

    def __init__(self, symbols: Mapping[str, tuple[str, int]]) -> None:
        """`symbols`: for each symbolic size, an input and its axis of that size."""
        self.scope = ""
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, np.ndarray] = {}
        self.shapes: dict[str, tuple[Dim, ...]] = {}
        self._symbols = symbols
        self._taken: Counter[str] = Counter()
        self._constants: dict[tuple, str] = {}
        self._known: dict[tuple, list[str]] = {}

    def nodes_of(self, operator: str, *inputs: str, outputs: int = 1, **attributes) -> list[str]:
        """Add a node, unless there is the same already; the names of its outputs."""
        key = (operator, inputs, repr(sorted(attributes.items())))
        if key not in self._known:
            name = self._unique(f"{self.scope}/{operator}".lstrip("/"))
            names = [name, *(f"{name}:{i}" for i in range(1, outputs))]
            self.nodes.append(
                helper.make_node(operator, list(inputs), names, name=name, **attributes)
            )
            self._known[key] = names
        return self._known[key]

    def node(self, operator: str, *inputs: str, **attributes) -> str:
        """Add a node, unless there is the same already; the name of its output."""
        return self.nodes_of(operator, *inputs, **attributes)[0]

    def constant(self, array: np.ndarray | Sequence[int], hint: str = "constant") -> str:
        """The name of an initializer; sequences of numbers are int64."""
        array = np.asarray(array, None if isinstance(array, np.ndarray) else np.int64)
        digest = hashlib.sha256(np.ascontiguousarray(array).data).digest()
        key = (array.dtype.str, array.shape, digest)
        if key not in self._constants:
            name = self._unique(hint)
            self.initializers[name] = np.ascontiguousarray(array).reshape(array.shape)
            self._constants[key] = name
        return self._constants[key]

    def dimension(self, dim: Dim) -> str:
        """The name of a tensor int64 [1] that holds a size."""
        if is_static(dim):
            return self.constant([int(dim)], "size")
        scope, self.scope = self.scope, "sizes"
        try:
            return evaluated(
                dim,
                symbol=self._symbol,
                number=lambda value: self.constant([value], "size"),
                node=self.node,
            )
        finally:
            self.scope = scope

    def shape(self, dims: Sequence[Dim]) -> str:
        """The name of a tensor int64 [n] that holds a shape."""
        if all(map(is_static, dims)):
            return self.constant([int(dim) for dim in dims], "shape")
        return self.node("Concat", *map(self.dimension, dims), axis=0)

    def tensor(self, value: Value) -> str:
        """The name of a value's tensor; a constant becomes an initializer."""
        return value.name or self.constant(value.known(), value.hint)

    def ordered(self, value: Value, order: Sequence[int]) -> Value:
        """The value with its axes in this order."""
        order = tuple(order)
        if value.array is not None:
            moved = value.array.transpose(order)
            return replace(
                value,
                shape=moved.shape,
                order=order,
                array=None,
                name=self.constant(moved, value.hint),
            )
        if value.order == order:
            return value
        permutation = [value.order.index(axis) for axis in order]
        shape = tuple(value.shape[i] for i in permutation)
        name = self.node("Transpose", value.name, perm=permutation)
        return replace(value, shape=shape, order=order, name=name)

    def repeated(self, value: Value, axes: Sequence[int], shape: Sequence[Dim]) -> Value:
        """The value with these axes of the array as long as in `shape`, all of the array's."""
        missing = [axis for axis in axes if not same(value.size(axis), shape[axis])]
        if not missing:
            return value
        wanted = tuple(
            shape[axis] if axis in missing else dim
            for axis, dim in zip(value.order, value.shape, strict=True)
        )
        if value.array is not None and all(map(is_static, wanted)):
            array = np.broadcast_to(value.array, wanted)
            return replace(value, shape=wanted, array=array)
        expanded = tuple(
            shape[axis] if axis in missing else 1 for axis in value.order
        )  # Expand leaves an axis as it is where 1 is asked for
        name = self.node("Expand", self.tensor(value), self.shape(expanded))
        return replace(value, shape=wanted, name=name, array=None)

    def exact(self, value: Value, shape: Sequence[Dim]) -> Value:
        """The value as JAX has it: repeated in full, its axes in order."""
        full = self.repeated(value, range(value.rank), shape)
        return full if full.array is not None else self.ordered(full, range(value.rank))

    def result(self, name: str, shape: Sequence[Dim], dtype: Any, order=None) -> Value:
        """What stands for an array that a node computed."""
        order = tuple(range(len(shape))) if order is None else tuple(order)
        self.shapes[name] = tuple(shape)
        return Value(tuple(shape), order, np.dtype(dtype), name)

    def _symbol(self, name: str) -> str:
        tensor, axis = self._symbols[name]
        return self.node("Shape", tensor, start=axis, end=axis + 1)

    def _unique(self, name: str) -> str:
        self._taken[name] += 1
        count = self._taken[name]
        return name if count == 1 else self._unique(f"{name}_{count}")
