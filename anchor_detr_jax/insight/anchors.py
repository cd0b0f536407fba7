"""Figure of the anchor points."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from anchor_detr_jax.insight.canvas import (
    category_ink,
    draw_frame,
    draw_picture,
    outlined,
    picture_grid,
)
from anchor_detr_jax.insight.observation import Observation

__all__ = ["anchor_figure"]


def anchor_figure(seen: Observation) -> Figure:
    """All anchor points over the picture.

    From those whose queries found something, a line goes to the centre of what was found, in the
    colour of its category.
    """
    width, height = seen.picture.size
    size = np.array([width, height])
    points = seen.anchors * size
    title = (
        f"{len(points)} {_KINDS[seen.anchor_kind]}, {seen.num_patterns} patterns each; "
        f"{len(np.unique(seen.anchor))} found something (score of {seen.threshold:g} or more)"
    )
    figure, ((axes,),) = picture_grid(
        (height, width), [[title]], width=8.0 if width >= height else 6.0
    )
    draw_picture(axes, seen.picture)
    axes.scatter(*points.T, s=14, color="white", edgecolors="black", linewidths=0.7, zorder=2)
    for i in reversed(range(len(seen.found))):
        colour = category_ink(int(seen.found.labels[i]))
        box = seen.found.boxes[i]
        point, centre = points[seen.anchor[i]], (box[:2] + box[2:]) / 2
        draw_frame(axes, box, (width, height), colour, thickness=1.3)
        ends = np.stack([point, centre], axis=1)
        axes.plot(*ends, color=colour, linewidth=1.3, path_effects=outlined(1.3), zorder=3)
        look = {"color": colour, "edgecolors": "black", "linewidths": 1.0, "zorder": 4}
        axes.scatter(*point, s=42, **look)
    return figure


_KINDS = {"learned": "learned anchor points", "grid": "anchor points on a grid"}
