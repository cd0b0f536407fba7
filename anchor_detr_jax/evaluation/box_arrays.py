"""What there is to find and what was found as arrays, to be gone through picture by picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from pycocotools import mask

from anchor_detr_jax.evaluation.coco_ap import checked_results
from anchor_detr_jax.evaluation.truth import CocoTruth

__all__ = ["BoxArrays", "FoundBoxes", "TruthBoxes", "box_arrays", "ious"]


@dataclass(frozen=True)
class TruthBoxes:
    """All boxes that there are to find, in the order of their images.

    Attributes:
        image: which of the images.
        category: which of the categories.
        xywh: in pixels.
        crowd: stands for a group.
        difficult: Pascal VOC asks nobody to find it.
    """

    image: Int[np.ndarray, " m"]
    category: Int[np.ndarray, " m"]
    xywh: Float[np.ndarray, "m 4"]
    crowd: Bool[np.ndarray, " m"]
    difficult: Bool[np.ndarray, " m"]


@dataclass(frozen=True)
class FoundBoxes:
    """All boxes that were found, in the order of their images; an image's best stand first.

    Attributes:
        image: which of the images.
        category: which of the categories.
        xywh: in pixels.
        score: any finite number.
    """

    image: Int[np.ndarray, " n"]
    category: Int[np.ndarray, " n"]
    xywh: Float[np.ndarray, "n 4"]
    score: Float[np.ndarray, " n"]


@dataclass(frozen=True)
class BoxArrays:
    """A data set's boxes, true and found.

    Attributes:
        image_ids: ascending; `image` of a box is a place in this list.
        category_ids: ascending; `category` of a box is a place in this list.
        names: of the categories.
        truth: what there is to find.
        found: what was found.
    """

    image_ids: list[int]
    category_ids: list[int]
    names: list[str]
    truth: TruthBoxes
    found: FoundBoxes

    def by_image(self) -> Iterator[tuple[slice, slice]]:
        """Where the boxes of each image stand among those found and among the true ones."""
        edges = np.arange(len(self.image_ids) + 1)
        found = np.searchsorted(self.found.image, edges).tolist()
        truth = np.searchsorted(self.truth.image, edges).tolist()
        for i in range(len(self.image_ids)):
            yield slice(found[i], found[i + 1]), slice(truth[i], truth[i + 1])


def box_arrays(results: Sequence[Any], truth: CocoTruth) -> BoxArrays:
    """Put results and truth into arrays.

    Args:
        results: COCO's results format, as for `score_results`.
        truth: what there is to find.

    Raises:
        ValueError: if a result is malformed, or of an image that is not in the truth.
    """
    image_ids, category_ids = sorted(truth.image_ids), sorted(truth.categories)
    images = {image_id: i for i, image_id in enumerate(image_ids)}
    categories = {category_id: i for i, category_id in enumerate(category_ids)}

    def columns(boxes: Sequence[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return (
            np.array([images[box["image_id"]] for box in boxes], np.int64),
            np.array([categories[box["category_id"]] for box in boxes], np.int64),
            np.array([box["bbox"] for box in boxes], np.float64).reshape(-1, 4),
        )

    def flags(key: str) -> np.ndarray:
        return np.array([annotation[key] for annotation in truth.annotations], bool)

    marked = (*columns(truth.annotations), flags("iscrowd"), flags("difficult"))
    in_order = np.argsort(marked[0], kind="stable")
    counting = checked_results(results, truth)
    scored = (*columns(counting), np.array([box["score"] for box in counting], np.float64))
    best_first = np.lexsort((-scored[3], scored[0]))
    return BoxArrays(
        image_ids,
        category_ids,
        [truth.categories[category_id] for category_id in category_ids],
        TruthBoxes(*(column[in_order] for column in marked)),
        FoundBoxes(*(column[best_first] for column in scored)),
    )


def ious(
    found_xywh: Float[np.ndarray, "n 4"],
    truth_xywh: Float[np.ndarray, "m 4"],
    crowd: Bool[np.ndarray, " m"],
) -> Float[np.ndarray, "n m"]:
    """Overlap of all pairs, as pycocotools has it: with a crowd, the share of the box within it."""
    if not len(found_xywh) or not len(truth_xywh):
        return np.zeros((len(found_xywh), len(truth_xywh)))
    return np.asarray(mask.iou(found_xywh, truth_xywh, crowd.astype(np.uint8)))
