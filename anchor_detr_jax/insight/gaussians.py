"""Figure of the Gaussians that modulate where the query of a detection looks."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anchor_detr_jax.insight.canvas import (
    category_ink,
    dimmed,
    draw_cross,
    draw_frame,
    draw_heat,
    name_row,
    outlined,
    picture_grid,
)
from anchor_detr_jax.insight.observation import Observation

__all__ = ["gaussian_figure"]


def gaussian_figure(seen: Observation, *, detection: int = 0) -> Figure:
    """The Gaussian of each head (columns) in each layer (rows), over the picture.

    Brighter where the attention's weights are left as they are, dark where they become nothing; the
    picture alone where a head has no Gaussian. The dot is the Gaussian's centre, the cross the
    query's anchor, the frame the box that the layer gives the query.

    Raises:
        ValueError: if there is no such detection, or if no Gaussians modulate the attention.
    """
    maps = seen.gaussians(detection)
    layers, heads, rows, columns = maps.factors.shape
    name = f"{seen.found.names[detection]} {seen.found.scores[detection]:.2f}"
    width, height = seen.picture.size
    figure, grid = picture_grid(
        (height, width),
        [[f"head {head}" for head in range(heads)]] + [[""] * heads] * (layers - 1),
        width=1.7,
        heading=f"Gaussians of detection {detection}: {name}   ({seen.query_name(detection)})",
        left=0.3,
    )
    # A cell's middle is half a cell from its edge.
    centres = (maps.centres + 0.5) * (width / columns, height / rows)
    ground = dimmed(seen.picture)
    for layer, panels in enumerate(grid):
        name_row(panels[0], f"layer {layer}")
        for head, axes in enumerate(panels):
            axes.imshow(ground, extent=(0, width, height, 0))
            if maps.scales[layer, head].any():
                draw_heat(axes, maps.factors[layer, head], (width, height))
                _draw_dot(axes, centres[layer, head])
            _draw_query(axes, seen, detection, layer)
            axes.set_xlim(0, width)
            axes.set_ylim(height, 0)
    return figure


def _draw_dot(axes: Axes, centre: np.ndarray) -> None:
    """Hidden where it lies beyond the picture."""
    axes.plot(*centre, "o", color="white", markersize=3.5, path_effects=outlined(0.5))


def _draw_query(axes: Axes, seen: Observation, detection: int, layer: int) -> None:
    """What is the same for all heads."""
    colour = category_ink(int(seen.found.labels[detection]))
    box = seen.boxes_in_pixels(layer)[detection]
    draw_frame(axes, box, seen.picture.size, colour, thickness=1.0)
    anchor = seen.point_in_pixels(detection)
    if anchor is not None:
        draw_cross(axes, anchor, thickness=1.0)
