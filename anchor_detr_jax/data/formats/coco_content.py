"""A data set of any layout as COCO's annotation file has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from anchor_detr_jax.data.formats.annotations import SoundPicture
from anchor_detr_jax.data.formats.records import BoxRecord

__all__ = ["box_xywh", "coco_content"]


def box_xywh(box: BoxRecord, hw: tuple[int, int]) -> tuple[float, float, float, float]:
    """x, y, width and height in pixels: as the file has them, or of the corners, clipped.

    Raises:
        ValueError: if the box has none.
    """
    if box.xywh_px is not None:
        return box.xywh_px
    if box.xyxy_px is None:
        raise ValueError(f"{box.where} has no box")
    height, width = hw
    x1, y1, x2, y2 = box.xyxy_px
    x1, x2 = (min(max(x, 0.0), float(width)) for x in (x1, x2))
    y1, y2 = (min(max(y, 0.0), float(height)) for y in (y1, y2))
    return x1, y1, x2 - x1, y2 - y1


def coco_content(
    pictures: Sequence[SoundPicture], names: Mapping[int, str], id_of: Mapping[int | str, int]
) -> dict[str, Any]:
    """`images`, `annotations` and `categories`, which JSON can hold.

    Annotations have `difficult`, Pascal VOC's mark, beside COCO's keys.

    Args:
        pictures: all, with crowd boxes and those without an area.
        names: of the categories by their ids.
        id_of: the id of each category that boxes name.
    """
    annotations = []
    for picture in pictures:
        for box in picture.boxes:
            xywh = [_fewest_decimals(side) for side in box_xywh(box, picture.hw)]
            area = xywh[2] * xywh[3] if box.area is None else _fewest_decimals(box.area)
            annotations.append(
                {
                    "id": len(annotations) + 1 if box.id is None else box.id,
                    "image_id": picture.record.id,
                    "category_id": id_of[box.category],
                    "bbox": xywh,
                    "area": area,
                    "iscrowd": int(box.crowd),
                    "difficult": int(box.difficult),
                }
            )
    images = [
        {
            "id": picture.record.id,
            "file_name": picture.record.path.name,
            "height": picture.hw[0],
            "width": picture.hw[1],
        }
        for picture in pictures
    ]
    categories = [{"id": id_, "name": name} for id_, name in names.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def _fewest_decimals(number: float) -> float:
    """What was stored as float32 as it was written before, such as 0.1; all else as it is."""
    stored = np.float32(number)
    return float(str(stored)) if stored == number else number
