"""StableHLO in a file: a zip archive with programs of `jax.export`, and what is said of them.

    metadata.json                 the description, each of its parts a JSON text
    program_cpu_800x1216.bin      `jax.export.Exported.serialize`, for a platform and a size
    program_cpu.bin               the same, for any size
    program.bin                   with weights inside: for all platforms
    weights.npz                   else: arrays by name, for all programs

Nothing in it is a pickle, and nothing is unpacked to disk. A program of several platforms has a
branch for each platform at each product and convolution; one that is for one platform alone is
what JAX compiles without an export, so it gives the same to the last bit.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export

from anchor_detr_jax.detector import Detector
from anchor_detr_jax.export.description import Description, described
from anchor_detr_jax.export.form import ExportForm
from anchor_detr_jax.export.program import DetectorProgram, detector_program, input_shapes

__all__ = ["PLATFORMS", "StablehloPrograms", "read_stablehlo", "write_stablehlo"]

PLATFORMS = ("cpu", "cuda", "tpu")

_METADATA, _WEIGHTS = "metadata.json", "weights.npz"

Arrays = dict[str, np.ndarray]


def write_stablehlo(
    path: Path, detector: Detector, form: ExportForm, *, weights_inside: bool = False
) -> Callable[[Mapping[str, np.ndarray]], Arrays]:
    """Write the file; what comes back runs the same function as it was before the export.

    Args:
        path: of the file.
        detector: with its weights, in the precision to compute in.
        form: what goes in and comes out.
        weights_inside: whether weights are part of each program, or stand beside all of them.
    """
    functions: dict[str, Callable[..., Any]] = {}
    program = detector_program(detector, form)
    weights = _plain(program.variables)
    shapes: dict[str, jax.ShapeDtypeStruct] = {}
    told: dict[str, Any] = {
        "platforms": PLATFORMS,
        "weights": "inside" if weights_inside else "beside",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for platform in (None,) if weights_inside else PLATFORMS:
            impl = _rcda_impl(form, platform)
            function = _with_weights(detector_program(detector, form, rcda_impl=impl))
            functions[str(platform)] = function
            for size in form.sizes or (None,):
                shapes = input_shapes(program, form, size)
                exported = _exported(function, weights, shapes, platform)
                _add(archive, _program_name(platform, size), exported.serialize())
                told["calling_convention_version"] = exported.calling_convention_version
        if not weights_inside:
            buffer = io.BytesIO()
            np.savez(buffer, **weights)  # pyright: ignore[reportArgumentType]
            _add(archive, _WEIGHTS, buffer.getvalue())
        description = described(detector, form, shapes, program.output_names, told)
        _add(archive, _METADATA, json.dumps(description.to_json(), indent=1).encode())
    original = jax.jit(functions[str(None if weights_inside else _platform())])
    return lambda inputs: _on_host(original(weights, dict(inputs)))


def _exported(
    function: Callable[..., Any],
    weights: Arrays,
    shapes: Mapping[str, jax.ShapeDtypeStruct],
    platform: str | None,
) -> export.Exported:
    """A function for one platform, or, with its weights, for all."""
    if platform is None:
        inside = jax.jit(lambda inputs: function(weights, inputs))
        return export.export(inside, platforms=PLATFORMS)(shapes)
    likes = {name: jax.ShapeDtypeStruct(a.shape, a.dtype) for name, a in weights.items()}
    return export.export(jax.jit(function), platforms=(platform,))(likes, shapes)


class StablehloPrograms:
    """The programs of a file, each ready when it is first asked for.

    Attributes:
        description: what the file says of itself.
    """

    def __init__(
        self, description: Description, programs: Mapping[str, bytes], weights: Arrays | None
    ) -> None:
        self.description = description
        self._serialized = programs
        self._programs: dict[str, Callable[..., Any]] = {}
        self._weights = () if weights is None else (weights,)

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Run the program for the size of these images."""
        height, width = inputs["pixels"].shape[1:3]
        inside = self._weights == ()
        size = (height, width) if self.description.form.sizes else None
        name = _program_name(None if inside else _platform(), size)
        if name not in self._programs:
            exported = export.deserialize(bytearray(self._serialized[name]))
            self._programs[name] = jax.jit(exported.call)
        return _on_host(self._programs[name](*self._weights, dict(inputs)))


def read_stablehlo(path: Path) -> StablehloPrograms:
    """The programs of a file; it may come from anywhere, and nothing in it is run yet.

    Raises:
        ValueError: for a file that is none, or a damaged one; it says what is wrong.
        OSError: if it cannot be opened.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            texts = json.loads(archive.read(_METADATA))
            if not isinstance(texts, dict):
                raise ValueError("its description is no JSON object")
            description = Description.from_json(texts)
            weights, platform = None, None
            beside = description.program["weights"] == "beside"
            if beside:
                platform = _platform()
                with np.load(io.BytesIO(archive.read(_WEIGHTS)), allow_pickle=False) as file:
                    weights = dict(file)
            names = [_program_name(platform, size) for size in description.form.sizes or (None,)]
            programs = {name: archive.read(name) for name in names}
    except KeyError as error:
        raise ValueError(f"{path} is no export, or a damaged one: {error.args[0]}") from None
    except (ValueError, zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise ValueError(f"{path} is no export, or a damaged one: {error}") from None
    return StablehloPrograms(description, programs, weights)


def _rcda_impl(form: ExportForm, platform: str | None) -> str:
    """How RCDA is computed: as `layers.rcda.attend` does by itself, where sizes are known."""
    if platform is None or not form.sizes:
        return "whole"
    return "scan" if platform == "cpu" else "chunks"


def _with_weights(program: DetectorProgram) -> Callable[..., Any]:
    """The program's function, of weights in NumPy's types."""
    dtypes = {name: array.dtype for name, array in program.variables.items()}

    def function(weights: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
        variables = {name: jax.numpy.asarray(weights[name], dtypes[name]) for name in dtypes}
        return program.function(variables, inputs)

    return function


def _plain(variables: Mapping[str, jax.Array]) -> Arrays:
    """Weights as NumPy's files can hold them, which have no bfloat16."""
    return {name: np.asarray(array, np.float32) for name, array in variables.items()}


def _platform() -> str:
    """What JAX runs on here, by the name that programs have."""
    backend = jax.default_backend()
    return "cuda" if backend == "gpu" else backend


def _program_name(platform: str | None, size: tuple[int, int] | None) -> str:
    parts = ["program", platform, size and f"{size[0]}x{size[1]}"]
    return "_".join(part for part in parts if part) + ".bin"


def _add(archive: zipfile.ZipFile, name: str, content: bytes | bytearray) -> None:
    """A member whose bytes do not depend on when it was written."""
    archive.writestr(zipfile.ZipInfo(name), bytes(content))


def _on_host(outputs: Mapping[str, Any]) -> Arrays:
    return {name: np.asarray(array) for name, array in outputs.items()}
