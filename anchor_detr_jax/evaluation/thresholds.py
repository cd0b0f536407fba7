"""Which scores to trust: precision and recall from each threshold on, and what a score means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from anchor_detr_jax.evaluation.error_kinds import JudgedBoxes

__all__ = [
    "THRESHOLDS",
    "Calibration",
    "OperatingPoint",
    "ScoreCounts",
    "calibration",
    "count_scores",
]

THRESHOLDS = np.arange(101) / 100
"""The thresholds that are looked at."""


@dataclass(frozen=True)
class OperatingPoint:
    """How good the detections from a threshold on are, at IoU 0.50.

    Attributes:
        threshold: lowest score that is shown.
        precision: the share of those shown that is right; None where none is shown.
        recall: the share of the boxes that is found; None where there are none.
        f1: the harmonic mean of both, 0 where one of them is; None where there is neither
            detection nor box.
    """

    threshold: float
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Calibration:
    """What share of the detections with about the same score is right.

    Attributes:
        score: mean of each tenth of the range of scores; NaN where a tenth is empty.
        precision: the share that is right; NaN likewise.
        count: how many there are.
        error: mean distance of score and precision, weighted by count (expected calibration error;
            C. Guo et al., ICML 2017); None without detections.
    """

    score: Float[np.ndarray, " tenth"]
    precision: Float[np.ndarray, " tenth"]
    count: Int[np.ndarray, " tenth"]
    error: float | None


@dataclass(frozen=True)
class ScoreCounts:
    """How many detections there are of each score: of one category, or of all.

    Attributes:
        right: in each hundredth of the range of scores; the last holds those of exactly 1.
        wrong: likewise.
        boxes: how many there are to find.
    """

    right: Int[np.ndarray, " hundredth"]
    wrong: Int[np.ndarray, " hundredth"]
    boxes: int

    def at(self, index: int) -> OperatingPoint:
        """How good those from `THRESHOLDS[index]` on are."""
        right, wrong = int(self.right[index:].sum()), int(self.wrong[index:].sum())
        return OperatingPoint(
            threshold=float(THRESHOLDS[index]),
            precision=right / (right + wrong) if right + wrong else None,
            recall=right / self.boxes if self.boxes else None,
            f1=2 * right / (right + wrong + self.boxes) if right + wrong + self.boxes else None,
        )

    def curve(self) -> list[OperatingPoint]:
        """How good those from each threshold on are."""
        return [self.at(index) for index in range(len(THRESHOLDS))]

    def best(self) -> OperatingPoint | None:
        """The threshold of the best F1; None where there is nothing to find, or nothing is found.

        Of neighbours that are equally good it is the middle one, far from what would do harm.
        """
        f1 = np.array([point.f1 or 0.0 for point in self.curve()])
        if f1.max() == 0:
            return None
        first = int(f1.argmax())
        worse = np.flatnonzero(f1[first:] < f1[first])
        last = first + int(worse[0]) - 1 if len(worse) else len(f1) - 1
        return self.at((first + last) // 2)


def count_scores(judged: JudgedBoxes) -> tuple[ScoreCounts, list[ScoreCounts]]:
    """Counts of all categories together, and of each.

    Raises:
        ValueError: if a score is not in [0, 1].
    """
    score = judged.boxes.found.score
    if len(score) and (score.min() < 0 or score.max() > 1):
        raise ValueError(
            f"scores go from {score.min():g} to {score.max():g}, expected 0 to 1: bring them into "
            "that range, which does not change any AP if their order stays"
        )
    place = np.searchsorted(THRESHOLDS, score, side="right") - 1

    def histogram(which: Bool[np.ndarray, " n"]) -> Int[np.ndarray, "category hundredth"]:
        cells = judged.boxes.found.category[which] * len(THRESHOLDS) + place[which]
        counts = np.bincount(cells, minlength=len(judged.boxes.names) * len(THRESHOLDS))
        return counts.reshape(-1, len(THRESHOLDS))

    right, wrong = histogram(judged.correct), histogram(judged.wrong)
    needed = judged.boxes.truth.category[~judged.boxes.truth.crowd]
    boxes = np.bincount(needed, minlength=len(judged.boxes.names)).tolist()
    each = [ScoreCounts(*counts) for counts in zip(right, wrong, boxes, strict=True)]
    return ScoreCounts(right.sum(axis=0), wrong.sum(axis=0), sum(boxes)), each


def calibration(judged: JudgedBoxes) -> Calibration:
    """How far scores can be read as probabilities of being right; they are in [0, 1]."""
    counts = judged.correct | judged.wrong
    score, right = judged.boxes.found.score[counts], judged.correct[counts]
    tenth = np.minimum((10 * score).astype(np.int64), 9)
    count = np.bincount(tenth, minlength=10)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(tenth, score, 10) / count
        precision = np.bincount(tenth, right, 10) / count
    gaps = np.abs(mean - precision)
    error = float(np.nansum(count * gaps) / count.sum()) if len(score) else None
    return Calibration(mean, precision, count, error)
