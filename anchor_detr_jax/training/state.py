"""All that a training run carries from step to step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from anchor_detr_jax.structures import pytree
from anchor_detr_jax.variable_names import flatten, unflatten

__all__ = ["TrainState", "start_state"]


@pytree
@dataclass(frozen=True)
class TrainState:
    """Parameters are kept by flat names, such as `backbone/layer2_0/conv1/kernel`.

    Attributes:
        step: how many steps are done.
        trained: parameters that learn.
        optimizer: the state of optax's transformation of `trained`.
        average: moving average of `trained`; None where there is none.
        fixed: parameters that never learn, by the same names.
        frozen: the collection of that name: what no parameter is, as the batch norms.
    """

    step: Int[Array, ""]
    trained: dict[str, Array]
    optimizer: Any
    average: dict[str, Array] | None
    fixed: dict[str, Array]
    frozen: dict[str, Any]

    def variables(self, trained: dict[str, Any] | None = None) -> dict[str, Any]:
        """What the model takes: with these trained parameters, or with its own."""
        params = {**self.fixed, **(self.trained if trained is None else trained)}
        collections = {"params": unflatten(params), "frozen": self.frozen}
        return {name: tree for name, tree in collections.items() if tree}


def start_state(
    variables: Mapping[str, Any],
    optimizer: optax.GradientTransformation,
    groups: Mapping[str, str],
    *,
    average: bool = False,
) -> TrainState:
    """The state before the first step; no array of it is one of `variables`.

    Args:
        variables: `params` and `frozen`, as the model has them.
        optimizer: by `make_optimizer`.
        groups: by `parameter_groups`.
        average: keep a moving average.
    """
    variables = _copied(variables)
    params = flatten(variables["params"])
    trained = {name: leaf for name, leaf in params.items() if groups[name] != "frozen"}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        trained=trained,
        optimizer=optimizer.init(trained),
        average=_copied(trained) if average else None,
        fixed={name: leaf for name, leaf in params.items() if name not in trained},
        frozen=variables.get("frozen", {}),
    )


def _copied(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), tree)
