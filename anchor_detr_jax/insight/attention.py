"""Figures of where the query of a detection looked."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anchor_detr_jax.insight.attention_maps import AttentionMaps, RcdaLooks
from anchor_detr_jax.insight.canvas import (
    category_ink,
    dimmed,
    draw_cross,
    draw_frame,
    draw_heat,
    name_row,
    picture_grid,
)
from anchor_detr_jax.insight.observation import Observation, checked_number
from anchor_detr_jax.plot_style import INK

__all__ = ["attention_figure", "attention_grid_figure"]

_STRIP = 0.2
"""Height of a profile's strip beside the picture, as a share of the picture's mean side."""

_BAND = 0.05
"""Height of the words below it, likewise."""

_PROFILE = "#e4572e"


def attention_figure(
    seen: Observation,
    *,
    detection: int = 0,
    layer: int = -1,
    head: int | None = None,
    level: int = -1,
) -> Figure:
    """Where the query of one detection looked, in one decoder layer.

    Over the picture, brighter where a cell of the feature map counted more, lies the product of row
    and column attention; the row attention stands below it, the column attention at its right. Of
    attention over all cells, these are the weights and their sums. The frame is the box that the
    layer gives the query, the cross the point that it starts from, if any.

    Args:
        seen: of a detector and an image.
        detection: its place in `seen.found`.
        layer: of the decoder, from 0; negative ones count from the end.
        head: of the attention, from 0; None: the mean over all heads.
        level: of the features, from 0; the last is C5.

    Raises:
        ValueError: if there is no such detection, layer, head or level; it says which there are.
    """
    maps = seen.attention(detection, level=level).without_padding
    layers, heads, _ = maps.row.shape
    layer = checked_number("layer", layer, layers)
    head = head if head is None else checked_number("head", head, heads)
    name = "mean over the heads" if head is None else f"head {head}"
    title = f"layer {layer} of 0 to {layers - 1}, {name}{_level_name(seen, level)}"
    panel = _Panel(seen, detection, small=False)
    figure, ((axes,),) = picture_grid(
        panel.hw, [[title]], width=8.0 if panel.hw[1] >= panel.hw[0] else 6.0, heading=panel.name
    )
    panel.draw(axes, maps.of(layer, head), layer=layer)
    return figure


def attention_grid_figure(seen: Observation, *, detection: int = 0, level: int = -1) -> Figure:
    """As `attention_figure`, in small, for all layers and all heads.

    Raises:
        ValueError: if there is no such detection or level; it says which there are.
    """
    maps = seen.attention(detection, level=level).without_padding
    layers, heads, _ = maps.row.shape
    columns: list[int | None] = [None, *range(heads)]
    names = ["mean over heads" if head is None else f"head {head}" for head in columns]
    panel = _Panel(seen, detection, small=True)
    figure, grid = picture_grid(
        panel.hw,
        [names] + [[""] * len(names)] * (layers - 1),
        width=1.7,
        heading=panel.name + _level_name(seen, level),
        left=0.3,
    )
    for layer, row in enumerate(grid):
        name_row(row[0], f"layer {layer}", y=0.5 + _STRIP / 4)
        for axes, head in zip(row, columns, strict=True):
            panel.draw(axes, maps.of(layer, head), layer=layer)
    return figure


def _level_name(seen: Observation, level: int) -> str:
    """Nothing where there is one level only."""
    return f", {seen.levels[level]}" if len(seen.levels) > 1 else ""


class _Panel:
    """How one detection's attention is drawn, whichever layer's and head's it is."""

    def __init__(self, seen: Observation, detection: int, *, small: bool) -> None:
        seen.check_detection(detection)
        self._seen, self._detection = seen, detection
        self._ground = dimmed(seen.picture)
        width, height = seen.picture.size
        side = (width + height) / 2
        self._strip, self._small = _STRIP * side, small
        band = 0 if small else _BAND * side
        self.hw = height + self._strip + band, width + self._strip

    @property
    def name(self) -> str:
        """What the detection is."""
        seen, i = self._seen, self._detection
        found = f"{seen.found.names[i]} {seen.found.scores[i]:.2f}"
        return f"detection {i}: {found}   ({seen.query_name(i)})"

    def draw(self, axes: Axes, maps: AttentionMaps, *, layer: int) -> None:
        """The picture, what it counted, and the two profiles."""
        seen, i = self._seen, self._detection
        width, height = seen.picture.size
        thickness = 1.0 if self._small else 2.2
        axes.imshow(self._ground, extent=(0, width, height, 0))
        product = maps.product[0, 0]
        draw_heat(axes, product / product.max(), (width, height))
        colour = category_ink(int(seen.found.labels[i]))
        draw_frame(
            axes, seen.boxes_in_pixels(layer)[i], (width, height), colour, thickness=thickness
        )
        point = seen.point_in_pixels(i)
        if point is not None:
            draw_cross(axes, point, thickness=thickness)
        self._draw_profiles(axes, maps)
        axes.set_xlim(0, self.hw[1])
        axes.set_ylim(self.hw[0], 0)

    def _draw_profiles(self, axes: Axes, maps: AttentionMaps) -> None:
        """Steps as wide as cells, from the picture's edge outwards; the highest fills its strip."""
        width, height = self._seen.picture.size
        row, column = maps.row[0, 0], maps.column[0, 0]
        for weights, along, side, edge in (
            (row, axes.fill_between, width, height),
            (column, axes.fill_betweenx, height, width),
        ):
            cells = np.linspace(0, side, len(weights) + 1)
            start = edge + 0.08 * self._strip
            lengths = 0.92 * self._strip * np.append(weights, weights[-1]) / weights.max()
            along(cells, start, start + lengths, color=_PROFILE, linewidth=0, step="post")
        if not self._small:
            of_row, of_column = (
                ("row attention", "column attention")
                if isinstance(self._seen.looks, RcdaLooks)
                else ("sums over rows", "sums over columns")
            )
            words = (
                f"{of_row} below, at most {row.max():.3f}; "
                f"{of_column} beside, at most {column.max():.3f}"
            )
            axes.text(0, self.hw[0], words, color=INK, fontsize=9, ha="left", va="bottom")
