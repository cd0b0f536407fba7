"""Between a PyTorch state dict and Flax variables, by a table of rules, in both directions.

A table is a bijection: every tensor of the file is used exactly once or stands on a list of what is
ignored, every variable is filled, shapes agree - or everything that is wrong is said at once.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from anchor_detr_jax.variable_names import flatten, unflatten

__all__ = ["ConversionError", "Layout", "Rule", "to_state_dict", "to_variables"]


class ConversionError(ValueError):
    """Tensors that do not fit the model; the message lists all of them."""


class Layout(enum.Enum):
    """How the axes of one tensor are ordered: in PyTorch, in Flax."""

    SAME = enum.auto()
    LINEAR = enum.auto()  # (out, in), (in, out)
    CONVOLUTION = enum.auto()  # (out, in, h, w), (h, w, in, out)

    def to_flax(self, tensor: np.ndarray) -> np.ndarray:
        """From PyTorch's order of axes to Flax's."""
        return tensor.transpose(_TO_FLAX[self]) if self in _TO_FLAX else tensor

    def to_torch(self, tensor: np.ndarray) -> np.ndarray:
        """The inverse of `to_flax`."""
        return tensor.transpose(np.argsort(_TO_FLAX[self])) if self in _TO_FLAX else tensor


_TO_FLAX = {Layout.LINEAR: (1, 0), Layout.CONVOLUTION: (2, 3, 1, 0)}


@dataclass(frozen=True)
class Rule:
    """One tensor of PyTorch, and the variable or variables that it is.

    Attributes:
        torch: its names; more than one where PyTorch saves one tensor several times.
        flax: paths such as `params/encoder_0/ffn/mlp/linear0/kernel`; more than one where PyTorch
            stacks several along the first axis.
        layout: order of the axes.
    """

    torch: tuple[str, ...]
    flax: tuple[str, ...]
    layout: Layout = Layout.SAME

    def to_flax(self, tensor: np.ndarray) -> list[np.ndarray]:
        """The variables in a tensor."""
        return [self.layout.to_flax(part) for part in np.split(tensor, len(self.flax))]

    def to_torch(self, variables: Sequence[Any]) -> np.ndarray:
        """The tensor that the variables make."""
        parts = [self.layout.to_torch(np.asarray(v)) for v in variables]
        return np.ascontiguousarray(parts[0] if len(parts) == 1 else np.concatenate(parts))

    def torch_shape(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
        """Shape of the tensor, from the variables' shapes."""
        return self.to_torch([np.broadcast_to(np.int8(0), shapes[p]) for p in self.flax]).shape


def to_variables(
    rules: Sequence[Rule], tensors: Mapping[str, np.ndarray], template: Mapping[str, Any]
) -> dict[str, Any]:
    """Flax variables, float32, from the tensors of a model.

    Args:
        rules: the table.
        tensors: the state dict, without what is to be ignored.
        template: nested shapes of the variables, as `jax.eval_shape` gives them.

    Raises:
        ConversionError: with every missing, unknown, misshapen, unequal and non-finite tensor.
    """
    shapes = {path: tuple(leaf.shape) for path, leaf in flatten(template).items()}
    _check_table(rules, shapes)
    known = {name for rule in rules for name in rule.torch}
    problems = [f"unknown: {name} {list(tensors[name].shape)}" for name in tensors.keys() - known]
    problems += [f"missing: {name}" for name in known - tensors.keys()]
    filled: dict[str, np.ndarray] = {}
    for rule in rules:
        copies = {name: tensors[name] for name in rule.torch if name in tensors}
        faults = _faults(copies, rule.torch_shape(shapes))
        problems += faults
        if copies and not faults:
            tensor = next(iter(copies.values())).astype(np.float32)
            parts = rule.to_flax(tensor)
            filled |= {p: np.ascontiguousarray(v) for p, v in zip(rule.flax, parts, strict=True)}
    if problems:
        listed = "\n  ".join(sorted(problems))
        raise ConversionError(
            f"the tensors do not fit the model in {len(problems)} places:\n  {listed}"
        )
    return unflatten(filled)


def to_state_dict(rules: Sequence[Rule], variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The state dict of Flax variables, in PyTorch's layout."""
    flat = flatten(variables)
    _check_table(rules, flat)
    tensors = {}
    for rule in rules:
        tensor = rule.to_torch([flat[path] for path in rule.flax])
        tensors |= dict.fromkeys(rule.torch, tensor)
    return tensors


def _check_table(rules: Sequence[Rule], variables: Mapping[str, Any]) -> None:
    """A table has each variable once; anything else is a fault of the table, not of a file."""
    paths = [path for rule in rules for path in rule.flax]
    names = [name for rule in rules for name in rule.torch]
    if sorted(paths) != sorted(variables) or len(set(names)) != len(names):
        odd = sorted(set(paths) ^ set(variables))
        raise ConversionError(f"the table of rules does not fit the model's variables: {odd}")


def _faults(copies: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> list[str]:
    faults = []
    first = None
    for name, tensor in copies.items():
        if tensor.shape != shape:
            faults.append(f"shape: {name} is {list(tensor.shape)}, expected {list(shape)}")
        elif not np.issubdtype(tensor.dtype, np.floating) and tensor.dtype.name != "bfloat16":
            faults.append(f"type: {name} is {tensor.dtype}, expected floating point")
        elif not np.isfinite(tensor).all():
            faults.append(f"not finite: {name} holds NaN or infinity")
        elif first is not None and not np.array_equal(tensor, copies[first]):
            faults.append(f"unequal: {name} differs from {first}, and the model has one for both")
        else:
            first = first or name
    return faults
