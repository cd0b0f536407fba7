"""Matplotlib figures of an evaluation; each can be saved, or shown in a notebook.

They are small, with letters to match, so that two stand side by side and one fills a telephone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import EngFormatter, NullLocator

from anchor_detr_jax.evaluation.error_breakdown import ErrorBreakdown, ErrorKind
from anchor_detr_jax.evaluation.per_size import SizeScores
from anchor_detr_jax.evaluation.precision_recall import PrecisionRecall
from anchor_detr_jax.evaluation.thresholds import (
    THRESHOLDS,
    Calibration,
    OperatingPoint,
    ScoreCounts,
)
from anchor_detr_jax.plot_style import COLOURS, INK, plain_axes, plain_text

__all__ = [
    "calibration_figure",
    "category_curves_figure",
    "error_count_figure",
    "error_gain_figure",
    "mean_curves_figure",
    "score_figure",
    "size_figure",
    "threshold_figure",
]

_OTHERS = "#bbbbbb"
_DRAWN_IOUS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.9)
_LONGEST_NAME = 20


def mean_curves_figure(curves: PrecisionRecall) -> Figure:
    """Precision over recall at several IoUs, as means of all categories."""
    figure, axes = _figure("mean of all categories")
    for colour, iou in zip(COLOURS, _DRAWN_IOUS, strict=False):
        if iou in curves.mean:
            label = f"IoU {iou:.2f}: AP {curves.mean[iou].mean():.3f}"
            axes.plot(curves.recall, curves.mean[iou], color=colour, linewidth=1.8, label=label)
    _share_axes(axes, "recall", "precision")
    _legend(figure, axes, beneath=True)
    return figure


def category_curves_figure(curves: PrecisionRecall) -> Figure:
    """Precision over recall of each category at IoU 0.50.

    Of more than eight categories the four best and the four worst are named, the others are grey.
    """
    figure, axes = _figure("each category at IoU 0.50")
    ranked = sorted(curves.per_class.items(), key=lambda item: -item[1].mean())
    many = len(ranked) > len(COLOURS)
    for _, curve in ranked[4:-4] if many else ():
        axes.plot(curves.recall, curve, color=_OTHERS, linewidth=0.6)
    named = [*ranked[:4], *ranked[-4:]] if many else ranked
    for colour, (name, curve) in zip(COLOURS, named, strict=False):
        label = f"{plain_text(name, longest=_LONGEST_NAME)}: AP {curve.mean():.3f}"
        axes.plot(curves.recall, curve, color=colour, linewidth=1.5, label=label)
    _share_axes(axes, "recall", "precision")
    _legend(figure, axes, beneath=True)
    return figure


def error_gain_figure(errors: ErrorBreakdown) -> Figure:
    """By how much AP50 would rise without each kind of error."""
    figure, axes = _figure(f"gain in AP50, now {errors.ap50:.3f}")
    texts = [f"{kind.gain:+.3f}" for kind in errors.kinds]
    _bars(axes, errors.kinds, [kind.gain for kind in errors.kinds], texts)
    return figure


def error_count_figure(errors: ErrorBreakdown) -> Figure:
    """How many errors of each kind there are from the threshold on."""
    figure, axes = _figure(f"how many from score {errors.threshold:.2f} on")
    texts = [f"{kind.shown:,}" for kind in errors.kinds]
    _bars(axes, errors.kinds, [kind.shown for kind in errors.kinds], texts)
    return figure


def threshold_figure(scores: ScoreCounts, best: OperatingPoint) -> Figure:
    """Precision, recall and F1 from each threshold on."""
    figure, axes = _figure("what a threshold gives")
    points = scores.curve()
    curves = {
        "precision": [point.precision for point in points],
        "recall": [point.recall for point in points],
        "F1": [point.f1 for point in points],
    }
    for colour, (name, values) in zip(COLOURS, curves.items(), strict=False):
        values = [np.nan if value is None else value for value in values]
        axes.plot(THRESHOLDS, values, color=colour, linewidth=1.8, label=name)
    chosen = f"threshold {best.threshold:.2f}"
    axes.axvline(best.threshold, color=INK, linestyle="--", linewidth=1, label=chosen)
    _share_axes(axes, "threshold", "")
    _legend(figure, axes, beneath=True)
    return figure


def score_figure(scores: ScoreCounts) -> Figure:
    """How many right and wrong detections have which score.

    Logarithmic: hundreds of times as many have next to no score as have a good one.
    """
    figure, axes = _figure("detections by score")
    parts = {"right": scores.right, "wrong": scores.wrong}
    for colour, (name, counts) in zip(COLOURS, parts.items(), strict=False):
        bins = np.add.reduceat(counts, np.arange(0, 100, 5))
        look = {"color": colour, "linewidth": 1.8, "label": f"{name}: {counts.sum():,}"}
        axes.stairs(np.maximum(bins, 0.5), np.arange(21) / 20, baseline=0.5, **look)
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.7)
    axes.set_xlim(0, 1)
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("score, in bins of 0.05", color=INK, fontsize=11)
    plain_axes(axes, grid="y")
    _legend(figure, axes)
    return figure


def calibration_figure(calibration: Calibration) -> Figure:
    """What share of the detections with about the same score is right."""
    figure, axes = _figure("share that is right, by score")
    axes.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=1, label="as the score says")
    if calibration.error is not None:
        look = {"color": COLOURS[0], "marker": "o", "markersize": 5, "linewidth": 1.5}
        label = f"as it is, {calibration.error:.3f} off"
        axes.plot(calibration.score, calibration.precision, label=label, **look)
    _share_axes(axes, "score, mean of each tenth", "")
    _legend(figure, axes)
    return figure


def size_figure(sizes: Sequence[SizeScores]) -> Figure:
    """AP, AP50 and AR of small, medium and large boxes."""
    figure, axes = _figure("by size")
    measures = {
        "AP": [size.ap for size in sizes],
        "AP50": [size.ap50 for size in sizes],
        "AR": [size.recall for size in sizes],
    }
    for i, (name, values) in enumerate(measures.items()):
        places = np.arange(len(sizes)) + 0.27 * (i - 1)
        bars = axes.bar(places, [v or 0 for v in values], 0.25, color=COLOURS[i], label=name)
        texts = ["-" if v is None else f"{v:.2f}" for v in values]
        axes.bar_label(bars, texts, fontsize=9, color=INK, padding=2)
    axes.set_xticks(range(len(sizes)), [f"{s.name}\n{s.boxes:,} boxes" for s in sizes])
    axes.set_ylim(0, 1.09)
    plain_axes(axes, grid="y")
    _legend(figure, axes, beneath=True)
    return figure


def _figure(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5, 3.9), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_title(title, color=INK, fontsize=12, fontweight="bold", loc="left")
    return figure, axes


def _bars(
    axes: Axes, kinds: Sequence[ErrorKind], values: list[int] | list[float], texts: list[str]
) -> None:
    """Bars that lie, the first on top, with what they say at their ends."""
    names = [kind.name for kind in kinds]
    bars = axes.barh(names, values, color=COLOURS[: len(names)], height=0.7)
    axes.bar_label(bars, texts, fontsize=10, color=INK, padding=3)
    axes.invert_yaxis()
    axes.set_xlim(min(0.0, 1.25 * min(values)), 1.25 * max(*values, 1e-3))
    axes.locator_params(axis="x", nbins=5)
    plain_axes(axes, grid="x")


def _share_axes(axes: Axes, x: str, y: str) -> None:
    """Both from 0 to 1, and a little more so that lines at the edge are seen."""
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.05)
    axes.set_xlabel(x, color=INK, fontsize=11)
    axes.set_ylabel(y, color=INK, fontsize=11)
    plain_axes(axes, grid="both")


def _legend(figure: Figure, axes: Axes, *, beneath: bool = False) -> None:
    if not axes.get_legend_handles_labels()[0]:
        return
    if beneath:
        figure.legend(
            loc="outside lower center", ncols=2, fontsize=9, labelcolor=INK, frameon=False
        )
    else:
        axes.legend(fontsize=10, labelcolor=INK, framealpha=0.85, edgecolor="none")
