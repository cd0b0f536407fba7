"""The few sizes that images are padded to, so that few programs are compiled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from anchor_detr_jax.data.transforms import LONG_SIDE_SLACK

__all__ = ["inference_buckets", "padded_to", "smallest_bucket"]

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


def smallest_bucket(hw: tuple[int, int], buckets: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The bucket of least area that holds an image.

    Raises:
        ValueError: if none does.
    """
    holding = [b for b in buckets if b[0] >= hw[0] and b[1] >= hw[1]]
    if not holding:
        raise ValueError(f"no bucket of {list(buckets)} holds an image of {hw[0]}x{hw[1]}")
    return min(holding, key=lambda b: (b[0] * b[1], b))
