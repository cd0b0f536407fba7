"""How training pictures are varied, and how large that can make them.

Source: AnchorDETR `datasets/coco.py`, `make_coco_transforms`; csm-kr/detr_pytorch for the options.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from anchor_detr_jax.data.annotated import AnnotatedDataset
from anchor_detr_jax.data.mosaic import TILES, Mosaic
from anchor_detr_jax.data.sizes import resized_hws
from anchor_detr_jax.data.steps import Step
from anchor_detr_jax.data.transforms import LONG_SIDE_SLACK

__all__ = ["Augmentation", "AugmentationConfig", "largest_hw", "max_targets"]


@dataclass(frozen=True)
class AugmentationConfig:
    """How training pictures are varied; the reference's way by default.

    In this order: mosaic, flip, colour, zoom-out, crop, the resize to a short side, and the one to
    a fixed size.

    Attributes:
        flip: probability of a mirrored picture.
        short_sides: a picture is resized until its short side is one of these,
        long_side: unless its long side would be longer than this.
        crop: probability that, before that, it is cropped:
        crop_short_sides: resized to one of these short sides, whatever the long side becomes,
        crop_sides: and cut to a part whose sides are at least the first and at most the second of
            these, and no longer than the picture's.
        mosaic: probability that three others, whichever, join the picture in a square of
        mosaic_tile: this side for each.
        colour_jitter: probability that brightness, contrast and saturation change by factors from
            0.5 to 1.5, and hues by up to 25 degrees.
        zoom_out: probability that a picture becomes a part of one up to 3 times as high and wide.
        fixed_hw: height and width that every picture has in the end, whatever its aspect was;
            (): its own.
    """

    flip: float = 0.5
    short_sides: tuple[int, ...] = tuple(range(480, 801, 32))
    long_side: int = 1333
    crop: float = 0.5
    crop_short_sides: tuple[int, ...] = (400, 500, 600)
    crop_sides: tuple[int, int] = (384, 600)
    mosaic: float = 0.0
    mosaic_tile: int = 400
    colour_jitter: float = 0.0
    zoom_out: float = 0.0
    fixed_hw: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("flip", "crop", "mosaic", "colour_jitter", "zoom_out"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, and must be in [0, 1]")
        for name in ("short_sides", "crop_short_sides", "crop_sides"):
            sides = getattr(self, name)
            if not sides or min(sides) < 1:
                raise ValueError(f"{name} is {sides}, and must be sides of at least 1 pixel")
        for name in ("long_side", "mosaic_tile"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, and must be at least 1 pixel")
        if len(self.crop_sides) != 2 or self.crop_sides[0] > self.crop_sides[1]:
            raise ValueError(f"crop_sides is {self.crop_sides}, and must be (least, most)")
        if self.fixed_hw and (len(self.fixed_hw) != 2 or min(self.fixed_hw) < 1):
            raise ValueError(f"fixed_hw is {self.fixed_hw}, and must be (height, width), or ()")


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What becomes of one picture.

    Attributes:
        index: which picture it is.
        steps: what is done to it, in this order.
        hw: its size afterwards.
        mosaic: what it is made a part of before all steps.
    """

    index: int
    steps: tuple[Step, ...]
    hw: tuple[int, int]
    mosaic: Mosaic | None = None


def largest_hw(config: AugmentationConfig, hws: Int[np.ndarray, "n 2"]) -> tuple[int, int]:
    """A height and a width that no picture of these sizes passes, however it is augmented."""
    if config.fixed_hw:
        return config.fixed_hw[0], config.fixed_hw[1]
    before = np.unique(hws, axis=0).astype(np.int64)
    if config.mosaic > 0:
        before = np.concatenate([before, [[2 * config.mosaic_tile] * 2]])
    after = [resized_hws(before, np.full(len(before), s), config.long_side).max(axis=0)
             for s in config.short_sides]  # fmt: skip
    if config.zoom_out > 0:
        for lying in (True, False):
            some = before[np.equal(before[:, 0] <= before[:, 1], lying)]
            short, long = some.min(axis=1), some.max(axis=1)
            # Rounding takes less than a pixel off the short side, and leaves it at least as it was.
            after += [_at_most(config, short**2, long * (short + 1), lying=lying)]
    if config.crop > 0:
        least = np.array([min(*config.crop_sides, *config.crop_short_sides)])
        most = np.array([config.crop_sides[1]])
        after += [_at_most(config, least, most, lying=lying) for lying in (True, False)]
    height, width = np.max(after, axis=0)
    return int(height), int(width)


def max_targets(dataset: AnnotatedDataset, config: AugmentationConfig) -> int:
    """What to pad targets to: no augmented picture has more. A multiple of 8, at least 8."""
    most = int(dataset.counts.max(initial=1)) * (TILES if config.mosaic > 0 else 1)
    return -(-most // 8) * 8


def _at_most(
    config: AugmentationConfig,
    short: Int[np.ndarray, " n"],
    long: Int[np.ndarray, " n"],
    *,
    lying: bool,
) -> Int[np.ndarray, " 2"]:
    """A height and a width that no picture passes after its resize, at aspects up to these."""
    side = max(config.short_sides)
    # The short side is rounded by half a pixel at most, or from nothing up to a whole one.
    rounding = np.maximum(long // (2 * short), long // short - config.long_side)
    rounding = np.minimum(rounding, LONG_SIDE_SLACK)
    longs = np.minimum(side * long // short, config.long_side + rounding)
    sides = [min(side, config.long_side), int(longs.max(initial=1))]
    return np.array(sides if lying else sides[::-1])
