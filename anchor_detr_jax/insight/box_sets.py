"""The boxes that a detector's queries give over a set of pictures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from anchor_detr_jax.insight.observation import Observation
from anchor_detr_jax.insight.query_points import QueryKind

__all__ = ["BoxSet", "collect_boxes"]


@dataclass(frozen=True)
class BoxSet:
    """What was found in a set of pictures, and what all queries said of each, found or not.

    Boxes are (cx, cy, w, h) as fractions of their pictures. Axes: P pictures, Q queries, n
    detections, A points.

    Attributes:
        boxes: of the detections.
        query: that gave each.
        all_boxes: of all queries, after the last layer.
        points: (x, y) that queries start from; as in `Observation`.
        kind: what these points are.
    """

    boxes: Float[np.ndarray, "n 4"]
    query: Int[np.ndarray, " n"]
    all_boxes: Float[np.ndarray, "p q 4"]
    points: Float[np.ndarray, "a 2"]
    kind: QueryKind

    @property
    def pictures(self) -> int:
        """How many there are."""
        return len(self.all_boxes)

    @property
    def pattern(self) -> Int[np.ndarray, " n"]:
        """Of the query that gave each detection; 0 where there are none."""
        return self.query // (self.all_boxes.shape[1] // self.kind.at_each_point)

    @property
    def pictures_in_words(self) -> str:
        """How many, for titles."""
        return f"{self.pictures} picture" + "s" * (self.pictures != 1)


def collect_boxes(observations: Iterable[Observation]) -> BoxSet | None:
    """Collect picture by picture; the pictures are not kept. None if there was none."""
    boxes, queries, all_boxes, seen = [], [], [], None
    for seen in observations:
        boxes.append(seen.boxes[-1, seen.query])
        queries.append(seen.query)
        all_boxes.append(seen.boxes[-1])
    if seen is None:
        return None
    return BoxSet(
        boxes=np.concatenate(boxes),
        query=np.concatenate(queries),
        all_boxes=np.stack(all_boxes),
        points=seen.points,
        kind=seen.kind,
    )
