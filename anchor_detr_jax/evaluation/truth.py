"""What there is to find in a data set, from COCO's annotation file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anchor_detr_jax.data.formats.coco import read_annotation_file
from anchor_detr_jax.data.pixel_boxes import xywh_to_xyxy
from anchor_detr_jax.structures import Detections

__all__ = ["MALFORMED", "CocoTruth", "checked_bbox", "read_truth", "whole_number"]

MALFORMED = (TypeError, KeyError, ValueError, OverflowError)
"""What reading something malformed can raise."""


@dataclass(frozen=True)
class CocoTruth:
    """What there is to find.

    Attributes:
        source: the annotation file.
        image_ids: all images, those with nothing in them too.
        categories: their names by their ids.
        annotations: of these images and categories: `id`, `image_id`, `category_id`, `bbox`
            [x, y, w, h] in pixels, `area`, `iscrowd`, and `difficult`, which is Pascal VOC's and
            means nothing to COCO's AP. The ids are counted from 1, whatever the file says:
            pycocotools takes a detection that matches an annotation of id 0 for a wrong one.
    """

    source: Path
    image_ids: list[int]
    categories: dict[int, str]
    annotations: list[dict[str, Any]]

    def of_image(self, image_id: int) -> Detections:
        """What there is to find in one image, each with score 1; crowds are left out."""
        there = [a for a in self.annotations if a["image_id"] == image_id and not a["iscrowd"]]
        boxes = np.array([a["bbox"] for a in there], np.float32).reshape(-1, 4)
        ids = [a["category_id"] for a in there]
        return Detections(
            boxes=xywh_to_xyxy(boxes),
            scores=np.ones(len(ids), np.float32),
            labels=np.array(ids, np.int64),
            names=[self.categories[i] for i in ids],
        )


def read_truth(path: str | Path) -> CocoTruth:
    """Read and check an annotation file.

    An annotation without `area` has its box's, one without `iscrowd` is none, one without
    `difficult` is not.

    Raises:
        ValueError: if it is no annotation file, has no annotations, or one that is malformed.
        OSError: if it cannot be read.
    """
    path = Path(path)
    content = read_annotation_file(path)
    if not content.get("annotations"):
        raise ValueError(f"{path} has no annotations to score against")
    image_ids = [image["id"] for image in content["images"]]
    try:
        categories = {whole_number(c["id"]): str(c["name"]) for c in content["categories"]}
    except MALFORMED as error:
        raise ValueError(
            f"{path} needs categories with id and name: {type(error).__name__} {error}"
        ) from None
    known, annotations = set(image_ids), []
    for i, annotation in enumerate(content["annotations"]):
        try:
            checked = _checked(annotation, i + 1)
        except MALFORMED as error:
            raise ValueError(
                f"annotation {i} of {path} is not in COCO's format (image_id, category_id, bbox): "
                f"{type(error).__name__} {error}"
            ) from None
        if checked["image_id"] in known and checked["category_id"] in categories:
            annotations.append(checked)
    return CocoTruth(path, image_ids, categories, annotations)


def whole_number(value: Any) -> int:
    """An id.

    Raises:
        ValueError, TypeError, OverflowError: if it is none.
    """
    if int(value) != value:
        raise ValueError(f"{value!r} is no whole number")
    return int(value)


def checked_bbox(value: Sequence[Any]) -> list[float]:
    """A box [x, y, w, h].

    Raises:
        ValueError, TypeError: if it is none.
    """
    box = [float(side) for side in value]
    if len(box) != 4:
        raise ValueError(f"a bbox of {len(box)} numbers, expected x, y, w, h")
    if not all(map(math.isfinite, box)):
        raise ValueError(f"a bbox that is not finite: {box}")
    return box


def _checked(annotation: Mapping[str, Any], number: int) -> dict[str, Any]:
    bbox = checked_bbox(annotation["bbox"])
    return {
        "id": number,
        "image_id": whole_number(annotation["image_id"]),
        "category_id": whole_number(annotation["category_id"]),
        "bbox": bbox,
        "area": float(annotation.get("area", bbox[2] * bbox[3])),
        "iscrowd": int(annotation.get("iscrowd", 0)),
        "difficult": int(annotation.get("difficult", 0)),
    }
