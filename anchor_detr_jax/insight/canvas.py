"""What the figures of this package share: a canvas in inches, and pictures on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from PIL import Image, ImageEnhance, ImageOps

from anchor_detr_jax.plot_style import INK, plain_text
from anchor_detr_jax.structures import Detections
from anchor_detr_jax.visualize import category_colour, draw_detections

__all__ = [
    "DPI",
    "Colour",
    "category_ink",
    "dimmed",
    "draw_cross",
    "draw_found",
    "draw_frame",
    "draw_heat",
    "draw_picture",
    "name_row",
    "outlined",
    "picture_grid",
]

DPI = 100
"""Pixels an inch, in which a figure is drawn and saved."""

Colour = tuple[float, float, float]

_GAP, _TITLE, _MARGIN, _HEADING = 0.12, 0.3, 0.12, 0.34
"""Inches between pictures, above each, around all, and for a heading."""

_LETTER = 0.0083
"""Inches that a letter is wide, for each point of its size."""


def category_ink(category_id: int) -> Colour:
    """The colour that a category has in all drawings, as Matplotlib wants it."""
    r, g, b = category_colour(category_id)
    return r / 255, g / 255, b / 255


def picture_grid(
    hw: tuple[int | float, int | float],
    titles: Sequence[Sequence[str]],
    *,
    width: float,
    heading: str = "",
    left: float = 0.0,
) -> tuple[Figure, list[list[Axes]]]:
    """A figure with a grid of panels for pictures, each of which fills its panel.

    Args:
        hw: a panel's height and width, in any unit.
        titles: above each panel, in rows; where no panel of a row has one, they stand closer.
        width: of a panel, in inches.
        heading: above all.
        left: inches for what stands at the left of each row.
    """
    height = width * hw[0] / hw[1]
    rows, columns = len(titles), max(len(row) for row in titles)
    above = [_TITLE if any(row) else _GAP for row in titles]
    top = _MARGIN + (_HEADING if heading else 0.0)
    full_width = left + 2 * _MARGIN + columns * width + (columns - 1) * _GAP
    full_height = top + sum(above) + rows * height + _MARGIN
    figure = Figure(figsize=(full_width, full_height), dpi=DPI)
    FigureCanvasAgg(figure)
    if heading:
        _write_heading(figure, heading)
    grid, y = [], full_height - top
    for space, row in zip(above, titles, strict=True):
        y -= space + height
        grid.append([])
        for i, title in enumerate(row):
            x = left + _MARGIN + i * (width + _GAP)
            place = x / full_width, y / full_height, width / full_width, height / full_height
            axes = figure.add_axes(place)
            axes.set_axis_off()
            size = _fitting(10.5, title, width)
            axes.set_title(plain_text(title), color=INK, fontsize=size, loc="left", pad=5)
            grid[-1].append(axes)
    return figure, grid


def _write_heading(figure: Figure, heading: str) -> None:
    """Above all, as large as it fits."""
    width, height = figure.get_size_inches()
    figure.text(
        x=_MARGIN / width,
        y=1 - (_MARGIN + _HEADING / 2) / height,
        s=plain_text(heading),
        color=INK,
        fontsize=_fitting(13.0, heading, float(width) - 2 * _MARGIN),
        fontweight="bold",
        va="center",
    )


def _fitting(size: float, text: str, width: float) -> float:
    """A size of letters, at most this one, in which a text is not wider than so many inches."""
    return min(size, width / (_LETTER * max(len(text), 1)))


def name_row(first: Axes, name: str, *, y: float = 0.5) -> None:
    """A name at the left of a row's first panel, at this share of its height."""
    at = {"x": -0.04, "y": y, "rotation": 90, "ha": "right", "va": "center"}
    first.text(**at, s=name, color=INK, transform=first.transAxes)


def draw_picture(axes: Axes, picture: Image.Image) -> None:
    """A picture in coordinates of its pixels, the corner of the first at (0, 0)."""
    width, height = picture.size
    axes.imshow(np.asarray(picture), extent=(0, width, height, 0))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)


def dimmed(picture: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    """A picture in grey and a little darker, for what lies over it."""
    grey = ImageOps.grayscale(picture).convert("RGB")
    return np.asarray(ImageEnhance.Brightness(grey).enhance(0.85))


def draw_heat(axes: Axes, share: Float[np.ndarray, "h w"], size: tuple[int, int]) -> None:
    """Cells over a picture of this (width, height): brighter is more, of at most 1."""
    extent = (0, size[0], size[1], 0)
    axes.imshow(share, extent=extent, cmap="inferno", alpha=0.9 * share**0.5, vmin=0, vmax=1)


def draw_found(axes: Axes, picture: Image.Image, found: Detections) -> None:
    """A picture with its detections, whose labels are as large as they are in any drawing."""
    width = max(1, round(axes.get_window_extent().width))
    ratio = width / picture.width
    fitted = picture.resize(
        (width, max(1, round(ratio * picture.height))), Image.Resampling.LANCZOS
    )
    draw_picture(axes, draw_detections(fitted, replace(found, boxes=ratio * found.boxes)))


def draw_frame(
    axes: Axes,
    box: Float[np.ndarray, " 4"],
    size: tuple[int, int],
    colour: Colour,
    *,
    thickness: float,
) -> None:
    """A box (x1, y1, x2, y2) in pixels of a picture of this (width, height), and not beyond it."""
    x1, y1, x2, y2 = box.clip(0, (*size, *size)).tolist()
    frame = Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=thickness)
    frame.set_path_effects(outlined(thickness))
    axes.add_patch(frame)


def draw_cross(axes: Axes, point: Float[np.ndarray, " 2"], *, thickness: float) -> None:
    """An upright cross at (x, y) in pixels, in proportion to the frames of this thickness."""
    look = {"color": "white", "markersize": 4 * thickness, "markeredgewidth": 0.8 * thickness}
    axes.plot(*point, "+", **look, path_effects=outlined(0.8 * thickness))


def outlined(thickness: float) -> list:
    """Path effects: a dark line around a line of this thickness."""
    return [withStroke(linewidth=thickness + 1.4, foreground="black", alpha=0.8)]
