"""Figure of where, and how large, the boxes of each pattern are over a set of pictures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from anchor_detr_jax.insight.observation import Observation
from anchor_detr_jax.plot_style import INK, plain_axes

__all__ = ["PatternBoxes", "pattern_boxes", "scatter_figure"]

_SIZES = "viridis"
_BINS = 20


@dataclass(frozen=True)
class PatternBoxes:
    """The boxes that were found in a set of pictures.

    Attributes:
        boxes: (cx, cy, w, h) as fractions of their pictures.
        pattern: of the query that found each.
        num_patterns: of the detector.
        pictures: how many there were.
    """

    boxes: Float[np.ndarray, "n 4"]
    pattern: Int[np.ndarray, " n"]
    num_patterns: int
    pictures: int


def pattern_boxes(observations: Iterable[Observation]) -> PatternBoxes:
    """Collect what was found, picture by picture; the pictures are not kept."""
    boxes, patterns = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.int64)]
    num_patterns = 0
    for seen in observations:
        boxes.append(seen.boxes[-1, seen.query])
        patterns.append(seen.pattern)
        num_patterns = seen.num_patterns
    return PatternBoxes(
        boxes=np.concatenate(boxes),
        pattern=np.concatenate(patterns),
        num_patterns=num_patterns,
        pictures=len(boxes) - 1,
    )


def scatter_figure(found: PatternBoxes) -> Figure:
    """For each pattern: the centres of its boxes, their widths and heights, and their sizes.

    A size is the root of the area as a fraction of the picture's, and so is the colour of a dot.
    As figures of the paper, which show that patterns attend to sizes, and to no place.

    Raises:
        ValueError: if nothing was found.
    """
    if len(found.boxes) == 0:
        raise ValueError(
            f"nothing was found in {found.pictures} pictures, so there is nothing to show; "
            "choose a lower threshold"
        )
    count = found.num_patterns
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    figure = Figure(figsize=(max(3.3 * count + 0.6, 5.5), 9.4), dpi=100, layout=layout)
    FigureCanvasAgg(figure)
    grid = figure.subplots(3, count, squeeze=False, sharex="row", sharey="row")
    sizes = np.sqrt(found.boxes[:, 2] * found.boxes[:, 3])
    look = {"cmap": _SIZES, "vmin": 0, "vmax": 1, "s": 16, "alpha": 0.8, "linewidths": 0}
    for i, (places, shapes, histogram) in enumerate(grid.T):
        mine = found.pattern == i
        boxes, size = found.boxes[mine], sizes[mine]
        places.scatter(boxes[:, 0], boxes[:, 1], c=size, **look)
        shapes.scatter(boxes[:, 2], boxes[:, 3], c=size, **look)
        _draw_histogram(histogram, size)
        places.set_title(f"pattern {i}: {len(size)} boxes", color=INK, fontsize=12, loc="left")
    _set_axes(grid)
    scale = ScalarMappable(Normalize(0, 1), _SIZES)
    bar = figure.colorbar(scale, ax=grid, shrink=0.4)
    bar.set_label("size: root of the area", color=INK, fontsize=10)
    bar.ax.tick_params(labelsize=9, colors=INK)
    pictures = f"{found.pictures} picture" + "s" * (found.pictures > 1)
    title = f"{len(sizes)} boxes in {pictures}, by the pattern that found them"
    figure.suptitle(title, color=INK, fontsize=13, fontweight="bold")
    return figure


def _draw_histogram(axes: Axes, sizes: Float[np.ndarray, " n"]) -> None:
    """Shares that add to 1, in the colours of the sizes."""
    edges = np.linspace(0, 1, _BINS + 1)
    counts, _ = np.histogram(sizes.clip(max=1), bins=edges)
    colours = colormaps[_SIZES]((edges[:-1] + edges[1:]) / 2)
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
