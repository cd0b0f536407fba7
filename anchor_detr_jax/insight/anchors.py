"""Figure of the points that queries start from."""

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
    """All points over the picture that queries start from: anchor points, or reference points.

    From those whose queries found something, a line goes to the centre of what was found, in the
    colour of its category.

    Raises:
        ValueError: if the detector's queries start from no points.
    """
    if not seen.kind.points:
        raise ValueError("the detector's queries start from no points, so there are none to draw")
    width, height = seen.picture.size
    points = seen.points[~np.isnan(seen.points).any(axis=1)] * (width, height)
    starts = [seen.point_in_pixels(i) for i in range(len(seen.found))]
    busy = {int(seen.point[i]) for i, start in enumerate(starts) if start is not None}
    patterns = f", {seen.kind.patterns} patterns each" if seen.kind.patterns else ""
    title = (
        f"{len(points)} {seen.kind.points}{patterns}; "
        f"{len(busy)} found something (score of {seen.threshold:g} or more)"
    )
    figure, ((axes,),) = picture_grid(
        (height, width), [[title]], width=8.0 if width >= height else 6.0
    )
    draw_picture(axes, seen.picture)
    axes.scatter(*points.T, s=14, color="white", edgecolors="black", linewidths=0.7, zorder=2)
    for i in reversed(range(len(starts))):
        box, start = seen.found.boxes[i], starts[i]
        colour = category_ink(int(seen.found.labels[i]))
        draw_frame(axes, box, (width, height), colour, thickness=1.3)
        if start is None:
            continue
        ends = np.stack([start, (box[:2] + box[2:]) / 2], axis=1)
        axes.plot(*ends, color=colour, linewidth=1.3, path_effects=outlined(1.3), zorder=3)
        look = {"color": colour, "edgecolors": "black", "linewidths": 1.0, "zorder": 4}
        axes.scatter(*start, s=42, **look)
    return figure
