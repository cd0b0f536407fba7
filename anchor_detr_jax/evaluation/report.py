"""All that can be said of a detector's results, as numbers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from anchor_detr_jax.evaluation.box_arrays import box_arrays
from anchor_detr_jax.evaluation.coco_ap import CocoScores
from anchor_detr_jax.evaluation.error_breakdown import (
    Confusion,
    ErrorBreakdown,
    confusions,
    error_breakdown,
)
from anchor_detr_jax.evaluation.error_kinds import JudgedBoxes, judge
from anchor_detr_jax.evaluation.per_class import mean_precision
from anchor_detr_jax.evaluation.per_size import SizeScores, scores_per_size
from anchor_detr_jax.evaluation.precision_recall import precision_recall
from anchor_detr_jax.evaluation.thresholds import (
    Calibration,
    OperatingPoint,
    ScoreCounts,
    calibration,
    count_scores,
)
from anchor_detr_jax.evaluation.truth import CocoTruth
from anchor_detr_jax.evaluation.voc_ap import VocScores, score_voc
from anchor_detr_jax.evaluation.worst_images import ImageErrors, worst_images

__all__ = ["CategoryReport", "EvaluationReport", "evaluation_report"]

_THRESHOLD = 0.5
"""Where no threshold is better than another: what `Detector.predict` takes."""

_WORST = 12
"""As many images are listed."""


@dataclass(frozen=True)
class CategoryReport:
    """One category.

    Attributes:
        id: its id.
        name: its name.
        boxes: how many there are to find; crowds do not count.
        ap: COCO's, over IoU 0.50 to 0.95; None where there is nothing to find, as all others.
        ap50: at IoU 0.50.
        ap75: at IoU 0.75.
        ap_small: of small boxes.
        ap_medium: of medium boxes.
        ap_large: of large boxes.
        voc_11: Pascal VOC's AP over 11 points.
        voc_all: Pascal VOC's AP over all points.
        best: the threshold of the best F1, and what it gives; None where nothing is found.
    """

    id: int
    name: str
    boxes: int
    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    voc_11: float | None
    voc_all: float | None
    best: OperatingPoint | None


@dataclass(frozen=True)
class EvaluationReport:
    """All numbers, and what is needed to draw them.

    Attributes:
        coco: COCO's numbers.
        voc: Pascal VOC's, at IoU 0.50.
        sizes: small, medium and large boxes.
        errors: what keeps AP50 from 1; `errors.threshold` is the one of the best F1.
        confused: which categories are taken for which, from that threshold on.
        scores: how many detections of each score are right.
        best: how good the detections from that threshold on are.
        calibration: how far scores can be read as probabilities.
        categories: in the order of their ids.
        worst: the images with the most errors from that threshold on.
        judged: what each detection is.
    """

    coco: CocoScores
    voc: VocScores
    sizes: list[SizeScores]
    errors: ErrorBreakdown
    confused: list[Confusion]
    scores: ScoreCounts
    best: OperatingPoint
    calibration: Calibration
    categories: list[CategoryReport]
    worst: list[ImageErrors]
    judged: JudgedBoxes

    def to_json(self) -> dict[str, Any]:
        """The numbers, ready for `json.dumps`."""
        boxes, plain = self.judged.boxes, dataclasses.asdict
        return {
            "images": len(boxes.image_ids),
            "boxes": self.scores.boxes,
            "detections": len(boxes.found.score),
            "coco": self.coco.named,
            "voc": {"iou": self.voc.iou, "ap_11": self.voc.ap_11, "ap_all": self.voc.ap_all},
            "precision_recall": precision_recall(self.coco).to_json(),
            "sizes": [
                {key: value for key, value in plain(size).items() if key != "per_class"}
                for size in self.sizes
            ],
            "errors": plain(self.errors),
            "confused": [plain(pair) for pair in self.confused],
            "best_threshold": plain(self.best),
            "thresholds": [plain(point) for point in self.scores.curve()],
            "calibration": {
                "error": self.calibration.error,
                "score": _finite(self.calibration.score),
                "precision": _finite(self.calibration.precision),
                "count": self.calibration.count.tolist(),
            },
            "categories": [plain(category) for category in self.categories],
            "worst_images": [plain(image) for image in self.worst],
        }


def evaluation_report(
    results: Sequence[Any], truth: CocoTruth, coco: CocoScores
) -> EvaluationReport:
    """Everything about results.

    Args:
        results: COCO's results format, with scores in [0, 1].
        truth: what there is to find.
        coco: what `score_results` said of them.

    Raises:
        ValueError: if a result is malformed, or a score not in [0, 1].
    """
    judged = judge(box_arrays(results, truth))
    everything, each = count_scores(judged)
    best = everything.best() or everything.at(round(100 * _THRESHOLD))
    voc, sizes = score_voc(judged.boxes), scores_per_size(coco, truth)
    return EvaluationReport(
        coco=coco,
        voc=voc,
        sizes=sizes,
        errors=error_breakdown(judged, threshold=best.threshold),
        confused=confusions(judged, threshold=best.threshold),
        scores=everything,
        best=best,
        calibration=calibration(judged),
        categories=_categories(coco, voc, sizes, each),
        worst=worst_images(judged, threshold=best.threshold, most=_WORST),
        judged=judged,
    )


def _categories(
    coco: CocoScores, voc: VocScores, sizes: list[SizeScores], counts: list[ScoreCounts]
) -> list[CategoryReport]:
    small, medium, large = (size.per_class for size in sizes)
    return [
        CategoryReport(
            id=scores.id,
            name=scores.name,
            boxes=scores.boxes,
            ap=scores.ap,
            ap50=scores.ap50,
            ap75=mean_precision(coco.precision[5, :, i, 0]),
            ap_small=small[i],
            ap_medium=medium[i],
            ap_large=large[i],
            voc_11=voc.per_class[i].ap_11,
            voc_all=voc.per_class[i].ap_all,
            best=counts[i].best(),
        )
        for i, scores in enumerate(coco.per_class)
    ]


def _finite(values: np.ndarray) -> list[float | None]:
    """JSON knows no NaN."""
    return [value if math.isfinite(value) else None for value in values.tolist()]
