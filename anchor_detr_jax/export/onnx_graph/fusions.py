"""Groups of nodes that ONNX has one operator for.

Each function is given the last node of a group and looks back along its inputs. It gives what may
stand in that node's place, or None; nodes that nothing depends on any more are removed later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import onnx
from onnx import helper

from anchor_detr_jax.export.onnx_graph.dimensions import Dim, is_static

__all__ = ["FUSIONS", "Nodes"]


class Nodes:
    """Nodes by what they compute.

    Attributes:
        nodes: all, in order.
        constants: initializers by name.
        shapes: of what nodes compute, by name; sizes may be symbolic.
    """

    def __init__(
        self, constants: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[Dim, ...]]
    ) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants = dict(constants)
        self.shapes = shapes
        self._makers: dict[str, onnx.NodeProto] = {}

    def add(self, nodes: Iterable[onnx.NodeProto]) -> None:
        """Nodes that come next."""
        for node in nodes:
            self.nodes.append(node)
            self._makers |= dict.fromkeys(node.output, node)

    def made_by(self, operator: str, tensor: str) -> onnx.NodeProto | None:
        """The node of this kind that computes a tensor; None if something else does."""
        maker = self._makers.get(tensor)
        return maker if maker is not None and maker.op_type == operator else None

    def pair(self, operator: str, tensors: Iterable[str]) -> tuple[onnx.NodeProto, str] | None:
        """Of two tensors, the node of this kind that computes one, and the other tensor."""
        one, other = tensors
        for tensor, rest in ((one, other), (other, one)):
            maker = self.made_by(operator, tensor)
            if maker is not None:
                return maker, rest
        return None

    def reshaped(self, name: str, shape: tuple[int, ...]) -> str:
        """A constant in another shape."""
        if self.constants[name].shape == shape:
            return name
        label = f"{name}[{','.join(map(str, shape))}]"
        self.constants[label] = self.constants[name].reshape(shape)
        return label


Fused = list[onnx.NodeProto] | None


def _instead(node: onnx.NodeProto, operator: str, *inputs: str, **attributes) -> onnx.NodeProto:
    return helper.make_node(operator, inputs, list(node.output), name=node.name, **attributes)


def _attributes(node: onnx.NodeProto) -> dict:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def convolution_with_bias(nodes: Nodes, node: onnx.NodeProto) -> Fused:
    """Convolution, and a number added to each channel."""
    found = nodes.pair("Conv", node.input)
    if found is None or found[1] not in nodes.constants or len(found[0].input) == 3:
        return None
    convolution, bias = found
    array = nodes.constants[bias]
    if array.shape != (1, array.size, 1, 1):
        return None
    vector = nodes.reshaped(bias, (array.size,))
    return [_instead(node, "Conv", *convolution.input, vector, **_attributes(convolution))]


def strided_pointwise_convolution(nodes: Nodes, node: onnx.NodeProto) -> Fused:
    """Every other row and column, and a convolution of one pixel."""
    cut, attributes = nodes.made_by("Slice", node.input[0]), _attributes(node)
    if cut is None or attributes.get("strides", [1, 1]) != [1, 1]:
        return None
    if nodes.constants[node.input[1]].shape[2:] != (1, 1) or len(cut.input) != 5:
        return None
    if not all(name in nodes.constants for name in cut.input[1:]):
        return None
    starts, ends, axes, steps = (nodes.constants[name].tolist() for name in cut.input[1:])
    end = np.iinfo(np.int64).max
    if (starts, axes) != ([0, 0], [2, 3]) or any(last != end for last in ends) or min(steps) < 1:
        return None
    attributes["strides"] = steps
    return [_instead(node, "Conv", cut.input[0], *node.input[1:], **attributes)]


def residual_relu(nodes: Nodes, node: onnx.NodeProto) -> Fused:
    """X + max(y, -x), which is max(x + y, 0)."""
    found = nodes.pair("Max", node.input)
    if found is None:
        return None
    largest, x = found
    negative = nodes.pair("Neg", largest.input)
    if negative is None or negative[0].input[0] != x:
        return None
    total = f"{node.name}/sum"
    add = helper.make_node("Add", [x, negative[1]], [total], name=total)
    return [add, _instead(node, "Relu", total)]


def max_of_three(nodes: Nodes, node: onnx.NodeProto) -> Fused:
    """The greatest of each second row, or column, and of its neighbours, which were cut in pairs.

    Where rows were pooled so before, columns are pooled together with them.
    """
    found = _pairs(nodes, node)
    if found is None:
        return None
    source, axis, filling = found
    axes, other = [axis], 5 - axis
    pool = nodes.made_by("MaxPool", source)
    padded = pool and nodes.made_by("Pad", pool.input[0])
    if pool and padded and padded.input[2] == filling:
        how = (_attributes(pool), _constants(nodes, padded)[:1])
        if how == (_threes(other), [_before(other)]):
            source, axes = padded.input[0], [2, 3]
    pad = f"{node.name}/pad"
    nodes.constants[f"{pad}s"] = np.array(_before(*axes))
    return [
        helper.make_node("Pad", [source, f"{pad}s", filling], [pad], name=pad),
        _instead(node, "MaxPool", pad, **_threes(*axes)),
    ]


def _before(*axes: int) -> list[int]:
    """Pads of a map: one row or column before the first."""
    return [int(i in axes) for i in range(8)]


def _threes(*axes: int) -> dict:
    """Windows of three along these axes, moved by two."""
    windows = {"kernel_shape": 3, "strides": 2}
    return {name: [n if axis in axes else 1 for axis in (2, 3)] for name, n in windows.items()}


def _pairs(nodes: Nodes, node: onnx.NodeProto) -> tuple[str, int, str] | None:
    """Of max(max(first, second), second of the pair before): the map, its axis, the padding."""
    two = nodes.pair("Max", node.input)
    pad = two and nodes.made_by("Pad", two[1])
    before = pad and nodes.made_by("Slice", pad.input[0])
    if not two or not pad or not before:
        return None
    second = before.input[0]
    first = next((half for half in two[0].input if half != second), second)
    cut = _half(nodes, first, 0)
    if cut is None or cut != _half(nodes, second, 1) or second not in two[0].input:
        return None
    source, axis = cut
    all_but_last = [[0], [nodes.shapes[source][axis] // 2 - 1], [axis], [1]]
    if _constants(nodes, before) != all_but_last or _constants(nodes, pad)[:1] != [_before(axis)]:
        return None
    return source, axis, pad.input[2]


def _half(nodes: Nodes, half: str, place: int) -> tuple[str, int] | None:
    """The map whose rows (axis 2) or columns these are: the first (0) or second (1) of each two."""
    squeezed = nodes.made_by("Squeeze", half)
    cut = squeezed and nodes.made_by("Slice", squeezed.input[0])
    pairs = cut and nodes.made_by("Reshape", cut.input[0])
    if not squeezed or not cut or not pairs:
        return None
    shape = nodes.shapes.get(pairs.input[0], ())
    if len(shape) != 4 or not all(map(is_static, shape)):
        return None
    for axis in (2, 3):
        in_pairs = [*shape[:axis], shape[axis] // 2, 2, *shape[axis + 1 :]]
        of_each = [[place], [place + 1], [axis + 1]]
        if (
            _constants(nodes, pairs) == [in_pairs]
            and _constants(nodes, cut)[:3] == of_each
            and _constants(nodes, squeezed) == of_each[2:]
        ):
            return pairs.input[0], axis
    return None


def _constants(nodes: Nodes, node: onnx.NodeProto) -> list:
    """All inputs but the first; none of them where one is computed."""
    if not all(name in nodes.constants for name in node.input[1:]):
        return []
    return [nodes.constants[name].tolist() for name in node.input[1:]]


def softmax(nodes: Nodes, node: onnx.NodeProto) -> Fused:
    """exp(x - max(x)), divided by its sum."""
    exp = nodes.made_by("Exp", node.input[0])
    total = _kept_reduction(nodes, "ReduceSum", node.input[1])
    if exp is None or total is None or total[0] != node.input[0]:
        return None
    difference = nodes.made_by("Sub", exp.input[0])
    largest = difference and _kept_reduction(nodes, "ReduceMax", difference.input[1])
    if not difference or largest != (difference.input[0], total[1]):
        return None
    return [_instead(node, "Softmax", difference.input[0], axis=total[1])]


def _kept_reduction(nodes: Nodes, operator: str, tensor: str) -> tuple[str, int] | None:
    """What was reduced along one axis that was put back with size 1, and the axis."""
    put_back = nodes.made_by("Unsqueeze", tensor)
    reduction = put_back and nodes.made_by(operator, put_back.input[0])
    if not put_back or not reduction or reduction.input[1] != put_back.input[1]:
        return None
    axes = nodes.constants[reduction.input[1]]
    return (reduction.input[0], int(axes[0])) if axes.size == 1 else None


def layer_norm(nodes: Nodes, node: onnx.NodeProto) -> Fused:
    """(x - mean) * (1 / sqrt(variance + epsilon) * scale) + bias, along the last axis."""
    product = nodes.pair("Mul", node.input)
    if product is None or product[1] not in nodes.constants:
        return None
    for centred, factor in (product[0].input, reversed(product[0].input)):
        difference, scaled = nodes.made_by("Sub", centred), nodes.made_by("Mul", factor)
        if difference is None or scaled is None or scaled.input[1] not in nodes.constants:
            continue
        scale, bias = nodes.constants[scaled.input[1]], nodes.constants[product[1]]
        last = (scale.ndim - 1, scale.size)
        epsilon = _epsilon(nodes, scaled.input[0], centred, last)
        if epsilon is None or _mean(nodes, difference.input[1], last) != difference.input[0]:
            continue
        if scale.shape[-1] == scale.size == bias.size == bias.shape[-1]:
            vectors = [nodes.reshaped(n, (scale.size,)) for n in (scaled.input[1], product[1])]
            how = {"axis": last[0], "epsilon": epsilon}
            return [_instead(node, "LayerNormalization", difference.input[0], *vectors, **how)]
    return None


def _epsilon(nodes: Nodes, tensor: str, centred: str, last: tuple[int, int]) -> float | None:
    """The epsilon of 1 / sqrt(mean(centred^2) + epsilon); None for anything else."""
    inverse = nodes.made_by("Reciprocal", tensor)
    root = inverse and nodes.made_by("Sqrt", inverse.input[0])
    added = root and nodes.made_by("Add", root.input[0])
    if not added or added.input[1] not in nodes.constants:
        return None
    square = nodes.made_by("Mul", _mean(nodes, added.input[0], last) or "")
    if square is None or list(square.input) != [centred, centred]:
        return None
    return float(nodes.constants[added.input[1]].ravel()[0])


def _mean(nodes: Nodes, tensor: str, last: tuple[int, int]) -> str | None:
    """What a tensor is the mean of, along the last axis, which is put back with size 1."""
    axis, length = last
    for first, second in (("Unsqueeze", "Div"), ("Div", "Unsqueeze")):
        one = nodes.made_by(first, tensor)
        other = one and nodes.made_by(second, one.input[0])
        total = other and nodes.made_by("ReduceSum", other.input[0])
        if not one or not other or not total:
            continue
        put_back, share = (one, other) if first == "Unsqueeze" else (other, one)
        wanted = {put_back.input[1]: axis, total.input[1]: axis, share.input[1]: length}
        if all(np.all(nodes.constants.get(name, np.nan) == n) for name, n in wanted.items()):
            return total.input[0]
    return None


def reshape_twice(nodes: Nodes, node: onnx.NodeProto) -> Fused:
    """One shape after another."""
    first = nodes.made_by("Reshape", node.input[0])
    return first and [_instead(node, "Reshape", first.input[0], node.input[1])]


FUSIONS: list[tuple[str, Callable[[Nodes, onnx.NodeProto], Fused]]] = [
    ("Add", convolution_with_bias),
    ("Add", residual_relu),
    ("Add", layer_norm),
    ("Conv", strided_pointwise_convolution),
    ("Div", softmax),
    ("Max", max_of_three),
    ("Reshape", reshape_twice),
]
