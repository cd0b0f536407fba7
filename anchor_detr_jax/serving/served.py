"""A detector as the service uses it: a few programs, all compiled before the first request."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from PIL import Image

from anchor_detr_jax.data.batching import PreparedImage, prepare
from anchor_detr_jax.data.buckets import smallest_bucket
from anchor_detr_jax.data.image_size import ImageSize
from anchor_detr_jax.data.image_source import check_request
from anchor_detr_jax.detector import Detector, default_batch_size
from anchor_detr_jax.devices import unbatched
from anchor_detr_jax.structures import RankedDetections

__all__ = ["Program", "ServedDetector"]


@dataclass(frozen=True)
class Program:
    """One static shape.

    Attributes:
        bucket: height and width that images are padded to.
        batch_size: number of images that batches are filled up to.
    """

    bucket: tuple[int, int]
    batch_size: int


class ServedDetector:
    """A detector with its buckets and the sizes of its batches.

    Batches are filled up to the next power of two (times the number of devices), so that a single
    image does not cost what a full batch costs.

    Attributes:
        detector: what runs.
        buckets: heights and widths that images are padded to.
        batch_sizes: in ascending order; the last one is the largest batch.
        programs: each bucket in each batch size.
        top_k: most detections of a picture.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        short_side: int = 800,
        long_side: int = 1333,
        fixed_hw: tuple[int, ...] = (),
        batch_size: int | None = None,
        top_k: int = 100,
    ) -> None:
        check_request(0.0, top_k, batch_size)
        self.detector = detector
        self.top_k = top_k
        self._size = ImageSize(short_side, long_side, fixed_hw)
        self.buckets = self._size.buckets()
        self.batch_sizes = _batch_sizes(
            batch_size or default_batch_size(), devices=jax.local_device_count()
        )
        self.programs = [Program(b, size) for b in self.buckets for size in self.batch_sizes]

    def describe(self) -> dict[str, Any]:
        """What is served, as JSON."""
        categories = self.detector.categories
        named = zip(categories.ids, categories.names, strict=True)
        return {
            "detector": repr(self.detector).splitlines(),
            "top_k": self.top_k,
            **dataclasses.asdict(self._size),
            "buckets": [f"{height}x{width}" for height, width in self.buckets],
            "batch_sizes": list(self.batch_sizes),
            "categories": [{"id": id_, "name": name} for id_, name in named if name is not None],
        }

    def prepare(self, picture: Image.Image) -> tuple[tuple[int, int], PreparedImage]:
        """The bucket of an RGB picture, and the picture resized for it."""
        prepared = prepare(0, picture, self._size)
        height, width, _ = prepared.pixels.shape
        return smallest_bucket((height, width), self.buckets), prepared

    def compile(self, program: Program) -> None:
        """Have a program ready, by running it once on black."""
        pixels = np.zeros((*program.bucket, 3), np.uint8)
        self._run([PreparedImage(0, pixels, program.bucket)], program)

    def run(self, bucket: tuple[int, int], images: list[PreparedImage]) -> list[RankedDetections]:
        """The `top_k` best detections of each image of one bucket; host arrays."""
        size = next(size for size in self.batch_sizes if size >= len(images))
        return self._run(images, Program(bucket, size))

    def named(self, ranked: RankedDetections, threshold: float, top_k: int) -> list[dict[str, Any]]:
        """Detections of one image as JSON: box in pixels (x1, y1, x2, y2), score, id and name."""
        scores = np.asarray(ranked.scores)[:top_k]
        keep = np.flatnonzero(scores >= threshold)
        boxes = np.asarray(ranked.boxes)[keep].astype(float).round(2).tolist()
        labels = np.asarray(ranked.labels)[keep].tolist()
        ids, names = self.detector.categories.ids, self.detector.categories.names
        return [
            {"box": box, "score": round(float(score), 5), "id": ids[label], "name": names[label]}
            for box, score, label in zip(boxes, scores[keep], labels, strict=True)
        ]

    def _run(self, images: list[PreparedImage], program: Program) -> list[RankedDetections]:
        (found,) = self.detector.detect_batches(
            images,
            buckets=[program.bucket],
            batch_size=program.batch_size,
            top_k=self.top_k,
            columns=self.detector.categories.in_use,
        )
        return [ranked for _, ranked in unbatched(found)]


def _batch_sizes(largest: int, *, devices: int) -> tuple[int, ...]:
    """Powers of two below the largest, and it; each rounded up to a multiple of the devices."""
    powers = [1 << i for i in range(largest.bit_length()) if 1 << i < largest]
    return tuple(sorted({-(-size // devices) * devices for size in [*powers, largest]}))
