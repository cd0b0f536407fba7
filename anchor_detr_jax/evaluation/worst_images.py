"""The images in which most is wrong, and drawings of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image

from anchor_detr_jax.data.pixel_boxes import xywh_to_xyxy
from anchor_detr_jax.evaluation.box_arrays import BoxArrays
from anchor_detr_jax.evaluation.error_kinds import WRONG, JudgedBoxes, Kind
from anchor_detr_jax.structures import Detections
from anchor_detr_jax.visualize import draw_beside

__all__ = ["ImageErrors", "draw_errors", "worst_images"]

_WIDEST = 640
"""Larger pictures are made as wide or high before boxes are drawn, so that labels can be read."""


@dataclass(frozen=True)
class ImageErrors:
    """What is wrong in an image, of what is shown from a threshold on.

    Attributes:
        image_id: which image.
        badness: the scores of the wrong detections, added up, and 1 for each missed box.
        counts: how many errors there are of each kind that occurs.
    """

    image_id: int
    badness: float
    counts: dict[str, int]

    def __str__(self) -> str:
        return ", ".join(f"{count} {name}" for name, count in self.counts.items())


def worst_images(judged: JudgedBoxes, *, threshold: float, most: int) -> list[ImageErrors]:
    """The images with the most errors, the worst first; none without.

    Args:
        judged: what each box is.
        threshold: detections below are not shown, and do neither harm nor good.
        most: as many at most.
    """
    boxes, images = judged.boxes, len(judged.boxes.image_ids)
    wrong, missed = _shown(judged, threshold) & judged.wrong, judged.missed(threshold)
    badness = np.bincount(boxes.found.image[wrong], boxes.found.score[wrong], images)
    badness += np.bincount(boxes.truth.image[missed], minlength=images)
    worst = np.argsort(-badness, kind="stable")[:most]
    errors = []
    for i in worst[badness[worst] > 0].tolist():
        kinds = judged.kind[wrong & (boxes.found.image == i)]
        counts = {kind.name.lower(): int((kinds == kind).sum()) for kind in WRONG}
        counts["missed"] = int((missed & (boxes.truth.image == i)).sum())
        present = {name: count for name, count in counts.items() if count}
        errors.append(ImageErrors(boxes.image_ids[i], float(badness[i]), present))
    return errors


def draw_errors(
    judged: JudgedBoxes, picture: Image.Image, image_id: int, *, threshold: float
) -> Image.Image:
    """Ground truth beside what was found; beside a name stands what is wrong.

    Args:
        judged: what each box is.
        picture: with its pixels as they are stored.
        image_id: which image it is.
        threshold: detections below are left out.
    """
    boxes, image = judged.boxes, judged.boxes.image_ids.index(image_id)
    shrunk = min(1.0, _WIDEST / max(picture.size))
    size = (max(1, round(picture.width * shrunk)), max(1, round(picture.height * shrunk)))
    scale = np.array([size[0] / picture.width, size[1] / picture.height] * 2)
    there = (boxes.truth.image == image) & ~boxes.truth.crowd
    shown = (boxes.found.image == image) & _shown(judged, threshold)
    kinds = judged.kind[shown].tolist()
    truth = _detections(
        boxes,
        boxes.truth.xywh[there] * scale,
        category=boxes.truth.category[there],
        score=np.ones(there.sum()),
        remarks=["missed" if missed else "" for missed in judged.missed(threshold)[there]],
    )
    found = _detections(
        boxes,
        boxes.found.xywh[shown] * scale,
        category=boxes.found.category[shown],
        score=boxes.found.score[shown],
        remarks=[Kind(kind).name.lower() if kind in WRONG else "" for kind in kinds],
    )
    return draw_beside(picture.resize(size, Image.Resampling.LANCZOS), truth, found)


def _shown(judged: JudgedBoxes, threshold: float) -> Bool[np.ndarray, " n"]:
    return judged.boxes.found.score >= threshold


def _detections(
    boxes: BoxArrays,
    xywh: Float[np.ndarray, "n 4"],
    *,
    category: Int[np.ndarray, " n"],
    score: Float[np.ndarray, " n"],
    remarks: list[str],
) -> Detections:
    """Boxes ready to be drawn; a remark that is not empty stands beside the name."""
    names = [boxes.names[i] for i in category]
    return Detections(
        boxes=xywh_to_xyxy(xywh).astype(np.float32),
        scores=score.astype(np.float32),
        labels=np.array([boxes.category_ids[i] for i in category], np.int64),
        names=[f"{n} ({r})" if r else n for n, r in zip(names, remarks, strict=True)],
    )
