"""What is wrong with the boxes of one picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

from anchor_detr_jax.data.formats.records import BoxRecord, PictureRecord
from anchor_detr_jax.data.image_size import ImageSize
from anchor_detr_jax.inspection.findings import Finding, finding

__all__ = ["check_boxes", "finite_xyxy"]

_TINY = 2
"""Pixels below which a side of a box is hardly meant."""

_ROUNDING = 1
"""Pixels by which rounding may take a box out of its picture."""

_SAME = 0.95
"""IoU from which on two boxes are one."""

_USUAL = ImageSize()

_SMALL_SEEN = 4
"""Pixels of the resized picture below which a side is hard to see for the model."""


def finite_xyxy(box: BoxRecord) -> bool:
    """Whether there are four numbers, all finite."""
    return box.xyxy_px is not None and all(map(math.isfinite, box.xyxy_px))


def check_boxes(
    picture: PictureRecord,
    hw: tuple[int, int] | None,
    known: frozenset[int | str],
    *,
    size: ImageSize = _USUAL,
) -> Iterator[Finding]:
    """Everything about the boxes of a picture.

    Args:
        picture: with its boxes.
        hw: its height and width in pixels; None if nobody knows.
        known: categories, as boxes name them.
        size: what it is resized to for evaluation.
    """
    scale = min(size.of(hw)) / min(hw) if hw else 1.0
    sound = []
    for box in picture.boxes:
        fault = _unusable(box, picture, hw)
        if fault:
            yield fault
        else:
            sound.append(box)
            yield from _place(box, picture, hw)
            yield from _size(box, picture, scale)
        if box.category not in known and not box.fault:
            message = f"{_in(picture)}: {box.category!r} is not a category of the data set"
            yield finding("unknown category", box.where, message)
    yield from _duplicates(picture, sound)


def _in(picture: PictureRecord) -> str:
    return picture.path.name


def _numbers(box: BoxRecord) -> str:
    return ", ".join(f"{side:g}" for side in box.xyxy_px or ())


def _unusable(box: BoxRecord, picture: PictureRecord, hw: tuple[int, int] | None) -> Finding | None:
    """The reason why a box cannot be looked at more closely."""
    if box.fault or box.xyxy_px is None:
        reason = box.fault or "there are no four numbers"
        return finding("unreadable box", box.where, f"{_in(picture)}: {reason}")

    def found(kind: str, message: str) -> Finding:
        return finding(kind, box.where, f"{_in(picture)}: corners {_numbers(box)}{message}")

    if not finite_xyxy(box):
        return found("box not finite", "")
    x1, y1, x2, y2 = box.xyxy_px
    if x2 < x1 or y2 < y1:
        return found("inverted box", f": {x2 - x1:g} wide and {y2 - y1:g} high")
    if x2 == x1 or y2 == y1:
        return found("box without area", f": {x2 - x1:g} wide and {y2 - y1:g} high")
    if hw is None:
        return None
    height, width = hw
    size = f" in a picture of {width}x{height}"
    if x1 < -width or y1 < -height or x2 > 2 * width or y2 > 2 * height:
        return found("box far outside", size)
    if x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
        return found("box outside", size)
    return None


def _place(box: BoxRecord, picture: PictureRecord, hw: tuple[int, int] | None) -> Iterator[Finding]:
    if hw is None:
        return
    x1, y1, x2, y2 = box.xyxy_px or (0, 0, 0, 0)
    beyond = max(-x1, -y1, x2 - hw[1], y2 - hw[0])
    if beyond > 0:
        kind = "box partly outside" if beyond > _ROUNDING else "box slightly outside"
        message = f"corners {_numbers(box)}, {beyond:.3g} px out of {hw[1]}x{hw[0]}"
        yield finding(kind, box.where, f"{_in(picture)}: {message}")


def _size(box: BoxRecord, picture: PictureRecord, scale: float) -> Iterator[Finding]:
    x1, y1, x2, y2 = box.xyxy_px or (0, 0, 0, 0)
    width, height = x2 - x1, y2 - y1
    what = f"{_in(picture)}: {width:.3g} x {height:.3g} px"
    if min(width, height) < _TINY:
        yield finding("tiny box", box.where, what)
    elif min(width, height) * scale < _SMALL_SEEN:
        seen = f"{width * scale:.3g} x {height * scale:.3g}"
        yield finding("box small for the model", box.where, f"{what}, {seen} as the model sees it")


def _duplicates(picture: PictureRecord, boxes: Sequence[BoxRecord]) -> Iterator[Finding]:
    """One finding for each box that one before it, by place and name, has said already."""
    boxes = sorted((b for b in boxes if not b.crowd), key=lambda b: (b.xyxy_px, b.where))
    if len(boxes) < 2:
        return
    same = _iou(np.array([b.xyxy_px for b in boxes], np.float64)) >= _SAME
    for i in np.flatnonzero(np.triu(same, 1).any(axis=0)).tolist():
        box = boxes[i]
        others = [boxes[j] for j in np.flatnonzero(same[:i, i]).tolist()]
        twin = next((o for o in others if o.category == box.category), None)
        what = f"{_in(picture)}: corners {_numbers(box)}"
        if twin is not None:
            yield finding("duplicate box", box.where, f"{what}, as at {twin.where}")
        rival = next((o for o in others if o.category != box.category), None)
        if rival is not None:
            message = f"{what}: {box.category!r}, but {rival.category!r} at {rival.where}"
            yield finding("box with two classes", box.where, message)


def _iou(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n n"]:
    """Of boxes with an area, each with each."""
    corner = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    opposite = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.prod((opposite - corner).clip(0), axis=-1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return shared / (areas[:, None] + areas[None] - shared)
