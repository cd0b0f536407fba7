"""A state as trees of arrays with flat names, which do not depend on optax's classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from anchor_detr_jax.training.state import TrainState
from anchor_detr_jax.variable_names import flatten

__all__ = ["by_tree", "check_same_arrays", "described", "refilled"]


def by_tree(state: TrainState) -> dict[str, dict[str, Any]]:
    """The arrays of a state as they are stored; trees without arrays are left out."""
    trees: dict[str, dict[str, Any]] = {}
    for (tree, name), leaf in zip(_names(state), jax.tree.leaves(state), strict=True):
        trees.setdefault(tree, {})[name] = leaf
    return trees


def refilled(like: TrainState, trees: Mapping[str, Mapping[str, Any]]) -> TrainState:
    """The inverse of `by_tree`."""
    leaves = [trees[tree][name] for tree, name in _names(like)]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def described(trees: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Dtype and shape of each array, such as `float32[3,4]`."""

    def said(leaf: Any) -> str:
        return f"{np.dtype(leaf.dtype).name}[{','.join(map(str, leaf.shape))}]"

    return {
        tree: {name: said(leaf) for name, leaf in named.items()} for tree, named in trees.items()
    }


def check_same_arrays(
    wanted: Mapping[str, Mapping[str, Any]], stored: Mapping[str, Mapping[str, str]], folder: Path
) -> None:
    """Refuse to fill a state with arrays that are not its own.

    Args:
        wanted: as by `by_tree`.
        stored: as by `described`.
        folder: where they are.

    Raises:
        ValueError: with what is different.
    """
    now = flatten(described(wanted))
    there = flatten({tree: stored.get(tree, {}) for tree in wanted})
    faults = [
        f"{name}: {there.get(name, 'nothing')} in the run, {now.get(name, 'nothing')} now"
        for name in {**there, **now}
        if there.get(name) != now.get(name)
    ]
    if faults:
        raise ValueError(
            f"{folder} does not go with these settings of the optimizer: {len(faults)} arrays "
            f"differ, such as {'; '.join(faults[:5])}"
        )


def _names(state: TrainState) -> list[tuple[str, str]]:
    """Tree and name of each array, in JAX's order."""
    keys = [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(state)
    ]
    parts = [key.partition("/") for key in keys]
    return [(tree, name) if name else ("optimizer", tree) for tree, _, name in parts]
