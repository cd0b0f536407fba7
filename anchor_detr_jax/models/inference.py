"""A model as it runs where nothing is trained: the same numbers, with less work for each image."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax

from anchor_detr_jax.backbones.folding import folded_batch_norms
from anchor_detr_jax.models.build import Model

__all__ = ["inference_model", "inference_variables"]


def inference_model(model: Model, *, in_parts: bool = False) -> Model:
    """The model for `inference_variables`.

    Args:
        model: as it is trained.
        in_parts: pixels go through the first layers in bands, and queries attend to each other
            head by head: less memory, and faster on CPUs.
    """
    return model.clone(folded=True, in_parts=in_parts, remat="none")


@partial(jax.jit, static_argnames="model")
def inference_variables(model: Model, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Variables for `inference_model`: batch norms folded, and what no image changes computed.

    Args:
        model: as it is trained, in the dtype that is to be computed in.
        variables: its own; they stay as they are.
    """
    with jax.default_matmul_precision("float32"):
        constants = model.apply(variables, method="constants")
    params, frozen = variables["params"], variables.get("frozen", {})
    backbone = folded_batch_norms(params["backbone"], frozen.get("backbone", {}))
    return {"params": {**params, "backbone": backbone}, "constants": constants}
