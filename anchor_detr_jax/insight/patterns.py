"""Figures of what the patterns find, and of how the decoder's layers refine it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from anchor_detr_jax.insight.canvas import draw_found, picture_grid
from anchor_detr_jax.insight.observation import Observation

__all__ = ["layer_figure", "pattern_figure"]

_COLUMNS = 3


def pattern_figure(seen: Observation) -> Figure:
    """What each pattern's queries found, in a picture of its own.

    Raises:
        ValueError: if nothing was found, or the detector's queries have no patterns.
    """
    if seen.kind.patterns == 0:
        raise ValueError("the detector's queries have no patterns")
    seen.check_detection(0)
    patterns = [np.flatnonzero(seen.pattern == i) for i in range(seen.kind.patterns)]
    titles = [
        f"pattern {i}: {len(members)} of {len(seen.found)} detections"
        for i, members in enumerate(patterns)
    ]
    figure, panels = _panels(seen, titles)
    for axes, members in zip(panels, patterns, strict=True):
        draw_found(axes, seen.picture, seen.found[members])
    return figure


def layer_figure(seen: Observation) -> Figure:
    """What each decoder layer made of the queries that found something in the end.

    Labels have the score that the layer gives to the category of the end.

    Raises:
        ValueError: if nothing was found.
    """
    seen.check_detection(0)
    layers = range(len(seen.boxes))
    scores = seen.scores[:, seen.query, seen.column]
    last = seen.found.boxes
    boxes = [seen.boxes_in_pixels(layer) for layer in layers]
    titles = [
        f"layer {layer}: {int((scores[layer] >= seen.threshold).sum())} of {len(last)} "
        f"reach {seen.threshold:g}; mean IoU with the last {_mean_iou(boxes[layer], last):.2f}"
        for layer in layers
    ]
    figure, panels = _panels(seen, titles)
    for axes, layer in zip(panels, layers, strict=True):
        draw_found(
            axes, seen.picture, replace(seen.found, boxes=boxes[layer], scores=scores[layer])
        )
    return figure


def _panels(seen: Observation, titles: list[str]):
    """A figure, and a panel for each title, in rows."""
    rows = [titles[i : i + _COLUMNS] for i in range(0, len(titles), _COLUMNS)]
    width, height = seen.picture.size
    figure, grid = picture_grid((height, width), rows, width=5.2 if width >= height else 4.6)
    return figure, [axes for row in grid for axes in row]


def _mean_iou(some: Float[np.ndarray, "n 4"], others: Float[np.ndarray, "n 4"]) -> float:
    """Of boxes (x1, y1, x2, y2), pair by pair."""
    corner = np.maximum(some[:, :2], others[:, :2])
    opposite = np.minimum(some[:, 2:], others[:, 2:])
    shared = np.prod((opposite - corner).clip(0), axis=1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (some, others)]
    return float(np.mean(shared / np.maximum(areas[0] + areas[1] - shared, 1e-9)))
