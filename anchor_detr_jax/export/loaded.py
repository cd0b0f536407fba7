"""Exported files, to hand images to; none of the model's code runs."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from anchor_detr_jax.data.image_source import ImageSource, check_request, open_source
from anchor_detr_jax.export.onnx_file import OnnxProgram, read_onnx
from anchor_detr_jax.export.preparation import prepared_batches, ranked
from anchor_detr_jax.export.stablehlo_file import StablehloPrograms, read_stablehlo
from anchor_detr_jax.structures import Detections, RankedDetections

__all__ = ["ExportedDetector", "ExportedProgram", "load_exported"]

_OPENED = 64
"""Pictures that are in memory at a time."""

ExportedProgram = StablehloPrograms | OnnxProgram
"""What runs: a dict of arrays by name in, and one out."""


def load_exported(path: str | Path) -> ExportedDetector:
    """A detector from a file that `scripts/export.py` wrote, StableHLO or ONNX.

    Nothing in the file is a pickle, and no code of a model of this package runs. ONNX runs in
    onnxruntime (`pip install "anchor_detr_jax[onnx]"`), on the best device that it has.

    Examples:
        >>> detector = ad.load_exported("model.onnx")
        >>> for found in detector(["a.jpg", "b.jpg"], threshold=0.5):
        ...     print(found.names, found.scores, found.boxes)

    Raises:
        ValueError: for a file that is none of these, or a damaged one; it names the file.
        OSError: if it cannot be opened.
    """
    path = Path(path)
    with path.open("rb"):
        pass
    return ExportedDetector(read_stablehlo(path) if zipfile.is_zipfile(path) else read_onnx(path))


class ExportedDetector:
    """A program from a file, with what has to be done to pictures before it and after it.

    Attributes:
        program: takes and gives arrays by name, as `description` says.
        description: what the file says of itself: sizes, categories, where it came from.
    """

    def __init__(self, program: ExportedProgram) -> None:
        self.program = program
        self.description = program.description

    def __repr__(self) -> str:
        d = self.description
        sizes = ", ".join(f"{h}x{w}" for h, w in d.form.sizes) or "any size"
        names = [name for name in d.categories.names if name is not None]
        return (
            f"ExportedDetector: {d.family}, {d.precision}, batches of {d.form.batch or 'any size'},"
            f" images of {sizes}, {len(names)} categories"
        )

    def __call__(
        self, images: ImageSource | Sequence[ImageSource], *, threshold: float = 0.5
    ) -> list[Detections]:
        """What is found in each image, as `Detector.predict` finds it.

        Args:
            images: files, pictures of Pillow and RGB uint8 arrays [h, w, 3], or one of these.
            threshold: lowest score, in [0, 1].

        Raises:
            ValueError: for what is no image, or a damaged one.
            FileNotFoundError: for a file that is not there.
        """
        check_request(threshold, 1, None)
        sources = [images] if isinstance(images, ImageSource) else list(images)
        found: list[Detections] = []
        for start in range(0, len(sources), _OPENED):
            found += self._detect(sources[start : start + _OPENED], threshold)
        return found

    def _detect(self, sources: Sequence[ImageSource], threshold: float) -> list[Detections]:
        pictures = [open_source(source) for source in sources]
        found: dict[int, Detections] = {}
        for batch in prepared_batches(pictures, self.description):
            outputs = self.program(batch.inputs)
            for index, best in zip(
                batch.indices, ranked(outputs, batch, self.description), strict=True
            ):
                found[index] = self._named(best, threshold)
        return [found[index] for index in range(len(sources))]

    def _named(self, best: RankedDetections, threshold: float) -> Detections:
        categories, keep = self.description.categories, np.asarray(best.scores) >= threshold
        labels = np.asarray(best.labels)[keep]
        return Detections(
            boxes=np.asarray(best.boxes)[keep],
            scores=np.asarray(best.scores)[keep],
            labels=np.asarray(categories.ids)[labels],
            names=[str(categories.names[label]) for label in labels],
        )
