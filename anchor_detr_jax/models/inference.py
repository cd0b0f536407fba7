"""A model as it runs where nothing is trained: the same numbers, with less work for each image."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp

from anchor_detr_jax.backbones.folding import folded_batch_norms
from anchor_detr_jax.layers.padding import FeatureMap
from anchor_detr_jax.models.build import Model
from anchor_detr_jax.structures import Images, Outputs

__all__ = ["infer", "inference_model", "inference_variables"]


def inference_model(model: Model, *, in_parts: bool | None = None) -> Model:
    """The model for `inference_variables`.

    Args:
        model: as it is trained.
        in_parts: pixels go through the first layers in bands, and queries attend to each other
            head by head: less memory, and faster on CPUs. None: on CPUs.

    Batch norms are folded but where that gains nothing: in float32 a CPU scales and shifts in one
    pass with what follows, and folding is a copy of all kernels. In bfloat16 it is a rounding less.
    """
    if in_parts is None:
        in_parts = jax.default_backend() == "cpu"
    plain = cast(Any, model).dtype in (None, jnp.float32)
    return model.clone(folded=not (in_parts and plain), in_parts=in_parts, remat="none")


def inference_variables(model: Model, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Variables for a model: what no image changes is computed, and batch norms are folded.

    All that stays as it is is handed on and not copied.

    Args:
        model: as `inference_model` made it, in the dtype that is to be computed in.
        variables: of the model as it is trained.
    """
    constants = _constants(model.clone(in_parts=False), variables)
    params, frozen = variables["params"], variables.get("frozen", {})
    folded = cast(Any, model).folded and "backbone" in frozen
    if not folded:
        return {**variables, "constants": constants}
    backbone = jax.jit(folded_batch_norms)(params["backbone"], frozen["backbone"])
    return {"params": {**params, "backbone": backbone}, "constants": constants}


@partial(jax.jit, static_argnames="model")
def _constants(model: Model, variables: Mapping[str, Any]) -> dict[str, Any]:
    with jax.default_matmul_precision("float32"):
        return cast(dict[str, Any], model.apply(variables, method="constants"))


def infer(
    model: Model,
    variables: Mapping[str, Any],
    images: Images | FeatureMap,
    *,
    precision: str = "float32",
) -> Outputs:
    """What the last decoder layer says of each query.

    Args:
        model: of any form.
        variables: for it.
        images: a padded batch; normalised, where it is a `FeatureMap`.
        precision: of products of float32, as for `jax.default_matmul_precision`; what accelerators
            take by themselves is less than float32.
    """
    with jax.default_matmul_precision(precision):
        return cast(Outputs, model.apply(variables, images, last_layer_only=True))
