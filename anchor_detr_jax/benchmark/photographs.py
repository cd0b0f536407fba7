"""Photographs as a detector sees them: each at its own size, padded to one of a few."""

from __future__ import annotations

from pathlib import Path

from anchor_detr_jax.data.batching import pad_images, prepare
from anchor_detr_jax.data.buckets import smallest_bucket
from anchor_detr_jax.data.image_size import ImageSize
from anchor_detr_jax.data.transforms import open_rgb
from anchor_detr_jax.structures import Images
from anchor_detr_jax.training.config import EvaluationConfig

__all__ = ["read_photographs"]

_KINDS = {".jpg", ".jpeg", ".png"}
_MOST = 20


def read_photographs(folder: str, sides: EvaluationConfig) -> list[Images]:
    """Batches of one, resized; of many photographs 20, spread over the folder by name.

    Raises:
        ValueError: if there are none, or one cannot be read.
    """
    files = sorted(file for file in Path(folder).glob("*") if file.suffix.lower() in _KINDS)
    if not files:
        raise ValueError(f"there are no photographs ({', '.join(sorted(_KINDS))}) in {folder!r}")
    size = ImageSize(sides.short_side, sides.long_side, sides.fixed_hw)
    batches = []
    for index in range(0, len(files), -(-len(files) // _MOST)):
        image = open_rgb(files[index], apply_exif_rotation=True)
        pixels = prepare(index, image, size).pixels
        hw = (pixels.shape[0], pixels.shape[1])
        batches.append(pad_images([pixels], smallest_bucket(hw, size.buckets()), 1))
    return batches
