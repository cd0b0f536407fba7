"""COCO's average precision, by pycocotools or, with the same digits, by hotcoco."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from anchor_detr_jax.evaluation.per_class import ClassScores, scores_per_class
from anchor_detr_jax.evaluation.truth import (
    MALFORMED,
    CocoTruth,
    checked_bbox,
    read_truth,
    whole_number,
)

__all__ = ["SCORERS", "STATS", "CocoScores", "check_scorer", "checked_results", "score_results"]

STATS = (
    *("AP", "AP50", "AP75", "AP small", "AP medium", "AP large"),
    *("AR at 1", "AR at 10", "AR at 100", "AR small", "AR medium", "AR large"),
)
"""What COCO's 12 numbers are called, in their order."""


@dataclass(frozen=True)
class CocoScores:
    """The 12 numbers.

    Attributes:
        stats: AP, AP50, AP75, AP small, medium, large; AR at 1, 10, 100 detections, AR small,
            medium, large (at 100). -1 where there is nothing to find.
        summary: the same as pycocotools prints them.
        per_class: AP of each category, in the order of their ids.
        precision: with the 100 best detections of each category in each image, at IoU 0.50 to 0.95
            and recall 0.00 to 1.00, of each category in the order of their ids, of all, small,
            medium and large boxes; -1 where there is nothing to find.
    """

    stats: list[float]
    summary: str
    per_class: list[ClassScores]
    precision: Float[np.ndarray, "iou recall category area"]

    @property
    def ap(self) -> float:
        """AP over IoU 0.50 to 0.95."""
        return self.stats[0]

    @property
    def named(self) -> dict[str, float | None]:
        """The 12 numbers by their names; None where there is nothing to find."""
        return {
            name: None if value == -1 else value
            for name, value in zip(STATS, self.stats, strict=True)
        }


def score_results(
    results: Sequence[Any],
    annotations: str | Path | CocoTruth,
    *,
    scorer: str = "pycocotools",
) -> CocoScores:
    """Score boxes over all images of an annotation file.

    Args:
        results: COCO's results format: image_id, category_id, bbox [x, y, w, h] in pixels, score.
            Those of categories that the file does not have count for nothing.
        annotations: COCO's annotation file, or what `read_truth` made of it.
        scorer: "pycocotools", or "hotcoco", many times faster and the same to the last digit.

    Raises:
        ValueError: if the file has no annotations, or a result is malformed or of an image that
            is not in it, or the scorer is unknown or not installed.
    """
    check_scorer(scorer)
    truth = annotations if isinstance(annotations, CocoTruth) else read_truth(annotations)
    evaluation: Any = COCOeval(iouType="bbox")
    evaluation.eval = SCORERS[scorer](truth, checked_results(results, truth))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        evaluation.summarize()
    return CocoScores(
        stats=[float(x) for x in evaluation.stats],
        summary=printed.getvalue().rstrip("\n"),
        per_class=scores_per_class(evaluation.eval["precision"], truth),
        precision=np.asarray(evaluation.eval["precision"])[..., -1],
    )


def check_scorer(scorer: str) -> None:
    """See that a scorer can be used.

    Raises:
        ValueError: if it is unknown, or not installed; the message says how to install it.
    """
    if scorer not in SCORERS:
        raise ValueError(f"there is no scorer {scorer!r}, only {', '.join(SCORERS)}")
    if importlib.util.find_spec(scorer) is None:
        raise ValueError(
            f'{scorer} is not installed; pip install "anchor_detr_jax[fast]", or score with '
            "pycocotools, which gives the same numbers"
        )


def _by_pycocotools(truth: CocoTruth, results: list[dict[str, Any]]) -> dict[str, Any]:
    with contextlib.redirect_stdout(io.StringIO()):
        annotated: Any = COCO()
        detected: Any = COCO()
        annotated.dataset = _as_coco(truth)
        annotated.createIndex()
        if results:
            detected = annotated.loadRes(results)
        else:
            detected.dataset = {**annotated.dataset, "annotations": []}
            detected.createIndex()
        evaluation: Any = COCOeval(annotated, detected, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval


def _by_hotcoco(truth: CocoTruth, results: list[dict[str, Any]]) -> dict[str, Any]:
    import hotcoco

    annotated = hotcoco.COCO(_as_coco(truth))
    evaluation: Any = hotcoco.COCOeval(annotated, annotated.load_res(results), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation.eval


SCORERS: dict[str, Callable[[CocoTruth, list[dict[str, Any]]], dict[str, Any]]] = {
    "pycocotools": _by_pycocotools,
    "hotcoco": _by_hotcoco,
}
"""From truth and results to precision and recall as pycocotools accumulates them."""


def _as_coco(truth: CocoTruth) -> dict[str, Any]:
    """A data set for a scorer to write into."""
    return {
        "info": {},
        "images": [{"id": image_id} for image_id in truth.image_ids],
        "categories": [{"id": i, "name": name} for i, name in truth.categories.items()],
        "annotations": [dict(annotation) for annotation in truth.annotations],
    }


def checked_results(results: Sequence[Any], truth: CocoTruth) -> list[dict[str, Any]]:
    """Copies of the results that count: those of the truth's categories.

    Raises:
        ValueError: if a result is malformed, or of an image that is not in the truth.
    """
    images, counting = set(truth.image_ids), []
    for i, result in enumerate(results):
        try:
            copy = {
                "image_id": whole_number(result["image_id"]),
                "category_id": whole_number(result["category_id"]),
                "bbox": checked_bbox(result["bbox"]),
                "score": float(result["score"]),
            }
            if not math.isfinite(copy["score"]):
                raise ValueError(f"a score that is not finite: {copy['score']}")
        except MALFORMED as error:
            raise ValueError(
                f"result {i} is not in COCO's format (image_id, category_id, bbox, score): "
                f"{type(error).__name__} {error}"
            ) from None
        if copy["image_id"] not in images:
            raise ValueError(
                f"result {i} is of image {copy['image_id']}, which is not in {truth.source}"
            )
        if copy["category_id"] in truth.categories:
            counting.append(copy)
    return counting
