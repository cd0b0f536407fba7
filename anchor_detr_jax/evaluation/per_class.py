"""AP of each category."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from anchor_detr_jax.evaluation.truth import CocoTruth

__all__ = ["ClassScores", "mean_precision", "per_class_table", "scores_per_class"]


@dataclass(frozen=True)
class ClassScores:
    """How well one category is found.

    Attributes:
        id: the category's id.
        name: its name.
        ap: over IoU 0.50 to 0.95; None where there is nothing to find.
        ap50: at IoU 0.50; None likewise.
        boxes: how many there are to find; crowds do not count.
    """

    id: int
    name: str
    ap: float | None
    ap50: float | None
    boxes: int


def scores_per_class(
    precision: Float[np.ndarray, "iou recall category area limit"], truth: CocoTruth
) -> list[ClassScores]:
    """Each category's scores, in the order of their ids; the mean of `ap` is COCO's AP.

    Args:
        precision: as pycocotools accumulates it: the first area is all, the last limit is 100
            detections, the first IoU is 0.50; -1 where there is nothing to find.
        truth: what it was computed from.
    """
    boxes = Counter(a["category_id"] for a in truth.annotations if not a["iscrowd"])
    return [
        ClassScores(
            id=category_id,
            name=truth.categories[category_id],
            ap=mean_precision(precision[:, :, column, 0, -1]),
            ap50=mean_precision(precision[0, :, column, 0, -1]),
            boxes=boxes[category_id],
        )
        for column, category_id in enumerate(sorted(truth.categories))
    ]


def per_class_table(classes: Sequence[ClassScores]) -> str:
    """A table, the best category first, those with nothing to find at its end."""
    found = sorted((c for c in classes if c.ap is not None), key=lambda c: (-(c.ap or 0.0), c.name))
    empty = [c for c in classes if c.ap is None]
    width = max([len("category"), *(len(c.name) for c in classes)])
    lines = [f"{'category':{width}}     AP   AP50  boxes"]
    for c in [*found, *empty]:
        lines.append(f"{c.name:{width}}  {_digits(c.ap)}  {_digits(c.ap50)}  {c.boxes:5d}")
    return "\n".join(lines)


def mean_precision(precision: Float[np.ndarray, "*axes"]) -> float | None:
    """Average precision, of a part of what pycocotools accumulates; None with nothing to find."""
    known = precision[precision > -1]
    return float(known.mean()) if known.size else None


def _digits(value: float | None) -> str:
    return "    -" if value is None else f"{value:.3f}"
