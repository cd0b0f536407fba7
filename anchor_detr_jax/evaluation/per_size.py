"""AP of small, medium and large boxes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anchor_detr_jax.evaluation.coco_ap import CocoScores
from anchor_detr_jax.evaluation.per_class import mean_precision
from anchor_detr_jax.evaluation.truth import CocoTruth

__all__ = ["SizeScores", "scores_per_size"]

_SIZES = {
    "small": (0, 32**2, "below 32² pixels"),
    "medium": (32**2, 96**2, "32² to 96² pixels"),
    "large": (96**2, float("inf"), "96² pixels and more"),
}
"""COCO's: from the one area, to the other, and both in words."""


@dataclass(frozen=True)
class SizeScores:
    """How well boxes of a size are found.

    Attributes:
        name: small, medium or large.
        area: what that means.
        boxes: how many there are to find; crowds do not count.
        ap: over IoU 0.50 to 0.95; None where there is nothing to find.
        ap50: at IoU 0.50; None likewise.
        recall: COCO's AR, with 100 detections an image; None likewise.
        per_class: AP of each category, in the order of their ids; None likewise.
    """

    name: str
    area: str
    boxes: int
    ap: float | None
    ap50: float | None
    recall: float | None
    per_class: list[float | None]


def scores_per_size(scores: CocoScores, truth: CocoTruth) -> list[SizeScores]:
    """Small, medium and large boxes, by the `area` of their annotations as COCO has it."""
    areas = np.array([a["area"] for a in truth.annotations if not a["iscrowd"]])
    sizes = []
    for i, (name, (low, high, described)) in enumerate(_SIZES.items()):
        precision = scores.precision[..., i + 1]
        sizes.append(
            SizeScores(
                name=name,
                area=described,
                boxes=int(((areas >= low) & (areas < high)).sum()),
                ap=scores.named[f"AP {name}"],
                ap50=mean_precision(precision[0]),
                recall=scores.named[f"AR {name}"],
                per_class=[mean_precision(precision[:, :, k]) for k in range(precision.shape[2])],
            )
        )
    return sizes
