"""How often each kind of error occurs, and how much AP would be gained without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from anchor_detr_jax.evaluation.error_kinds import WRONG, JudgedBoxes, Kind

__all__ = ["Confusion", "ErrorBreakdown", "ErrorKind", "confusions", "error_breakdown"]

_RECALLS = np.linspace(0, 1, 101)
"""At which COCO takes precision."""

_ALL_WRONG, _ALL_UNFOUND = "wrong detections", "boxes not found"
_MEANS = {
    "localisation": "right class, IoU with its box 0.1 to 0.5",
    "class": "IoU 0.5 or more with a box of another class",
    "duplicate": "right, but a better detection has found the box already",
    "both": "wrong class, IoU 0.1 to 0.5",
    "background": "IoU below 0.1 with any box",
    "missed": "a box that no detection means",
    _ALL_WRONG: "the five kinds of them above",
    _ALL_UNFOUND: "missed, or meant with a wrong class or place",
}


@dataclass(frozen=True)
class ErrorKind:
    """One kind of error.

    Attributes:
        name: what it is called.
        means: what it is.
        all: how often it occurs, whatever the scores.
        shown: how often it occurs if only detections from a threshold on are shown.
        gain: by how much AP50 would rise without it, all other errors staying.
    """

    name: str
    means: str
    all: int
    shown: int
    gain: float


@dataclass(frozen=True)
class ErrorBreakdown:
    """What keeps AP50 from 1.

    Attributes:
        ap50: COCO's AP at IoU 0.50, in [0, 1]; 0 where there is nothing to find.
        threshold: from which score on a detection counts as shown.
        correct: how many detections are right, whatever their score.
        correct_shown: how many of these are shown.
        ignored: how many are neither right nor wrong.
        kinds: localisation, class, duplicate, both, background, missed: each wrong detection is of
            one of the first five.
        together: all wrong detections; all boxes not found, which are those missed and those meant
            with a wrong class or place.
    """

    ap50: float
    threshold: float
    correct: int
    correct_shown: int
    ignored: int
    kinds: list[ErrorKind]
    together: list[ErrorKind]


@dataclass(frozen=True)
class Confusion:
    """Boxes of one category that were taken for another.

    Attributes:
        truth: what they are.
        found: what they were taken for.
        count: how many detections do so.
    """

    truth: str
    found: str
    count: int


def error_breakdown(judged: JudgedBoxes, *, threshold: float) -> ErrorBreakdown:
    """Count errors, and mend one kind at a time to see what AP50 would be.

    What is mended how, as in TIDE: a wrong place or class is made right, unless its box is found
    anyway; of several of that kind that mean one box the best is, and the others are left out (TIDE
    takes the best of both kinds together). All other wrong detections are left out. Boxes that are
    missed need not be found any more; a category with no other boxes has AP 1 then (in TIDE 0).

    Args:
        judged: what each box is.
        threshold: as `ErrorBreakdown` has it.
    """
    shown = judged.boxes.found.score >= threshold
    before = _ap50(judged)

    def described(name: str, which: np.ndarray, in_shown: np.ndarray, after: float) -> ErrorKind:
        return ErrorKind(name, _MEANS[name], int(which.sum()), int(in_shown.sum()), after - before)

    def of_found(name: str, which: Bool[np.ndarray, " n"], after: float) -> ErrorKind:
        return described(name, which, which & shown, after)

    def of_truth(name: str, which: Callable[[float], Bool[np.ndarray, " m"]]) -> ErrorKind:
        every = which(-np.inf)
        return described(name, every, which(threshold), _ap50(judged, unneeded=every))

    kinds = [
        of_found(kind.name.lower(), judged.kind == kind, _ap50_mended(judged, kind))
        for kind in WRONG
    ]
    wrong = of_found(_ALL_WRONG, judged.wrong, _ap50(judged, left_out=judged.wrong))
    return ErrorBreakdown(
        ap50=before,
        threshold=threshold,
        correct=int(judged.correct.sum()),
        correct_shown=int((judged.correct & shown).sum()),
        ignored=int((judged.kind == Kind.IGNORED).sum()),
        kinds=[*kinds, of_truth("missed", judged.missed)],
        together=[wrong, of_truth(_ALL_UNFOUND, judged.unfound)],
    )


def confusions(judged: JudgedBoxes, *, threshold: float, most: int = 10) -> list[Confusion]:
    """The categories that are taken for another most often by detections of at least a score."""
    chosen = (judged.kind == Kind.CLASS) & (judged.boxes.found.score >= threshold)
    pairs = np.stack(
        [
            judged.boxes.truth.category[judged.target[chosen]],
            judged.boxes.found.category[chosen],
        ]
    )
    pairs, counts = np.unique(pairs, axis=1, return_counts=True)
    names = judged.boxes.names
    return [
        Confusion(names[pairs[0, i]], names[pairs[1, i]], int(counts[i]))
        for i in np.argsort(-counts, kind="stable")[:most]
    ]


def _ap50_mended(judged: JudgedBoxes, kind: Kind) -> float:
    """What AP50 would be without the errors of one kind."""
    errors = judged.kind == kind
    if kind not in (Kind.LOCALISATION, Kind.CLASS):
        return _ap50(judged, left_out=errors)
    mendable = np.flatnonzero(errors)
    mendable = mendable[judged.unfound()[judged.target[mendable]]]
    # An image's best detections stand first, and a box is in one image only.
    best = mendable[np.unique(judged.target[mendable], return_index=True)[1]]
    right = judged.correct
    right[best] = True
    category = judged.boxes.found.category.copy()
    category[best] = judged.boxes.truth.category[judged.target[best]]
    return _ap50(judged, category=category, right=right, left_out=errors & ~right)


def _ap50(
    judged: JudgedBoxes,
    *,
    category: Int[np.ndarray, " n"] | None = None,
    right: Bool[np.ndarray, " n"] | None = None,
    left_out: Bool[np.ndarray, " n"] | None = None,
    unneeded: Bool[np.ndarray, " m"] | None = None,
) -> float:
    """COCO's AP at IoU 0.50, with other categories, verdicts, detections or boxes to find."""
    boxes, needed = judged.boxes, ~judged.boxes.truth.crowd
    counts = judged.kind != Kind.IGNORED
    if left_out is not None:
        counts &= ~left_out
    category = boxes.found.category if category is None else category
    right = judged.correct if right is None else right
    ranked = np.lexsort((-boxes.found.score, category))
    ranked = ranked[counts[ranked]]
    edges = np.searchsorted(category[ranked], np.arange(len(boxes.names) + 1))
    kept = needed if unneeded is None else needed & ~unneeded
    before, there = (
        np.bincount(boxes.truth.category[which], minlength=len(boxes.names))
        for which in (needed, kept)
    )
    each = [
        _average_precision(right[ranked[edges[i] : edges[i + 1]]], int(there[i]))
        for i in np.flatnonzero(before)
    ]
    return float(np.mean(each)) if each else 0.0


def _average_precision(right: Bool[np.ndarray, " n"], there: int) -> float:
    """COCO's, of one category.

    Args:
        right: whether each detection is, the best first.
        there: how many boxes there are to find.
    """
    if there == 0:
        return 1.0
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    best: Float[np.ndarray, " n"] = np.maximum.accumulate(precision[::-1])[::-1]
    reached = np.searchsorted(hits / there, _RECALLS)
    return float(np.append(best, 0.0)[reached].mean())
