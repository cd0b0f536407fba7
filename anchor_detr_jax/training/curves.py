"""Curves of runs, from the rows that `RunLog` wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator

from anchor_detr_jax.plot_style import COLOURS, INK, PALE, plain_axes, plain_text
from anchor_detr_jax.training.run_log import read_rows
from anchor_detr_jax.whole_files import file_written_whole

__all__ = ["draw_curves", "has_log", "save_curves", "smoothed"]

_STYLES = ("-", "--", ":")
_POINTS = 1500
"""Of a longer curve, as many are drawn."""


@dataclass(frozen=True)
class _Panel:
    """What is drawn together.

    Attributes:
        title: above it.
        kind: of the rows.
        curves: names of values in the rows, and what to call them.
        log: a logarithmic scale.
        noisy: draw the values thin and pale, and a smoothed curve over them.
    """

    title: str
    kind: str
    curves: Mapping[str, str]
    log: bool = False
    noisy: bool = False


_PANELS = (
    _Panel("total loss", "train", {"loss/total": "total"}, log=True, noisy=True),
    _Panel(
        "losses of the last layer, unweighted",
        "train",
        {"loss/classes": "classes", "loss/giou": "GIoU", "loss/l1": "L1"},
        log=True,
        noisy=True,
    ),
    _Panel("learning rate", "train", {"lr/rest": "rest", "lr/backbone": "backbone"}, log=True),
    _Panel("average precision", "eval", {"AP": "AP", "AP50": "AP50", "AP75": "AP75"}),
)

_LOGS = {panel.kind: f"{panel.kind}.jsonl" for panel in _PANELS}
"""The file that a run writes for each kind of row."""


@dataclass(frozen=True)
class _Run:
    """A run's name, its colour, and its rows by their kind; None where it has no such file."""

    name: str
    colour: str
    rows: Mapping[str, list[dict[str, float]] | None]


def draw_curves(folders: Sequence[Path]) -> Figure:
    """Loss, its parts, learning rates and average precision of runs over their steps.

    A curve leaves out what is not finite, and an AP of -1 (nothing to find). A long one is drawn
    with fewer points, among which the lowest and the highest values remain.

    Args:
        folders: of the runs. What a run has not written yet is missing from the picture.

    Raises:
        ValueError: if there are no folders, one is none, or a file in it is no run's log.
        OSError: if a file cannot be read.
    """
    runs = _read_runs(folders)
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    figure = Figure(figsize=(10.5, 7), dpi=150, layout=layout)
    FigureCanvasAgg(figure)
    for axes, panel in zip(figure.subplots(2, 2).flat, _PANELS, strict=True):
        _draw_panel(axes, panel, runs)
    labels = [plain_text(run.name + _best(run)) for run in runs]
    if len(runs) == 1:
        figure.suptitle(labels[0], color=INK, fontsize=13, fontweight="bold")
    else:
        handles = [Line2D([], [], color=run.colour, linewidth=3) for run in runs]
        columns = 1 if max(map(len, labels)) > 60 else 2
        look = {"frameon": False, "fontsize": 11, "labelcolor": INK}
        figure.legend(handles, labels, loc="outside upper center", ncols=columns, **look)
    return figure


def has_log(folder: Path) -> bool:
    """Whether a run has written anything here that curves could be drawn of."""
    return any((folder / name).is_file() for name in _LOGS.values())


def save_curves(folders: Sequence[Path], path: Path) -> None:
    """Write `draw_curves` as a PNG of 1575 x 1050 pixels, whole or not at all.

    Raises:
        ValueError: as `draw_curves`.
        OSError: if a file cannot be read or written.
    """
    figure = draw_curves(folders)
    with file_written_whole(path) as file:
        figure.savefig(file, format="png")


def smoothed(values: Float[np.ndarray, " n"], width: int) -> Float[np.ndarray, " n"]:
    """Means over `width` neighbours (an odd number), at the ends over those that there are."""
    if len(values) == 0:
        return values
    reach = min(width // 2, len(values) - 1)
    window = np.ones(2 * reach + 1)
    whole = slice(reach, reach + len(values))
    sums, counts = (np.convolve(x, window)[whole] for x in (values, np.ones(len(values))))
    return sums / counts


def _read_runs(folders: Sequence[Path]) -> list[_Run]:
    if not folders:
        raise ValueError("no runs to draw curves of, expected at least one folder")
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder} is no folder, expected one that a run was written to")
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    runs = []
    for i, (name, folder) in enumerate(zip(names, folders, strict=True)):
        files = {kind: folder / file for kind, file in _LOGS.items()}
        rows = {kind: read_rows(file) if file.exists() else None for kind, file in files.items()}
        runs.append(_Run(name, COLOURS[i % len(COLOURS)], rows))
    return runs


