"""A detector as one function of arrays, which is what is exported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from anchor_detr_jax.detector import Detector
from anchor_detr_jax.export.form import ExportForm
from anchor_detr_jax.layers.padding import FeatureMap
from anchor_detr_jax.models.inference import infer, inference_model, inference_variables
from anchor_detr_jax.postprocess import best_detections
from anchor_detr_jax.structures import Images

__all__ = ["DetectorProgram", "detector_program", "input_shapes"]

_MULTIPLE = 32
"""Sizes that are symbolic are filled up to multiples of this: those of maps follow from it."""


@dataclass(frozen=True)
class DetectorProgram:
    """A function of arrays with what it needs to be traced.

    Attributes:
        function: `function(variables, inputs)`, both dicts by name, gives a dict by name.
        variables: arrays by name.
        input_names: in their order.
        output_names: in their order.
    """

    function: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]
    variables: dict[str, jax.Array]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]


def detector_program(
    detector: Detector, form: ExportForm, *, rcda_impl: str = "whole"
) -> DetectorProgram:
    """The inference form of a detector's model, with what the form asks for around it.

    `rcda_impl` says how RCDA is computed, where the model has it; "whole" has no loop.
    """
    model = inference_model(detector.model, in_parts=False)
    if hasattr(model, "rcda_impl"):
        model = model.clone(rcda_impl=rcda_impl)
    variables = inference_variables(model, detector.variables)
    names, leaves, tree = _named_leaves(variables)
    count = _detections(detector, form)

    def function(named: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
        restored = jax.tree.unflatten(tree, [named[name] for name in names])
        images = _filled_up(
            inputs["pixels"], inputs.get("valid_hw"), 1 if form.sizes else _MULTIPLE
        )
        outputs = infer(model, restored, images)
        if not form.postprocess:
            return {"logits": outputs.logits[-1], "boxes": outputs.boxes[-1]}
        columns = jnp.asarray(detector.categories.in_use)
        best = best_detections(outputs, inputs["original_hw"], columns, count=count)
        return {"boxes": best.boxes, "scores": best.scores, "labels": best.labels}

    return DetectorProgram(
        function,
        dict(zip(names, leaves, strict=True)),
        input_names=(
            "pixels",
            *(["valid_hw"] if form.padding else []),
            *(["original_hw"] if form.postprocess else []),
        ),
        output_names=("boxes", "scores", "labels") if form.postprocess else ("logits", "boxes"),
    )


def input_shapes(
    program: DetectorProgram, form: ExportForm, size: tuple[int, int] | None
) -> dict[str, jax.ShapeDtypeStruct]:
    """What the inputs are for one of the form's sizes; None: for any size."""
    batch, height, width = export.symbolic_shape("batch,height,width")
    batch = batch if form.batch is None else form.batch
    height, width = (height, width) if size is None else size
    pixels = jnp.uint8 if form.preprocess else jnp.float32
    shapes = {
        "pixels": jax.ShapeDtypeStruct((batch, height, width, 3), pixels),
        "valid_hw": jax.ShapeDtypeStruct((batch, 2), jnp.int32),
        "original_hw": jax.ShapeDtypeStruct((batch, 2), jnp.int32),
    }
    return {name: shapes[name] for name in program.input_names}


def _detections(detector: Detector, form: ExportForm) -> int:
    """How many detections come out: not more than there are."""
    used = int(np.count_nonzero(detector.categories.in_use))
    return min(form.top_k, detector.config.num_queries * used)


def _named_leaves(variables: Mapping[str, Any]) -> tuple[list[str], list[jax.Array], Any]:
    """All arrays with names such as `params/backbone/conv1/kernel`."""
    found, tree = jax.tree_util.tree_flatten_with_path(variables)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in found]
    return names, [leaf for _, leaf in found], tree


def _filled_up(pixels: jax.Array, valid_hw: jax.Array | None, multiple: int) -> Images | FeatureMap:
    """Images with so much padding that both sides are a multiple of this."""
    batch, height, width, _ = pixels.shape
    if valid_hw is None:
        valid_hw = jnp.broadcast_to(jnp.asarray([height, width], jnp.int32), (batch, 2))
    below, right = [(side + multiple - 1) // multiple * multiple - side for side in (height, width)]
    pixels = jnp.pad(pixels, ((0, 0), (0, below), (0, right), (0, 0)))
    if pixels.dtype == jnp.uint8:
        return Images(pixels, valid_hw)
    return FeatureMap(pixels, valid_hw)
