"""Figure of where each query's boxes are over a set of pictures."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from anchor_detr_jax.insight.box_sets import BoxSet
from anchor_detr_jax.insight.scatter import SIZES, add_size_bar
from anchor_detr_jax.plot_style import INK, plain_axes

__all__ = ["query_figure"]

_ROWS, _COLUMNS = 4, 5


def query_figure(found: BoxSet) -> Figure:
    """For each of 20 queries: the centres of its boxes in all pictures, found or not.

    They are the queries that found most; the colour is the root of the area, as a fraction of the
    picture's; the cross is the point that the query starts from, if any. As figure 7 of DETR's
    paper, which shows that each query has places and sizes of its own.
    """
    chosen = _busiest(found, _ROWS * _COLUMNS)
    rows = -(-len(chosen) // _COLUMNS)
    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06)
    figure = Figure(figsize=(2.1 * _COLUMNS + 0.9, 2.3 * rows + 0.6), dpi=100, layout=layout)
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, _COLUMNS, squeeze=False, sharex=True, sharey=True)
    counts = np.bincount(found.query, minlength=found.all_boxes.shape[1])
    for axes, query in zip(grid.flat, chosen, strict=False):
        boxes = found.all_boxes[:, query]
        size = np.sqrt(boxes[:, 2] * boxes[:, 3])
        look = {"cmap": SIZES, "vmin": 0, "vmax": 1, "s": 12, "alpha": 0.8, "linewidths": 0}
        axes.scatter(boxes[:, 0], boxes[:, 1], c=size, **look)
        if len(found.points):
            point = found.points[query % len(found.points)]
            axes.plot(*point, "+", color="black", markersize=9)
        title = f"query {query}: {counts[query]} found"
        axes.set_title(title, color=INK, fontsize=9.5, loc="left")
        axes.set_box_aspect(1)
        plain_axes(axes, letters=8)
    for axes in grid.flat[len(chosen) :]:
        axes.set_axis_off()
    grid[0, 0].set(xlim=(0, 1), ylim=(1, 0))
    add_size_bar(figure, grid)
    title = (
        f"centres of the boxes of {len(chosen)} of {found.all_boxes.shape[1]} queries in "
        f"{found.pictures_in_words}"
    )
    figure.suptitle(title, color=INK, fontsize=13, fontweight="bold")
    return figure


def _busiest(found: BoxSet, count: int) -> Int[np.ndarray, " k"]:
    """The queries that found most, in the order of their numbers; the first ones of equals."""
    counts = np.bincount(found.query, minlength=found.all_boxes.shape[1])
    return np.sort(np.argsort(-counts, kind="stable")[:count])