def _draw_panel(axes: Axes, panel: _Panel, runs: list[_Run]) -> None:
    """One run: a colour a curve. Several: a colour a run, a style of line a curve."""
    axes.set_title(panel.title, color=INK, fontsize=12, fontweight="bold", loc="left")
    alone = len(runs) == 1
    # Several curves of several runs are read more easily without the values around them.
    pale = 0.25 if alone else 0.18 if len(panel.curves) == 1 else 0.0
    handles: dict[str, Line2D] = {}
    for run in runs:
        for i, (name, label) in enumerate(panel.curves.items()):
            points = _curve(run.rows[panel.kind] or [], name, positive=panel.log)
            if len(points[0]) == 0:
                continue
            colour, style = (COLOURS[i], "-") if alone else (run.colour, _STYLES[i])
            if panel.noisy:
                if pale:
                    axes.plot(*_extremes(*points), color=colour, linewidth=0.6, alpha=pale)
                points = _trend(*points)
            few = len(points[0]) <= (20 if panel.kind == "eval" else 1)
            look = {"linestyle": style, "linewidth": 1.8, "marker": "o" if few else ""}
            axes.plot(*points, **look, color=colour, markersize=3.5, zorder=3)
            handles[label] = Line2D([], [], **look, color=colour if alone else INK, markersize=3.5)
    if not handles:
        _say_empty(axes, panel, runs)
        return
    _set_axes(axes, panel)
    if len(panel.curves) > 1:
        look = {"fontsize": 10, "labelcolor": INK, "framealpha": 0.85, "edgecolor": "none"}
        axes.legend(handles.values(), handles.keys(), **look)


def _set_axes(axes: Axes, panel: _Panel) -> None:
    if panel.log:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1e4 * low else (1,)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    axes.set_xlabel("step", color=INK, fontsize=11)
    plain_axes(axes)


def _say_empty(axes: Axes, panel: _Panel, runs: list[_Run]) -> None:
    if all(run.rows[panel.kind] is None for run in runs):
        text = f"no {panel.kind}.jsonl yet"
    else:
        text = f"nothing to draw in {panel.kind}.jsonl:\nno {', '.join(panel.curves)}"
    axes.text(0.5, 0.5, text, color="#777777", fontsize=12, ha="center", transform=axes.transAxes)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(PALE)


def _curve(rows: list[dict[str, float]], name: str, *, positive: bool = False):
    """Steps and values of what can be drawn; on a logarithmic scale that is what is positive."""
    points = [(row["step"], row[name]) for row in rows if name in row]
    steps, values = np.array(points, np.float64).reshape(-1, 2).T
    shown = np.isfinite(values) & (values > 0 if positive else values >= 0)
    return steps[shown], values[shown]


def _extremes(steps, values):
    """The lowest and the highest of each of `_POINTS` stretches, if there are more values."""
    if len(values) <= 2 * _POINTS:
        return steps, values
    chosen = []
    for stretch in np.array_split(np.arange(len(values)), _POINTS):
        part = values[stretch]
        chosen += sorted((stretch[part.argmin()], stretch[part.argmax()]))
    return steps[chosen], values[chosen]


def _trend(steps, values):
    """A smoothed curve, through the means of at most `_POINTS` stretches."""
    stretches = np.array_split(np.arange(len(values)), min(len(values), _POINTS))
    steps, values = (np.array([x[part].mean() for part in stretches]) for x in (steps, values))
    return steps, smoothed(values, 2 * (len(values) // 50) + 1)


def _best(run: _Run) -> str:
    steps, values = _curve(run.rows["eval"] or [], "AP")
    if len(values) == 0:
        return ""
    best = values.argmax()
    return f"   best AP {values[best]:.3f} at step {steps[best]:,.0f}"
