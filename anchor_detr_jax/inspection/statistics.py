"""The numbers of a split: how many, how large, of what kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from anchor_detr_jax.data.categories import Categories
from anchor_detr_jax.data.formats.records import SplitRecords
from anchor_detr_jax.inspection.box_checks import finite_xyxy
from anchor_detr_jax.inspection.picture_files import PictureFacts, picture_hw

__all__ = ["SplitStatistics", "count_split"]

_QUANTILES = (0, 5, 25, 50, 75, 95, 100)


@dataclass(frozen=True)
class SplitStatistics:
    """What a split holds. Boxes that are not finite count, but are not in the arrays of boxes.

    Attributes:
        name: of the split.
        source: what it was read from.
        hw: height and width of each picture in pixels, as stored, or as declared where the file
            cannot be read; 0 where neither is known.
        boxes: how many there are,
        crowd: how many of them stand for groups,
        empty: and how many pictures have none.
        per_picture: boxes of each picture.
        per_class: boxes by category, as the annotations name it.
        xyxy_px: corners of the boxes,
        picture_of: and the picture of each.
    """

    name: str
    source: str
    hw: Int[np.ndarray, "n 2"]
    boxes: int
    crowd: int
    empty: int
    per_picture: Int[np.ndarray, " n"]
    per_class: Counter[int | str]
    xyxy_px: Float[np.ndarray, "m 4"]
    picture_of: Int[np.ndarray, " m"]

    @property
    def sides_px(self) -> Float[np.ndarray, "k 2"]:
        """Width and height of the boxes that have an area."""
        sides = self.xyxy_px[:, 2:] - self.xyxy_px[:, :2]
        return sides[(sides > 0).all(axis=1)]

    def per_name(self, categories: Categories) -> dict[str, int]:
        """Boxes of each category of the data set, by name; ids take the place of missing names."""
        counts: dict[str, int] = {}
        for id_, name in zip(categories.ids, categories.names, strict=True):
            if name is not None:
                label = name if name.strip() else str(id_)
                counts[label] = counts.get(label, 0) + self.per_class[id_] + self.per_class[name]
        return counts

    def to_json(self, categories: Categories) -> dict[str, Any]:
        """Counts, and quantiles of sizes."""
        sides = self.sides_px
        return {
            "name": self.name,
            "source": self.source,
            "pictures": len(self.hw),
            "pictures_without_boxes": self.empty,
            "boxes": self.boxes,
            "crowd": self.crowd,
            "boxes_by_category": self.per_name(categories),
            "quantiles": {
                "picture_height": _quantiles(self.hw[:, 0]),
                "picture_width": _quantiles(self.hw[:, 1]),
                "boxes_per_picture": _quantiles(self.per_picture),
                "box_width": _quantiles(sides[:, 0]),
                "box_height": _quantiles(sides[:, 1]),
                "box_aspect": _quantiles(sides[:, 0] / sides[:, 1]),
            },
        }


def count_split(name: str, records: SplitRecords, facts: Sequence[PictureFacts]) -> SplitStatistics:
    """The numbers of a split, from its records and what its files say."""
    pictures = records.pictures
    hw = [picture_hw(p, f) or (0, 0) for p, f in zip(pictures, facts, strict=True)]
    finite = [[b.xyxy_px for b in picture.boxes if finite_xyxy(b)] for picture in pictures]
    flat = [corners for boxes in finite for corners in boxes]
    counts = [len(picture.boxes) for picture in pictures]
    all_boxes = [box for picture in pictures for box in picture.boxes]
    return SplitStatistics(
        name=name,
        source=records.source,
        hw=np.array(hw, np.int64).reshape(-1, 2),
        boxes=len(all_boxes),
        crowd=sum(box.crowd for box in all_boxes),
        empty=sum(not count for count in counts),
        per_picture=np.array(counts, np.int64),
        per_class=Counter(box.category for box in all_boxes),
        xyxy_px=np.array(flat, np.float64).reshape(-1, 4),
        picture_of=np.repeat(np.arange(len(finite)), [len(boxes) for boxes in finite]),
    )


def _quantiles(values: np.ndarray) -> dict[str, float]:
    """By percent; nothing of nothing."""
    if not len(values):
        return {}
    found = np.percentile(values, _QUANTILES).round(3).tolist()
    return dict(zip(map(str, _QUANTILES), found, strict=True))
