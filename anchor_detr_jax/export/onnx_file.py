"""ONNX in a file: one graph for one size, or for any, and what is said of it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from anchor_detr_jax.detector import Detector
from anchor_detr_jax.export.description import Description, described
from anchor_detr_jax.export.form import ExportForm
from anchor_detr_jax.export.program import detector_program, input_shapes

__all__ = ["OnnxProgram", "check_onnx_export", "check_onnx_packages", "read_onnx", "write_onnx"]

_LARGEST = 2**31 - 1
"""Bytes that protobuf takes in one message."""


def check_onnx_export(detector: Detector, form: ExportForm) -> None:
    """See that ONNX can be written and run here, and can hold what is asked for.

    Raises:
        ValueError: if not; it says what is missing, and what brings it.
    """
    check_onnx_packages()
    if len(form.sizes) > 1:
        raise ValueError(
            "an ONNX file holds one graph: --size must be HEIGHTxWIDTH, or dynamic for any size; "
            "buckets are for stablehlo"
        )
    dtype = getattr(detector.model, "dtype", None)
    if dtype is not None and np.dtype(dtype) != np.float32:
        raise ValueError(
            f"--precision {np.dtype(dtype).name} is for stablehlo: onnxruntime has no CPU kernels "
            "for it, so the graph could not be verified; export float32, and let the runtime lower "
            "the precision"
        )


def check_onnx_packages(*names: str) -> None:
    """See that packages can be imported; without names: all that an export to ONNX needs.

    Raises:
        ValueError: if not; it says which, and what brings them.
    """
    names = names or ("onnx", "onnxruntime")
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"{' and '.join(missing)} cannot be imported; "
            'pip install "anchor_detr_jax[onnx]" brings what ONNX needs'
        )


def write_onnx(path: Path, detector: Detector, form: ExportForm) -> None:
    """Write the file and see that ONNX's checker accepts it.

    Raises:
        ValueError: for a model with something that has no translation, or over ONNX's 2 GB.
    """
    check_onnx_export(detector, form)
    import onnx

    from anchor_detr_jax.export.onnx_graph import OPSET, onnx_model

    program = detector_program(detector, form)
    shapes = input_shapes(program, form, form.sizes[0] if form.sizes else None)

    def results(variables: list[Any], *inputs: Any) -> list[Any]:
        named = dict(zip(program.variables, variables, strict=True))
        outputs = program.function(named, dict(zip(program.input_names, inputs, strict=True)))
        return [outputs[name] for name in program.output_names]

    arrays = list(program.variables.values())
    model = onnx_model(
        jax.make_jaxpr(results)(arrays, *shapes.values()),
        list(program.variables.items()),
        inputs=program.input_names,
        outputs=program.output_names,
        name=detector.config.__class__.__name__.removesuffix("Config"),
    )
    description = described(detector, form, shapes, program.output_names, {"opset": OPSET})
    for key, text in description.to_json().items():
        model.metadata_props.add(key=key, value=text)
    if model.ByteSize() > _LARGEST:
        raise ValueError(f"{path}: {model.ByteSize():,} bytes are more than an ONNX file can hold")
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


class OnnxProgram:
    """A file's graph in onnxruntime.

    Attributes:
        description: what the file says of itself.
    """

    def __init__(self, description: Description, session: Any) -> None:
        self.description = description
        self._session = session

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the graph."""
        outputs = self.description.outputs
        return dict(zip(outputs, self._session.run(outputs, dict(inputs)), strict=True))


def read_onnx(path: Path) -> OnnxProgram:
    """A file's graph, on the best device that this onnxruntime has; it may come from anywhere.

    Raises:
        ValueError: for a file that is none, or a damaged one, and without onnxruntime.
        OSError: if it cannot be opened.
    """
    with path.open("rb"):
        pass
    check_onnx_packages("onnxruntime")
    import onnxruntime

    try:
        # TensorRT would build an engine for minutes; who wants that asks for it with trtexec.
        there = onnxruntime.get_available_providers()
        providers = [name for name in there if name != "TensorrtExecutionProvider"]
        session = onnxruntime.InferenceSession(str(path), providers=providers)
        description = Description.from_json(session.get_modelmeta().custom_metadata_map)
    except Exception as error:  # onnxruntime's errors have no class in common
        first = str(error).strip().partition("\n")[0][:200]
        raise ValueError(f"{path} is no export, or a damaged one: {first}") from None
    return OnnxProgram(description, session)
