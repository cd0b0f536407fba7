"""From pictures to the arrays that an exported program takes, and back to detections; no jax."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image
from scipy.special import expit, log_softmax

from anchor_detr_jax.data.batching import pad_images
from anchor_detr_jax.data.buckets import smallest_bucket
from anchor_detr_jax.data.transforms import resize, resized_hw
from anchor_detr_jax.export.description import Description
from anchor_detr_jax.export.form import ExportForm
from anchor_detr_jax.structures import RankedDetections

__all__ = ["PreparedBatch", "prepared_batches", "ranked"]

_TOGETHER = 8
"""Images at a time where the number is open."""


@dataclass(frozen=True)
class PreparedBatch:
    """What goes into a program at once.

    Attributes:
        inputs: arrays by name.
        indices: which images these are; fewer than the arrays hold where they were filled up.
        original_hw: heights and widths of these images as they came.
    """

    inputs: dict[str, np.ndarray]
    indices: list[int]
    original_hw: np.ndarray


def prepared_batches(
    images: Sequence[Image.Image], description: Description
) -> Iterator[PreparedBatch]:
    """Pictures in RGB, resized and batched as the description asks for."""
    form = description.form
    waiting: dict[tuple[int, int], list[tuple[int, np.ndarray]]] = {}
    full = form.batch or _TOGETHER
    for index, image in enumerate(images):
        pixels, key = _resized(image, form)
        waiting.setdefault(key, []).append((index, pixels))
        if len(waiting[key]) == full:
            yield _batch(waiting.pop(key), key, images, description)
    for key, members in waiting.items():
        yield _batch(members, key, images, description)


def _resized(image: Image.Image, form: ExportForm) -> tuple[np.ndarray, tuple[int, int]]:
    """The pixels, and the size of the arrays that they go into."""
    hw = (image.height, image.width)
    if not form.sizes:
        pixels = resize(image, resized_hw(hw, form.short_side, form.long_side))
        return pixels, (pixels.shape[0], pixels.shape[1])
    if not form.padding:
        shape = min(form.sizes, key=lambda size: abs(np.log(size[0] / size[1] * hw[1] / hw[0])))
        return resize(image, shape), shape
    if len(form.sizes) == 1:
        (size,) = form.sizes
        share = min(size[0] / hw[0], size[1] / hw[1])
        fitting = [
            max(1, min(int(s * share + 0.5), most)) for s, most in zip(hw, size, strict=True)
        ]
        return resize(image, (fitting[0], fitting[1])), size
    pixels = resize(image, resized_hw(hw, form.short_side, form.long_side))
    return pixels, smallest_bucket((pixels.shape[0], pixels.shape[1]), form.sizes)


def _batch(
    members: list[tuple[int, np.ndarray]],
    hw: tuple[int, int],
    images: Sequence[Image.Image],
    description: Description,
) -> PreparedBatch:
    form = description.form
    padded = pad_images([pixels for _, pixels in members], hw, form.batch or len(members))
    pixels, valid_hw = np.asarray(padded.pixels), np.asarray(padded.valid_hw)
    indices = [index for index, _ in members]
    original_hw = np.ones_like(valid_hw)
    original_hw[: len(indices)] = [(images[i].height, images[i].width) for i in indices]
    if not form.preprocess:
        mean, std = (np.asarray(x, np.float32) for x in (description.mean, description.std))
        pixels = (pixels.astype(np.float32) / 255 - mean) / std
    inputs = {"pixels": pixels, "valid_hw": valid_hw, "original_hw": original_hw}
    chosen = {name: inputs[name] for name in description.inputs}
    return PreparedBatch(chosen, indices, original_hw[: len(indices)])


def ranked(
    outputs: Mapping[str, np.ndarray], batch: PreparedBatch, description: Description
) -> list[RankedDetections]:
    """The best detections of each image of a batch, whether or not the program ranks them."""
    count = len(batch.indices)
    if description.form.postprocess:
        return [
            RankedDetections(*(outputs[name][i] for name in ("boxes", "scores", "labels")))
            for i in range(count)
        ]
    return [
        _best(outputs["logits"][i], outputs["boxes"][i], batch.original_hw[i], description)
        for i in range(count)
    ]


def _best(
    logits: Float[np.ndarray, "q c"],
    boxes_cxcywh: Float[np.ndarray, "q 4"],
    original_hw: np.ndarray,
    description: Description,
) -> RankedDetections:
    """`postprocess.best_detections` of one image, in numpy."""
    used = description.categories.in_use
    scores = log_softmax(logits, axis=1) if description.no_object else logits
    scores = np.where(used, scores[:, : len(used)], -np.inf)
    if description.no_object:  # each query names its best class alone
        scores[np.arange(len(used)) != scores.argmax(axis=1)[:, None]] = -np.inf
    flat = scores.ravel()
    best = np.argsort(-flat, kind="stable")[: min(description.form.top_k, np.isfinite(flat).sum())]
    queries, labels = np.divmod(best, len(used))
    centre, size = boxes_cxcywh[queries, :2], boxes_cxcywh[queries, 2:]
    corners = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
    scale = np.tile(original_hw[::-1], 2).astype(np.float32)
    return RankedDetections(
        boxes=corners * scale,
        scores=np.exp(flat[best]) if description.no_object else expit(flat[best]),
        labels=labels,
    )
