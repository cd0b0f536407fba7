"""The few sizes that images are padded to, so that few programs are compiled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int

from anchor_detr_jax.data.transforms import LONG_SIDE_SLACK

__all__ = ["chosen_buckets", "inference_buckets", "padded_to", "smallest_bucket"]

_ASPECTS = (1.36, 1.52)
"""A little over 4:3 and 3:2, the commonest shapes of photographs."""


def padded_to(hws: Iterable[tuple[int, int]], multiple: int = 32) -> tuple[int, int]:
    """The smallest size, a multiple of `multiple` each way, that holds all of these."""
    heights, widths = zip(*hws, strict=True)
    return (-(-max(heights) // multiple) * multiple, -(-max(widths) // multiple) * multiple)


def inference_buckets(short_side: int, long_side: int) -> list[tuple[int, int]]:
    """At most six sizes, lying and standing, for images resized to these sides."""
    longest = long_side + LONG_SIDE_SLACK
    longs = [min(round(short_side * aspect), longest) for aspect in _ASPECTS] + [longest]
    lying = {padded_to([(short_side, long)]) for long in longs}
    return sorted(lying | {(w, h) for h, w in lying})


def chosen_buckets(
    hws: Int[np.ndarray, "n 2"], count: int, *, largest: tuple[int, int], multiple: int = 32
) -> list[tuple[int, int]]:
    """At most `count` sizes, multiples of `multiple`, that waste little on images of these sizes.

    One of them holds `largest`. The others are found one by one, each the one that saves the most
    pixels beside those that there are, and then each is tried against all others once more.
    """
    cells, weights = np.unique(-(-hws // multiple), axis=0, return_counts=True)
    sides = [np.unique(cells[:, axis]) for axis in (0, 1)]
    candidates = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 2)
    holds = np.all(candidates[:, None] >= cells[None], axis=-1)
    areas = np.where(holds, candidates.prod(axis=1)[:, None], np.inf)
    everything = np.ceil(np.array(largest) / multiple).astype(int)
    floor = np.full(len(cells), float(everything.prod()))

    def cost_with_each(others: list[int]) -> np.ndarray:
        """Padded pixels, had each candidate been chosen beside these."""
        without = np.minimum(floor, areas[others].min(axis=0, initial=np.inf))
        return np.minimum(areas, without) @ weights

    chosen: list[int] = []
    for _ in range(count - 1):
        chosen.append(int(cost_with_each(chosen).argmin()))
    for i in range(len(chosen)):
        chosen[i] = int(cost_with_each(chosen[:i] + chosen[i + 1 :]).argmin())
    sizes = {tuple(candidates[i] * multiple) for i in chosen} | {tuple(everything * multiple)}
    return sorted((int(h), int(w)) for h, w in sizes)


def smallest_bucket(hw: tuple[int, int], buckets: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The bucket of least area that holds an image.

    Raises:
        ValueError: if none does.
    """
    holding = [b for b in buckets if b[0] >= hw[0] and b[1] >= hw[1]]
    if not holding:
        raise ValueError(f"no bucket of {list(buckets)} holds an image of {hw[0]}x{hw[1]}")
    return min(holding, key=lambda b: (b[0] * b[1], b))
