"""What each detection is: right, or wrong in one of five ways; and which boxes were missed.

Source: D. Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV
2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from jaxtyping import Bool, Float, Int

from anchor_detr_jax.evaluation.box_arrays import BoxArrays, ious

__all__ = ["FOUND_IOU", "WRONG", "JudgedBoxes", "Kind", "judge"]

FOUND_IOU = 0.5
"""From this overlap on, a box is found."""

_NEAR_IOU = 0.1
"""From this overlap on, a detection means a box, and below it the background."""

_LIMIT = 100
"""As many of each category in an image count for COCO's AP."""


class Kind(IntEnum):
    """What a detection is. "Own" boxes are those of its category in its image.

    CORRECT: it is the best that overlaps an own box by at least 0.5 and finds it, by COCO's rule.
    LOCALISATION: it overlaps an own box by 0.1 at least, and none by 0.5.
    CLASS: it overlaps a box of another category by 0.5 at least.
    DUPLICATE: it overlaps an own box by 0.5 at least, which a better detection has found.
    BOTH: it overlaps a box of another category by 0.1 at least: wrong place and wrong class.
    BACKGROUND: none of these.
    IGNORED: it lies in a crowd of its category, or is beyond the 100 that COCO looks at. It is
        neither right nor wrong.

    What fits several is the first of them, but for IGNORED, which comes after CORRECT. Crowds are
    no boxes otherwise.
    """

    CORRECT = 0
    LOCALISATION = 1
    CLASS = 2
    DUPLICATE = 3
    BOTH = 4
    BACKGROUND = 5
    IGNORED = 6


WRONG = (Kind.LOCALISATION, Kind.CLASS, Kind.DUPLICATE, Kind.BOTH, Kind.BACKGROUND)
"""The ways in which a detection is wrong."""


@dataclass(frozen=True)
class JudgedBoxes:
    """Boxes, and what each of them is.

    Attributes:
        boxes: true and found.
        kind: a `Kind` for each that was found.
        target: the true box that it means: the one that is found, found again, or would be if the
            error were mended; -1 where there is none.
    """

    boxes: BoxArrays
    kind: Int[np.ndarray, " n"]
    target: Int[np.ndarray, " n"]

    @property
    def correct(self) -> Bool[np.ndarray, " n"]:
        """Which detections are right."""
        return self.kind == Kind.CORRECT

    @property
    def wrong(self) -> Bool[np.ndarray, " n"]:
        """Which detections are wrong, in whatever way."""
        return np.isin(self.kind, WRONG)

    def unfound(self, threshold: float = -np.inf) -> Bool[np.ndarray, " m"]:
        """Which true boxes no detection of at least this score finds; crowds need not be."""
        return ~self._meant([Kind.CORRECT], threshold) & ~self.boxes.truth.crowd

    def missed(self, threshold: float = -np.inf) -> Bool[np.ndarray, " m"]:
        """Which of these are not even meant by one with a wrong place or a wrong class."""
        meant = self._meant([Kind.CORRECT, Kind.LOCALISATION, Kind.CLASS], threshold)
        return ~meant & ~self.boxes.truth.crowd

    def _meant(self, kinds: list[Kind], threshold: float) -> Bool[np.ndarray, " m"]:
        meant = np.zeros(len(self.boxes.truth.crowd), bool)
        shown = np.isin(self.kind, kinds) & (self.boxes.found.score >= threshold)
        meant[self.target[shown]] = True
        return meant


def judge(boxes: BoxArrays) -> JudgedBoxes:
    """Say of each detection what it is.

    Which are right follows COCO's matching at IoU 0.50, so that they give COCO's AP50. Boxes that
    Pascal VOC calls difficult count as any other, as they do there.
    """
    n = len(boxes.found.score)
    kind, target = np.full(n, Kind.IGNORED), np.full(n, -1)
    within = _within_limit(boxes)
    for found, truth in boxes.by_image():
        mine = found.start + np.flatnonzero(within[found])
        if len(mine):
            kind[mine], meant = _judge_image(boxes, mine, truth)
            target[mine] = np.where(meant < 0, -1, meant + truth.start)
    return JudgedBoxes(boxes, kind, target)


def _judge_image(
    boxes: BoxArrays, mine: Int[np.ndarray, " d"], there: slice
) -> tuple[Int[np.ndarray, " d"], Int[np.ndarray, " d"]]:
    """Kinds and targets of the detections of one image; targets are counted within it."""
    crowd = boxes.truth.crowd[there]
    overlap = ious(boxes.found.xywh[mine], boxes.truth.xywh[there], crowd)
    if not overlap.size:
        return np.full(len(mine), Kind.BACKGROUND), np.full(len(mine), -1)
    same = boxes.found.category[mine][:, None] == boxes.truth.category[there]
    own = np.where(same & ~crowd, overlap, 0)
    other = np.where(~same & ~crowd, overlap, 0)
    most_own, most_other = own.max(axis=1), other.max(axis=1)
    in_crowd = (same & crowd & (overlap >= FOUND_IOU)).any(axis=1)
    match = _matched(own)
    # The first condition that holds decides.
    cases = [
        (match >= 0, Kind.CORRECT, match),
        (in_crowd, Kind.IGNORED, -1),
        ((most_own >= _NEAR_IOU) & (most_own < FOUND_IOU), Kind.LOCALISATION, own.argmax(axis=1)),
        (most_other >= FOUND_IOU, Kind.CLASS, other.argmax(axis=1)),
        (most_own >= FOUND_IOU, Kind.DUPLICATE, own.argmax(axis=1)),
        (most_other >= _NEAR_IOU, Kind.BOTH, -1),
    ]
    conditions = [case[0] for case in cases]
    return (
        np.select(conditions, [case[1] for case in cases], Kind.BACKGROUND),
        np.select(conditions, [case[2] for case in cases], -1),
    )


def _matched(own: Float[np.ndarray, "d g"]) -> Int[np.ndarray, " d"]:
    """The true box that each detection finds, or -1: the best first, each its best that is free."""
    match, free = np.full(len(own), -1), own.copy()
    for i in np.flatnonzero(own.max(axis=1) >= FOUND_IOU):
        # Among equals pycocotools takes the last.
        best = free.shape[1] - 1 - free[i, ::-1].argmax()
        if free[i, best] >= FOUND_IOU:
            match[i] = best
            free[:, best] = 0
    return match


def _within_limit(boxes: BoxArrays) -> Bool[np.ndarray, " n"]:
    """Which detections are among the 100 best of their category in their image."""
    found = boxes.found
    grouped = np.lexsort((found.category, found.image))  # stable: the best stay first
    key = found.image[grouped] * len(boxes.category_ids) + found.category[grouped]
    place = np.arange(len(key)) - np.searchsorted(key, key)
    within = np.empty(len(key), bool)
    within[grouped] = place < _LIMIT
    return within
