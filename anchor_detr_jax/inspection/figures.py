"""Plots of what a data set holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from anchor_detr_jax.data.categories import Categories
from anchor_detr_jax.inspection.statistics import SplitStatistics
from anchor_detr_jax.plot_style import COLOURS, INK, plain_axes, plain_text

__all__ = [
    "box_aspects_figure",
    "box_shapes_figure",
    "box_sizes_figure",
    "boxes_per_picture_figure",
    "classes_figure",
    "picture_sizes_figure",
]

_MOST_CLASSES = 40
"""Of more, the commonest and the rarest are drawn."""

_LONGEST_NAME = 28

_COCO_BORDERS = (32, 96)
"""Sides in pixels of squares between COCO's small, medium and large boxes."""

_POINTS = 20_000
"""Of more pictures or boxes, so many are drawn."""

_SIZES = (1, 3, 10, 30, 100, 300, 1000, 3000)
_ASPECTS = {1 / 10: "1:10", 1 / 5: "1:5", 1 / 2: "1:2", 1: "1:1", 2: "2:1", 5: "5:1", 10: "10:1"}


def classes_figure(splits: Sequence[SplitStatistics], categories: Categories) -> Figure:
    """Boxes of each category, the commonest above, a bar for each split."""
    counts = [split.per_name(categories) for split in splits]
    total = {name: sum(c[name] for c in counts) for name in counts[0]} if counts else {}
    names = sorted(total, key=lambda name: (-total[name], name))
    title = "boxes by category"
    if len(names) > _MOST_CLASSES:
        half = _MOST_CLASSES // 2
        title += f": first and last {half} of {len(names)}"
        names = names[:half] + names[-half:]
    figure, axes = _figure(title, height=0.9 + max(0.24, 0.15 * len(splits)) * max(3, len(names)))
    rows, thick = np.arange(len(names)), 0.8 / max(1, len(splits))
    for i, (split, count) in enumerate(zip(splits, counts, strict=True)):
        places = rows - 0.4 + (i + 0.5) * thick
        values = [count[name] for name in names]
        bars = axes.barh(
            places, values, thick * 0.92, color=_colour(i), label=plain_text(split.name)
        )
        axes.bar_label(bars, [f"{v:,}" for v in values], padding=3, fontsize=8, color=INK)
    axes.set_yticks(rows, [plain_text(name, longest=_LONGEST_NAME) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.margins(x=0.12)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("boxes", color=INK, fontsize=9)
    axes.grid(axis="y", visible=False)
    return _with_legend(figure, axes, splits)


def box_sizes_figure(splits: Sequence[SplitStatistics]) -> Figure:
    """How large boxes are: the square root of their area, in pixels, on a logarithmic axis."""
    figure, axes = _figure("size of the boxes")
    edges = np.geomspace(1, 4096, 49)
    _shares(axes, splits, lambda split: np.sqrt(split.sides_px.prod(axis=1)), edges)
    axes.set_xscale("log")
    for border in _COCO_BORDERS:
        axes.axvline(border, color=INK, linewidth=1, linestyle=":")
    for x, name in zip((14, 55, 230), ("small", "medium", "large"), strict=True):
        axes.text(x, 0.97, name, transform=axes.get_xaxis_transform(), ha="center", va="top",
                  fontsize=9, color=INK)  # fmt: skip
    axes.set_xlim(edges[0], edges[-1])
    axes.xaxis.set_major_locator(FixedLocator(_SIZES))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("square root of the area in pixels", color=INK, fontsize=9)
    return _with_legend(figure, axes, splits)


def box_aspects_figure(splits: Sequence[SplitStatistics]) -> Figure:
    """Width over height of the boxes, on a logarithmic axis."""
    figure, axes = _figure("shape of the boxes")
    edges = np.geomspace(1 / 16, 16, 49)
    _shares(axes, splits, lambda split: np.divide(*split.sides_px.T), edges)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(list(_ASPECTS)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels(_ASPECTS.values())
    axes.set_xlabel("width : height", color=INK, fontsize=9)
    return _with_legend(figure, axes, splits)


def box_shapes_figure(splits: Sequence[SplitStatistics]) -> Figure:
    """Width and height of each box, as shares of its picture."""
    figure, axes = _figure("boxes as shares of their pictures", height=4.4)
    for i, split in enumerate(splits):
        sides = split.xyxy_px[:, 2:] - split.xyxy_px[:, :2]
        hw = split.hw[split.picture_of]
        shown = (sides > 0).all(axis=1) & (hw > 0).all(axis=1)
        shares = _thinned(sides[shown] / hw[shown][:, ::-1])
        _scatter(axes, shares[:, 0], shares[:, 1], i, split)
    axes.set_xlim(0, 1.03)
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("width", color=INK, fontsize=9)
    axes.set_ylabel("height", color=INK, fontsize=9)
    return _with_legend(figure, axes, splits)


def picture_sizes_figure(splits: Sequence[SplitStatistics]) -> Figure:
    """Width and height of the pictures; a larger dot for a size that more of them have."""
    figure, axes = _figure("size of the pictures", height=4.4)
    for i, split in enumerate(splits):
        hw = split.hw[(split.hw > 0).all(axis=1)]
        sizes, counts = np.unique(hw, axis=0, return_counts=True)
        area = (18 + 240 * counts / max(1, counts.max(initial=1))) / (1 + i)  # all are to be seen
        axes.scatter(sizes[:, 1], sizes[:, 0], area, color=_colour(i), alpha=0.6, linewidths=0,
                     label=plain_text(split.name))  # fmt: skip
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.margins(0.08)
    axes.set_xlabel("width in pixels", color=INK, fontsize=9)
    axes.set_ylabel("height in pixels", color=INK, fontsize=9)
    return _with_legend(figure, axes, splits)


def boxes_per_picture_figure(splits: Sequence[SplitStatistics]) -> Figure:
    """How many boxes pictures have."""
    figure, axes = _figure("boxes in a picture")
    most = max((int(split.per_picture.max(initial=0)) for split in splits), default=0)
    step = max(1, -(-(most + 1) // 40))
    edges = np.arange(0, most + step + 1, step) - 0.5
    _shares(axes, splits, lambda split: split.per_picture, edges, of="pictures")
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    axes.set_xlabel("boxes", color=INK, fontsize=9)
    return _with_legend(figure, axes, splits)


def _figure(title: str, *, height: float = 3.2) -> tuple[Figure, Axes]:
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(5.2, height), layout=layout)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_title(title, color=INK, fontsize=11, fontweight="bold", loc="left")
    plain_axes(axes, letters=9)
    return figure, axes


def _shares(
    axes: Axes,
    splits: Sequence[SplitStatistics],
    values_of: Callable[[SplitStatistics], np.ndarray],
    edges: np.ndarray,
    *,
    of: str = "boxes",
) -> None:
    """A histogram of each split in percent, so that a small one is seen beside a large one."""
    for i, split in enumerate(splits):
        values = values_of(split).clip(edges[0], edges[-1])
        if len(values):
            counts, _ = np.histogram(values, edges)
            axes.stairs(100 * counts / len(values), edges, color=_colour(i), linewidth=1.8,
                        fill=len(splits) == 1, label=plain_text(split.name))  # fmt: skip
    axes.set_ylim(0, 1.18 * axes.dataLim.y1 if axes.patches else 1)
    axes.set_ylabel(f"% of the {of}", color=INK, fontsize=9)


def _scatter(axes: Axes, x: np.ndarray, y: np.ndarray, i: int, split: SplitStatistics) -> None:
    alpha = float(np.clip(60 / max(1, len(x)) ** 0.5, 0.08, 0.6))
    axes.scatter(x, y, 9, color=_colour(i), alpha=alpha, linewidths=0, label=plain_text(split.name),
                 rasterized=True)  # fmt: skip


def _with_legend(figure: Figure, axes: Axes, splits: Sequence[SplitStatistics]) -> Figure:
    if len(splits) > 1 and axes.get_legend_handles_labels()[0]:
        look = {"fontsize": 9, "labelcolor": INK, "framealpha": 0.85, "edgecolor": "none"}
        legend = axes.legend(**look)
        for handle in filter(None, legend.legend_handles):
            handle.set_alpha(1)
            if isinstance(handle, PathCollection):
                handle.set_sizes([40])
    return figure


def _thinned(rows: np.ndarray) -> np.ndarray:
    return rows[:: max(1, len(rows) // _POINTS)]


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]
