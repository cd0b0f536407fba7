"""A model's variables by flat names, such as `params/backbone/layer2_0/conv1/kernel`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["flatten", "unflatten"]


def flatten(variables: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, with paths joined by `/`."""
    flat = {}
    for name, value in variables.items():
        path = f"{prefix}{name}"
        flat |= flatten(value, f"{path}/") if isinstance(value, Mapping) else {path: value}
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, name = path.split("/")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = value
    return nested
