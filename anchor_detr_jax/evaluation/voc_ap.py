"""Pascal VOC's average precision: 2007's over 11 points, and 2010's over all points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from anchor_detr_jax.evaluation.box_arrays import BoxArrays, ious

__all__ = ["VocClassScores", "VocScores", "score_voc"]


@dataclass(frozen=True)
class VocClassScores:
    """How well one category is found.

    Attributes:
        id: the category's id.
        name: its name.
        ap_11: mean of the best precision at recall 0.0, 0.1, ... 1.0 or more; None where there is
            nothing to find.
        ap_all: area under the best precision at each recall or more; None likewise.
        boxes: how many there are to find; difficult ones and crowds do not count.
    """

    id: int
    name: str
    ap_11: float | None
    ap_all: float | None
    boxes: int


@dataclass(frozen=True)
class VocScores:
    """Pascal VOC's numbers.

    Attributes:
        iou: from which overlap on a box is found.
        per_class: of each category, in the order of their ids.
    """

    iou: float
    per_class: list[VocClassScores]

    @property
    def ap_11(self) -> float | None:
        """Mean over the categories that there are to find, as until 2009; None without any."""
        return _mean([c.ap_11 for c in self.per_class])

    @property
    def ap_all(self) -> float | None:
        """Mean over the categories that there are to find, as from 2010; None without any."""
        return _mean([c.ap_all for c in self.per_class])

    def __str__(self) -> str:
        def digits(value: float | None) -> str:
            return "nothing to find" if value is None else f"{value:.3f}"

        return (
            f"Pascal VOC's AP at IoU {self.iou:.2f}: over 11 points {digits(self.ap_11)}, over all "
            f"points {digits(self.ap_all)}"
        )

    def to_json(self) -> dict[str, Any]:
        """The numbers, ready for `json.dumps`."""
        per_class = [asdict(scores) for scores in self.per_class]
        means = {"iou": self.iou, "ap_11": self.ap_11, "ap_all": self.ap_all}
        return {**means, "per_class": per_class}


def score_voc(boxes: BoxArrays, *, iou: float = 0.5) -> VocScores:
    """Score boxes by the rules of Pascal VOC's development kit (VOCevaldet.m).

    Each detection belongs to the box of its category that it overlaps most. It finds it if the IoU
    is large enough and no better detection has found it before; else it is wrong, also where
    another box would still be free, unlike COCO's rule. A detection that belongs to a difficult
    box is neither right nor wrong. Crowds, which Pascal VOC does not know, count as difficult.

    The kit adds 1 to widths and heights since its corners are pixels that belong to the box. Ours
    have x2 and y2 just outside of it, so that the same box has the same size without.

    Recall is compared with 0.1, 0.2, ... as fractions; with floating-point numbers, as in the kit,
    3 of 10 boxes may or may not be a recall of 0.3.

    Args:
        boxes: true and found; all that were found count, and not 100 an image as for COCO.
        iou: from which overlap on a box is found.

    Raises:
        ValueError: if `iou` is not in (0, 1].
    """
    if not 0 < iou <= 1:
        raise ValueError(f"iou is {iou}, expected more than 0 and at most 1")
    target = _best_overlapped(boxes, iou)
    ignored = boxes.truth.difficult | boxes.truth.crowd
    counts = ~np.append(ignored, False)[target]
    # An image's best detections stand first, and a box is in one image only.
    firsts = np.unique(target, return_index=True)[1]
    right = np.zeros(len(target), bool)
    right[firsts] = target[firsts] >= 0
    per_class = []
    for i, (category_id, name) in enumerate(zip(boxes.category_ids, boxes.names, strict=True)):
        mine = np.flatnonzero(counts & (boxes.found.category == i))
        ranked = mine[np.argsort(-boxes.found.score[mine], kind="stable")]
        there = int(((boxes.truth.category == i) & ~ignored).sum())
        eleven, every = _average_precisions(right[ranked], there) if there else (None, None)
        per_class.append(VocClassScores(category_id, name, eleven, every, there))
    return VocScores(iou, per_class)


def _best_overlapped(boxes: BoxArrays, iou: float) -> Int[np.ndarray, " n"]:
    """For each detection the box of its category that it overlaps most; -1: by less than `iou`."""
    target = np.full(len(boxes.found.score), -1)
    for found, truth in boxes.by_image():
        if found.start == found.stop or truth.start == truth.stop:
            continue
        overlap = ious(
            boxes.found.xywh[found],
            boxes.truth.xywh[truth],
            np.zeros(truth.stop - truth.start, bool),
        )
        same = boxes.found.category[found][:, None] == boxes.truth.category[truth]
        overlap = np.where(same, overlap, -1)
        best = overlap.argmax(axis=1)
        target[found] = np.where(overlap.max(axis=1) >= iou, truth.start + best, -1)
    return target


def _average_precisions(right: Bool[np.ndarray, " n"], there: int) -> tuple[float, float]:
    """Over 11 points and over all points.

    Args:
        right: whether each detection is, the best first.
        there: how many there are to find.
    """
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    best: Float[np.ndarray, " n"] = np.maximum.accumulate(precision[::-1])[::-1]
    reached = [np.searchsorted(10 * hits, tenth * there) for tenth in range(11)]
    eleven = [best[i] if i < len(best) else 0.0 for i in reached]
    # Recall grows, by one box, where a detection is right.
    return float(np.mean(eleven)), float(best[right].sum() / there)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
