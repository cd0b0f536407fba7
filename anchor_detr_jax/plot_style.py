"""How all plots look: their colours, their axes, and names as they are."""

from __future__ import annotations

from typing import Literal

from matplotlib.axes import Axes

__all__ = ["COLOURS", "INK", "PALE", "plain_axes", "plain_text"]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f4f24", "#555555")
"""Colours that people who see few colours tell apart too (M. Okabe and K. Ito, 2002), and more."""

INK, PALE = "#333333", "#d9d9d9"
"""Of what is written, and of the lines of a grid."""


def plain_axes(axes: Axes, *, grid: Literal["x", "y", "both"] = "both", letters: int = 10) -> None:
    """Axes at the left and below, and a pale grid behind what is drawn."""
    axes.tick_params(labelsize=letters, colors=INK)
    axes.grid(axis=grid, color=PALE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)


def plain_text(text: str, *, longest: int | None = None) -> str:
    """Text that Matplotlib shows as it is: "$" begins a formula, "_" a label that is hidden.

    Args:
        text: such as a category's name.
        longest: letters after which it is cut.
    """
    if longest is not None and len(text) > longest:
        text = text[: longest - 1] + "…"
    return ("\u00a0" if text.startswith("_") else "") + text.replace("$", r"\$")
