"""Figure of where, and how large, the boxes of each pattern are over a set of pictures."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from anchor_detr_jax.insight.box_sets import BoxSet
from anchor_detr_jax.plot_style import INK, plain_axes

__all__ = ["SIZES", "add_size_bar", "scatter_figure"]

SIZES = "viridis"
"""Colours of sizes."""

_BINS = 20


def scatter_figure(found: BoxSet) -> Figure:
    """For each pattern: the centres of its boxes, their widths and heights, and their sizes.

    Without patterns, for all queries together. A size is the root of the area as a fraction of the
    picture's, and so is the colour of a dot. As figures of Anchor DETR's paper, which show that
    patterns attend to sizes, and to no place.

    Raises:
        ValueError: if nothing was found.
    """
    if len(found.boxes) == 0:
        raise ValueError(
            f"nothing was found in {found.pictures_in_words}, so there is nothing to show; "
            "choose a lower threshold"
        )
    count = found.kind.at_each_point
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    figure = Figure(figsize=(max(3.3 * count + 0.6, 5.5), 9.4), dpi=100, layout=layout)
    FigureCanvasAgg(figure)
    grid = figure.subplots(3, count, squeeze=False, sharex="row", sharey="row")
    sizes = np.sqrt(found.boxes[:, 2] * found.boxes[:, 3])
    look = {"cmap": SIZES, "vmin": 0, "vmax": 1, "s": 16, "alpha": 0.8, "linewidths": 0}
    for i, (places, shapes, histogram) in enumerate(grid.T):
        mine = found.pattern == i
        boxes, size = found.boxes[mine], sizes[mine]
        places.scatter(boxes[:, 0], boxes[:, 1], c=size, **look)
        shapes.scatter(boxes[:, 2], boxes[:, 3], c=size, **look)
        _draw_histogram(histogram, size)
        name = f"pattern {i}" if found.kind.patterns else "all queries"
        places.set_title(f"{name}: {len(size)} boxes", color=INK, fontsize=12, loc="left")
    _set_axes(grid)
    add_size_bar(figure, grid)
    apart = ", by the pattern that found them" if found.kind.patterns else ""
    title = f"{len(sizes)} boxes in {found.pictures_in_words}{apart}"
    figure.suptitle(title, color=INK, fontsize=13, fontweight="bold")
    return figure


def add_size_bar(figure: Figure, grid: np.ndarray) -> None:
    """What the colours of the dots say."""
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), SIZES), ax=grid, shrink=0.4)
    bar.set_label("size: root of the area", color=INK, fontsize=10)
    bar.ax.tick_params(labelsize=9, colors=INK)


def _draw_histogram(axes: Axes, sizes: Float[np.ndarray, " n"]) -> None:
    """Shares that add to 1, in the colours of the sizes."""
    edges = np.linspace(0, 1, _BINS + 1)
    counts, _ = np.histogram(sizes.clip(max=1), bins=edges)
    colours = colormaps[SIZES]((edges[:-1] + edges[1:]) / 2)
    shares = counts / max(len(sizes), 1)
    axes.bar(edges[:-1], shares, width=1 / _BINS, align="edge", color=colours)


def _set_axes(grid) -> None:
    """Fractions of a picture: y goes down where it is a place."""
    for row, (x_name, y_name) in zip(
        grid,
        [("centre, x", "centre, y"), ("width", "height"), ("size", "share of boxes")],
        strict=True,
    ):
        for i, axes in enumerate(row):
            axes.set_xlim(0, 1)
            axes.set_xlabel(x_name, color=INK, fontsize=10)
            if i == 0:
                axes.set_ylabel(y_name, color=INK, fontsize=10)
            axes.set_box_aspect(1)
            plain_axes(axes, letters=9)
    grid[0, 0].set_ylim(1, 0)
    grid[1, 0].set_ylim(0, 1)
