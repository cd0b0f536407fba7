"""From a data set to detections in COCO's results format."""

from __future__ import annotations

from typing import Any

import numpy as np
from tqdm import tqdm

from anchor_detr_jax.data.batching import PreparedImage, in_threads, prepare
from anchor_detr_jax.data.buckets import inference_buckets
from anchor_detr_jax.data.coco import CocoDataset
from anchor_detr_jax.data.transforms import open_rgb
from anchor_detr_jax.detector import Detector
from anchor_detr_jax.structures import RankedDetections

__all__ = ["detect_dataset"]

_DETECTIONS = 100
"""What COCO's AP looks at, and what the reference reports, for each image."""


def detect_dataset(
    detector: Detector,
    dataset: CocoDataset,
    *,
    short_side: int = 800,
    long_side: int = 1333,
    batch_size: int = 1,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """The 100 best detections of each image, of all columns, in the data set's order.

    Pictures are taken as they are stored, without EXIF rotation, as their annotations are.

    Args:
        detector: what to run.
        dataset: what to run it on.
        short_side: images are resized until their short side is this long,
        long_side: unless their long side would be longer than this.
        batch_size: images at a time; the numbers do not depend on it.
        progress: show a progress bar.

    Returns:
        image_id, category_id, bbox [x, y, w, h] in pixels and not clipped, score.
    """

    def prepared(index: int) -> PreparedImage:
        image = open_rgb(dataset.images[index].path, apply_exif_rotation=False)
        return prepare(index, image, short_side, long_side)

    count = len(dataset.images)
    ranked = detector.detect(
        in_threads(prepared, range(count)),
        buckets=inference_buckets(short_side, long_side),
        batch_size=batch_size,
        top_k=_DETECTIONS,
        columns=np.ones(len(detector.categories), bool),
    )
    found: dict[int, list[dict[str, Any]]] = {}
    for index, best in tqdm(ranked, total=count, unit="image", disable=not progress):
        image_id = dataset.images[index].id
        found[index] = _to_coco(best, image_id, detector.categories.ids)
    return [result for index in range(count) for result in found[index]]


def _to_coco(
    best: RankedDetections, image_id: int, category_ids: tuple[int, ...]
) -> list[dict[str, Any]]:
    corner, opposite = np.asarray(best.boxes)[:, :2], np.asarray(best.boxes)[:, 2:]
    boxes_xywh = np.concatenate([corner, opposite - corner], axis=1).tolist()
    return [
        {"image_id": image_id, "category_id": category_ids[label], "bbox": box, "score": score}
        for label, box, score in zip(
            np.asarray(best.labels).tolist(),
            boxes_xywh,
            np.asarray(best.scores).tolist(),
            strict=True,
        )
    ]
