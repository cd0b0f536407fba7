"""Whether an exported file finds what its model finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from anchor_detr_jax.data.batching import pad_images
from anchor_detr_jax.data.buckets import padded_to
from anchor_detr_jax.detector import Detector
from anchor_detr_jax.export.description import Description
from anchor_detr_jax.export.loaded import ExportedProgram
from anchor_detr_jax.export.preparation import PreparedBatch, prepared_batches, ranked
from anchor_detr_jax.models.inference import infer, inference_model, inference_variables
from anchor_detr_jax.programs import detect
from anchor_detr_jax.structures import RankedDetections

__all__ = ["Differences", "Tolerance", "exact_difference", "largest_differences"]


@dataclass(frozen=True)
class Tolerance:
    """How far an export may be from its model.

    Attributes:
        score: probabilities.
        box: sides, in pixels of the image as it came.
    """

    score: float = 1e-4
    box: float = 0.05


@dataclass(frozen=True)
class Differences:
    """The largest differences over all images.

    Attributes:
        images: how many there were.
        score: of the detection of each rank, between probabilities.
        box: in pixels of the image as it came, between a detection and the nearest of the same
            label whose score is within the tolerance.
        labels: detections of which there is none with the same label and nearly the same score.
    """

    images: int = 0
    score: float = 0.0
    box: float = 0.0
    labels: int = 0

    def __str__(self) -> str:
        return (
            f"{self.images} images: scores differ by {self.score:.1e} at most, boxes by "
            f"{self.box:.1e} pixels, labels in {self.labels} places"
        )

    def within(self, tolerance: Tolerance) -> bool:
        """Whether all of this may be. What is not a number may not."""
        return self.labels == 0 and self.score <= tolerance.score and self.box <= tolerance.box

    def joined(self, other: Differences) -> Differences:
        """Those of both."""
        return Differences(
            self.images + other.images,
            max(self.score, other.score),
            max(self.box, other.box),
            self.labels + other.labels,
        )


def largest_differences(
    program: ExportedProgram,
    detector: Detector,
    pictures: Sequence[Image.Image],
    tolerance: Tolerance,
) -> Differences:
    """What an exported program finds, beside what the detector itself does with the same pixels.

    In the form that the detector runs in here: in bfloat16 batch norms that are not folded round
    otherwise, by more than is tolerated.
    """
    description = program.description
    count = min(
        description.form.top_k,
        detector.config.num_queries * int(description.categories.in_use.sum()),
    )

    model, columns = inference_model(detector.model), jnp.asarray(description.categories.in_use)
    variables = inference_variables(model, detector.variables)
    expected = jax.jit(partial(detect, partial(infer, model), columns=columns, count=count))
    batches = list(prepared_batches(pictures, description))
    # Padding changes nothing, so that one program is enough for images of all sizes.
    hw = padded_to(batch.inputs["pixels"].shape[1:3] for batch in batches)
    differences = Differences()
    for batch in batches:
        for i, found in enumerate(ranked(program(batch.inputs), batch, description)):
            images = pad_images([_image(batch, i, description)], hw, 1)
            right = expected(variables, images, batch.original_hw[i : i + 1])
            one = jax.tree.map(lambda array: np.asarray(array[0]), right)
            differences = differences.joined(_compared(found, one, tolerance))
    return differences


def _image(batch: PreparedBatch, i: int, description: Description) -> UInt8[np.ndarray, "h w 3"]:
    """An image of a batch, without its padding, as it was before it was normalised."""
    pixels = batch.inputs["pixels"][i]
    if pixels.dtype != np.uint8:
        mean, std = np.asarray(description.mean), np.asarray(description.std)
        pixels = np.rint((pixels * std + mean) * 255).clip(0, 255).astype(np.uint8)
    if "valid_hw" not in batch.inputs:
        return pixels
    height, width = batch.inputs["valid_hw"][i]
    return pixels[:height, :width]


def _compared(
    found: RankedDetections, expected: RankedDetections, tolerance: Tolerance
) -> Differences:
    """One image. Detections whose scores are nearly equal may stand in another order."""
    scores, right = np.asarray(found.scores), np.asarray(expected.scores)
    if scores.shape != right.shape or not np.isfinite([*scores, *found.boxes.ravel()]).all():
        return Differences(1, np.inf, np.inf, max(scores.size, right.size))
    near = np.abs(right[:, None] - scores[None]) <= tolerance.score
    same = near & (np.asarray(expected.labels)[:, None] == np.asarray(found.labels)[None])
    apart = np.abs(np.asarray(expected.boxes)[:, None] - np.asarray(found.boxes)[None]).max(axis=2)
    nearest = np.where(same, apart, np.inf).min(axis=1)
    # Of those as good as the last one, any may have been left out.
    certain = right > right[-1] + 2 * tolerance.score
    missing = certain & np.isinf(nearest)
    boxes = nearest[certain & ~missing]
    return Differences(
        images=1,
        score=float(np.abs(scores - right).max()),
        box=float(boxes.max(initial=0.0)),
        labels=int(missing.sum()),
    )


def exact_difference(
    program: ExportedProgram,
    original: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]],
    batches: Iterable[PreparedBatch],
) -> float:
    """The largest difference, in any number, to the function as it was before the export."""
    largest = 0.0
    for batch in batches:
        found, right = program(batch.inputs), original(batch.inputs)
        for name, array in right.items():
            difference = np.abs(found[name].astype(np.float64) - array.astype(np.float64))
            largest = float(np.maximum(largest, difference.max(initial=0.0)))  # NaN stays NaN
    return largest
