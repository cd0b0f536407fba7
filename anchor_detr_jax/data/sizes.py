"""`transforms.resized_hw` for many pictures at once."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from anchor_detr_jax.data.transforms import LONG_SIDE_SLACK

__all__ = ["resized_hws"]


def resized_hws(
    hws: Int[np.ndarray, "n 2"], short_sides: Int[np.ndarray, " n"], long_side: int
) -> Int[np.ndarray, "n 2"]:
    """The sizes of pictures whose short sides go to these, unless the long side forbids it."""
    hws = hws.astype(np.int64)
    short, long = hws.min(axis=1), hws.max(axis=1)
    forbidden = short_sides * long > long_side * short
    by_long_side = np.rint(long_side * short / long).astype(np.int64)
    short_sides = np.where(forbidden, by_long_side, short_sides)
    longest = long_side + LONG_SIDE_SLACK
    unchanged = (short == short_sides) & (long <= longest)
    short_sides = np.maximum(short_sides, 1)
    others = np.minimum(short_sides * long // short, longest)
    lying = hws[:, 0] <= hws[:, 1]
    heights = np.where(lying, short_sides, others)
    widths = np.where(lying, others, short_sides)
    return np.where(unchanged[:, None], hws, np.stack([heights, widths], axis=1))
