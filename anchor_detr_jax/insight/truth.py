"""Figure of what is in a picture beside what was found in it."""

from __future__ import annotations

from matplotlib.figure import Figure

from anchor_detr_jax.insight.canvas import DPI, draw_picture, picture_grid
from anchor_detr_jax.insight.observation import Observation
from anchor_detr_jax.structures import Detections
from anchor_detr_jax.visualize import draw_beside

__all__ = ["truth_figure"]


def truth_figure(seen: Observation, truth: Detections) -> Figure:
    """The ground truth at the left, what was found at the right, as `draw_beside` draws them.

    Args:
        seen: of a picture as it is stored, which is what its boxes belong to.
        truth: such as `CocoTruth.of_image` gives; its scores are not shown.
    """
    both = draw_beside(seen.picture, truth, seen.found)
    figure, ((axes,),) = picture_grid((both.height, both.width), [[""]], width=both.width / DPI)
    draw_picture(axes, both)
    return figure
