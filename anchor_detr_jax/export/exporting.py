"""One export from end to end: written, read back, verified, and only then given its name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from anchor_detr_jax.command.output_file import check_output_file
from anchor_detr_jax.detector import Detector
from anchor_detr_jax.export.form import FORMATS, ExportForm
from anchor_detr_jax.export.loaded import ExportedDetector, load_exported
from anchor_detr_jax.export.onnx_file import write_onnx
from anchor_detr_jax.export.preparation import prepared_batches
from anchor_detr_jax.export.stablehlo_file import write_stablehlo
from anchor_detr_jax.export.verification import (
    Differences,
    Tolerance,
    exact_difference,
    largest_differences,
)

__all__ = ["ExportReport", "NotVerifiedError", "export_detector"]

_HALF_PRECISION = Tolerance(score=0.05, box=8.0)
"""Of bfloat16, where another order of operations rounds otherwise: to catch what is wrong."""

Original = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


class NotVerifiedError(ValueError):
    """An export that does not find what its model finds."""


@dataclass(frozen=True)
class ExportReport:
    """What came of an export.

    Attributes:
        detector: the file, loaded.
        megabytes: its size.
        differences: to the model, in what is found.
        exact: the largest difference, in any number that comes out, to the function as it was
            before it was exported; None where another program than JAX runs it.
    """

    detector: ExportedDetector
    megabytes: float
    differences: Differences
    exact: float | None


def export_detector(
    detector: Detector,
    path: str | Path,
    pictures: Sequence[Image.Image],
    *,
    file_format: str,
    form: ExportForm | None = None,
    weights_inside: bool = False,
) -> ExportReport:
    """Write a detector as a file that runs without this package, if it finds the same there.

    Args:
        detector: with its weights, in the precision to compute in.
        path: the file; an older one of this name is replaced.
        pictures: in RGB; what the file is verified on.
        file_format: "stablehlo" or "onnx".
        form: what goes in and comes out; None: the defaults.
        weights_inside: of StableHLO: part of each program, or beside all of them in the file.

    Raises:
        NotVerifiedError: if file and model differ; nothing is left of the file.
        ValueError: for what cannot be exported.
        OSError: if the file cannot be written.
    """
    path, form = Path(path), form or ExportForm()
    _check(path, file_format, pictures)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        original: Original | None = None
        if file_format == "onnx":
            write_onnx(unfinished, detector, form)
        else:
            original = write_stablehlo(unfinished, detector, form, weights_inside=weights_inside)
        report = _verified(unfinished, detector, pictures, original)
        if not form.symbolic and not weights_inside:
            _check_exact(report)
        unfinished.replace(path)
        return report
    finally:
        unfinished.unlink(missing_ok=True)


def _verified(
    path: Path, detector: Detector, pictures: Sequence[Image.Image], original: Original | None
) -> ExportReport:
    exported = load_exported(path)
    single = exported.description.precision == "float32"
    tolerance = Tolerance() if single else _HALF_PRECISION
    exact = None
    if original is not None:
        batches = prepared_batches(pictures, exported.description)
        exact = exact_difference(exported.program, original, batches)
    differences = largest_differences(exported.program, detector, pictures, tolerance)
    if not differences.within(tolerance):
        raise NotVerifiedError(
            f"the export differs from its model, and is not kept: {differences}; "
            f"{tolerance.score} and {tolerance.box} pixels were the most expected"
        )
    return ExportReport(exported, path.stat().st_size / 1e6, differences, exact)


def _check(path: Path, file_format: str, pictures: Sequence[Image.Image]) -> None:
    check_output_file("output", path)
    if file_format not in FORMATS:
        raise ValueError(f"the format is {file_format!r}, and must be one of {FORMATS}")
    if not pictures:
        raise ValueError("there are no pictures to verify the export on")


def _check_exact(report: ExportReport) -> None:
    """A program of one size is compiled to what JAX compiles without an export."""
    if report.exact not in (None, 0.0):
        raise NotVerifiedError(
            f"the export differs from its own function before the export by {report.exact}, and is "
            "not kept; no difference was expected"
        )
