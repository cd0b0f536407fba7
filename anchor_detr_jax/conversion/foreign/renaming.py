"""How names become others."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

__all__ = ["ForeignLayout", "Substitution", "renamed", "stacked", "with_number"]

Substitution: TypeAlias = tuple[str, str | Callable[[re.Match[str]], str]]
"""A pattern, and what stands in its place, as `re.sub` takes them."""

_PART = re.compile(r"(.+)\.([qkv])_proj\.(weight|bias)")


@dataclass(frozen=True)
class ForeignLayout:
    """A project that saves a family's models under names of its own.

    Attributes:
        name: of the project.
        recognises: whether a state dict has its names.
        official: the state dict under official names. What it does not know keeps its name.
            Raises ValueError for two tensors that would be one.
        args: what is certain of its models that official training options would say, from the
            state dict under its own names.
    """

    name: str
    recognises: Callable[[Mapping[str, np.ndarray]], bool]
    official: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]
    args: Callable[[Mapping[str, np.ndarray]], dict[str, Any]] = lambda tensors: {}


def renamed(
    tensors: Mapping[str, np.ndarray], substitutions: Iterable[Substitution]
) -> dict[str, np.ndarray]:
    """A state dict whose names went through all substitutions, in their order.

    Raises:
        ValueError: for two names that become one.
    """
    patterns = [(re.compile(pattern), by) for pattern, by in substitutions]
    before: dict[str, str] = {}
    for name in tensors:
        new = name
        for pattern, by in patterns:
            new = pattern.sub(by, new)
        if new in before:
            raise ValueError(f"{before[new]} and {name} are two tensors for one, {new}")
        before[new] = name
    return {new: tensors[name] for new, name in before.items()}


def stacked(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`q_proj`, `k_proj` and `v_proj` as PyTorch's `in_proj`; incomplete ones stay as they are."""
    parts: dict[str, dict[str, str]] = {}
    for name in tensors:
        if match := _PART.fullmatch(name):
            parts.setdefault(f"{match[1]}.in_proj_{match[3]}", {})[match[2]] = name
    whole = dict(tensors)
    for name, found in parts.items():
        blocks = [tensors[found[part]] for part in "qkv" if part in found]
        if len(blocks) == 3 and len({block.shape for block in blocks}) == 1 and blocks[0].ndim:
            whole[name] = np.concatenate(blocks)
            for part in found.values():
                del whole[part]
    return whole


def with_number(before: str, change: int, after: str = "") -> Callable[[re.Match[str]], str]:
    """The pattern's first group as a number, changed, between two words."""
    return lambda match: f"{before}{int(match[1]) + change}{after}"
