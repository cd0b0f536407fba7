"""COCO's average precision, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

__all__ = ["CocoScores", "score_results"]


@dataclass(frozen=True)
class CocoScores:
    """The 12 numbers.

    Attributes:
        stats: AP, AP50, AP75, AP small, medium, large; AR at 1, 10, 100 detections, AR small,
            medium, large (at 100). -1 where there is nothing to find.
        summary: the same as pycocotools prints them.
    """

    stats: list[float]
    summary: str

    @property
    def ap(self) -> float:
        """AP over IoU 0.50 to 0.95."""
        return self.stats[0]


def score_results(results: Sequence[Any], annotations: str | Path) -> CocoScores:
    """Score boxes over all images of an annotation file.

    Args:
        results: COCO's results format: image_id, category_id, bbox [x, y, w, h] in pixels, score.
        annotations: COCO's annotation file.

    Raises:
        ValueError: if the file has no annotations, or a result is malformed or of an image that
            is not in it.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
    if "annotations" not in truth.dataset:
        raise ValueError(f"{annotations} has no annotations to score against")
    _check(results, set(truth.getImgIds()), annotations)
    with contextlib.redirect_stdout(io.StringIO()):
        detections = _as_coco(results, truth)
        evaluation = COCOeval(truth, detections, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        evaluation.summarize()
    return CocoScores([float(x) for x in evaluation.stats], printed.getvalue().rstrip("\n"))


def _as_coco(results: Sequence[dict[str, Any]], truth: COCO) -> COCO:
    if results:
        # A copy, for loadRes adds to the dicts; and it takes lists, whatever its annotation says.
        return truth.loadRes([dict(result) for result in results])  # pyright: ignore
    nothing = COCO()
    nothing.dataset = {**truth.dataset, "annotations": []}
    nothing.createIndex()
    return nothing


def _check(results: Sequence[Any], image_ids: set[int], annotations: str | Path) -> None:
    for i, result in enumerate(results):
        try:
            image_id, bbox = result["image_id"], [float(x) for x in result["bbox"]]
            _, _ = int(result["category_id"]), float(result["score"])
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(
                f"result {i} is not in COCO's format (image_id, category_id, bbox, score): "
                f"{type(error).__name__} {error}"
            ) from None
        if len(bbox) != 4:
            raise ValueError(f"result {i} has a bbox of {len(bbox)} numbers, expected x, y, w, h")
        if image_id not in image_ids:
            raise ValueError(f"result {i} is of image {image_id}, which is not in {annotations}")
