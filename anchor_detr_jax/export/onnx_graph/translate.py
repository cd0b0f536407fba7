"""A jaxpr, step by step, to an ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import onnx
from jax.extend import core
from onnx import helper, numpy_helper

from anchor_detr_jax.export.onnx_graph import (
    choosing,
    contracting,
    elementwise,
    rearranging,
)
from anchor_detr_jax.export.onnx_graph.dimensions import is_static
from anchor_detr_jax.export.onnx_graph.graph import (
    Graph,
    Value,
    constant_value,
    element_type,
)
from anchor_detr_jax.export.onnx_graph.rules import Equation, RefusedError, Rule
from anchor_detr_jax.export.onnx_graph.tidy import tidied

__all__ = ["OPSET", "onnx_model"]

OPSET, _IR_VERSION = 18, 8
"""ONNX 1.13's: what onnxruntime from 1.14, TensorRT from 9 and OpenVINO from 2023 read."""

_RULES: dict[str, Rule] = {
    **elementwise.RULES,
    **rearranging.RULES,
    **choosing.RULES,
    **contracting.RULES,
}
_CALLS = {
    "closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "jit": "jaxpr",
    "remat2": "jaxpr",
}
"""Primitives that stand for a whole jaxpr, and the parameter that holds it."""

_ALWAYS_LAZY = {"broadcast_in_dim", "reshape", "transpose", "squeeze", "iota", "dim_as_value"}
"""Whose own rules know what to do with constants, without repeating them."""


def onnx_model(
    jaxpr: Any,
    constants: Sequence[tuple[str, Any]],
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    name: str,
) -> onnx.ModelProto:
    """The model that computes what a closed jaxpr does.

    `constants` are a name and an array for each of its first arguments, `inputs` names for all
    others; sizes may be symbolic, where they are an axis of an input.

    Raises:
        ValueError: for a primitive, or a case of one, that has no translation. It says which, and
            where in the model it is.
    """
    inner = jaxpr.jaxpr
    arguments = inner.invars[len(constants) :]
    graph = Graph(_symbols(arguments, inputs))
    values = [constant_value(np.asarray(array), name) for name, array in constants]
    for variable, label in zip(arguments, inputs, strict=True):
        values.append(graph.result(label, variable.aval.shape, variable.aval.dtype))
    results = _translated(graph, inner, jaxpr.consts, values)
    # What several results have in common, or an input, cannot be renamed.
    for label, variable, value in zip(outputs, inner.outvars, results, strict=True):
        exact = graph.ordered(graph.exact(value, variable.aval.shape), range(value.rank))
        graph.nodes.append(helper.make_node("Identity", [exact.name], [label], name=label))
    nodes, arrays = tidied(graph, outputs)
    initializers = [numpy_helper.from_array(array, label) for label, array in arrays.items()]
    return helper.make_model(
        helper.make_graph(
            nodes, name, _infos(inputs, arguments), _infos(outputs, inner.outvars), initializers
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
        producer_name="anchor_detr_jax",
    )


def _symbols(arguments: Sequence[Any], inputs: Sequence[str]) -> dict[str, tuple[str, int]]:
    """For each symbolic size, the first input that has it, and its axis."""
    return {
        str(dim): (name, axis)
        for variable, name in reversed(list(zip(arguments, inputs, strict=True)))
        for axis, dim in enumerate(variable.aval.shape)
        if not is_static(dim) and str(dim).isidentifier()
    }


def _infos(names: Sequence[str], variables: Sequence[Any]) -> list[onnx.ValueInfoProto]:
    """Inputs or outputs as the graph announces them; symbolic sizes by their formulas."""
    return [
        helper.make_tensor_value_info(
            name,
            element_type(variable.aval.dtype),
            [int(dim) if is_static(dim) else str(dim) for dim in variable.aval.shape],
        )
        for name, variable in zip(names, variables, strict=True)
    ]


def _translated(
    graph: Graph, jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Value]
) -> list[Value]:
    """What the results of a jaxpr are in the graph."""
    known: dict[Any, Value] = {}
    for variable, const in zip(jaxpr.constvars, consts, strict=True):
        known[variable] = constant_value(np.asarray(const))
    known.update(zip(jaxpr.invars, arguments, strict=True))

    def value_of(atom: Any) -> Value:
        if not isinstance(atom, core.Literal):
            return known[atom]
        aval: Any = atom.aval
        return constant_value(np.asarray(atom.val, aval.dtype))

    outer = graph.scope
    for step in jaxpr.eqns:
        graph.scope = "/".join(part for part in (outer, str(step.source_info.name_stack)) if part)
        came = [value_of(atom) for atom in step.invars]
        try:
            results = _step(graph, step, came)
        except RefusedError as reason:
            what = f"{step.primitive.name} {reason}".strip()
            raise ValueError(
                f"{what} at {graph.scope or 'the top'} has no translation to ONNX; "
                "anchor_detr_jax/export/onnx_graph/ is where it would be"
            ) from None
        known.update(zip(step.outvars, results, strict=True))
    graph.scope = outer
    return [value_of(atom) for atom in jaxpr.outvars]


def _step(graph: Graph, step: Any, came: list[Value]) -> list[Value]:
    name = step.primitive.name
    equation = Equation(
        name,
        step.params,
        tuple(atom.aval.shape for atom in step.invars),
        step.outvars[0].aval.shape,
        step.outvars[0].aval.dtype,
    )
    if name in _CALLS:
        if step.params.get("name") == "floor_divide" and not all(_constant(v) for v in came):
            return [elementwise.floor_divided(graph, equation, *came)]
        body = step.params[_CALLS[name]]
        closed = hasattr(body, "consts")
        inner, consts = (body.jaxpr, body.consts) if closed else (body, ())
        return _translated(graph, inner, consts, came)
    if all(_constant(value) for value in came) and name not in _ALWAYS_LAZY:
        folded = _folded(step, came, equation)
        if folded is not None:
            return folded
    if name not in _RULES:
        raise RefusedError("")
    rule = _RULES[name]
    rule.check(step.params)
    result = rule.translate(graph, equation, *came)
    return result if isinstance(result, list) else [result]


def _constant(value: Value) -> bool:
    return value.array is not None


def _folded(step: Any, came: Sequence[Value], equation: Equation) -> list[Value] | None:
    """What a step on constants gives, computed now; None where sizes are not known now."""
    arrays = [value.known() for value in came]
    if step.primitive.name in elementwise.RULES:
        # What is repeated stays as short as it is.
        arrays = [np.asarray(array) for array in np.broadcast_arrays(*arrays)]
    elif all(is_static(dim) for shape in equation.in_shapes for dim in shape):
        arrays = [
            np.broadcast_to(array, shape)
            for array, shape in zip(arrays, equation.in_shapes, strict=True)
        ]
    else:
        return None
    if not all(map(_plain, step.params.values())):
        return None
    results = step.primitive.bind(*map(jax.numpy.asarray, arrays), **step.params)
    results = results if step.primitive.multiple_results else [results]
    hint = next((value.hint for value in came if value.hint != "constant"), "constant")
    return [constant_value(np.asarray(result), hint) for result in results]


def _plain(parameter: Any) -> bool:
    """Whether no symbolic size is in it."""
    if isinstance(parameter, tuple | list):
        return all(map(_plain, parameter))
    return is_static(parameter)
