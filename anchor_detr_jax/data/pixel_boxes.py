"""Boxes in pixels, on the host."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

__all__ = ["clipped_xyxy", "has_area", "xywh_to_xyxy", "xyxy_to_fractions"]


def xywh_to_xyxy(boxes_xywh: Float[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n 4"]:
    """Corner and size to two corners."""
    corner, size = boxes_xywh[..., :2], boxes_xywh[..., 2:]
    return np.concatenate([corner, corner + size], axis=-1)


def clipped_xyxy(
    boxes_xyxy: Float[np.ndarray, "*n 4"], hw: tuple[int, int]
) -> Float[np.ndarray, "*n 4"]:
    """Corners moved into a picture of this size."""
    limits = np.array([hw[1], hw[0]] * 2, boxes_xyxy.dtype)
    return boxes_xyxy.clip(0, limits)


def has_area(boxes_xyxy: Float[np.ndarray, "*n 4"]) -> Bool[np.ndarray, "*n"]:
    """Whether both sides of each box are longer than nothing."""
    return np.all(boxes_xyxy[..., 2:] > boxes_xyxy[..., :2], axis=-1)


def xyxy_to_fractions(
    boxes_xyxy: Float[np.ndarray, "n 4"], hw: tuple[int, int]
) -> Float[np.ndarray, "n 4"]:
    """(cx, cy, w, h) as fractions of a picture of this size."""
    corner, opposite = boxes_xyxy[:, :2], boxes_xyxy[:, 2:]
    centre_and_size = np.concatenate([(corner + opposite) / 2, opposite - corner], axis=1)
    return centre_and_size / np.array([hw[1], hw[0]] * 2, boxes_xyxy.dtype)
