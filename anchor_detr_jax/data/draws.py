"""What becomes of each picture in an epoch, drawn from the seed, the epoch and its number.

Nothing is decoded for it, and no more is kept than a few numbers a picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from anchor_detr_jax.data.augmentation import Augmentation, AugmentationConfig
from anchor_detr_jax.data.colour import JITTER_DRAWS, drawn_jitter
from anchor_detr_jax.data.mosaic import MOSAIC_DRAWS, Mosaic, drawn_tiles
from anchor_detr_jax.data.sizes import resized_hws
from anchor_detr_jax.data.steps import Crop, Flip, Resize, Step, ZoomOut

__all__ = ["AugmentedEpoch", "augmented_epoch", "random_numbers"]

_STREAMS = ("pictures", "batches", "mosaic", "colour", "zoom out")

_DRAWS = 9
"""Numbers that every picture has in each epoch: for its order, flip, crop and size."""

_ZOOM_DRAWS = 4

_FARTHEST = 3.0
"""How many times as large as the picture the ground of a zoom-out is at most, each way."""

_LONGEST = 50
"""Aspect above which a picture is not cropped: resized for that, it might fill the memory."""

_NO_LIMIT = 1 << 30


@dataclass(frozen=True)
class AugmentedEpoch:
    """What becomes of each picture in one epoch: a row of each array, or None where it is off.

    Attributes:
        config: by which rules.
        order: the pictures' numbers, in any order.
        hw: their sizes afterwards.
        flipped: whether a picture is mirrored.
        cropped: whether a part of it is taken:
        first_hw: at this size,
        part: this one, as the arguments of `Crop`.
        resized_hw: the size it is then brought to.
        ground: arguments of `ZoomOut`, all 0 for none.
        mosaic: whether it becomes a mosaic (< the probability), and `MOSAIC_DRAWS` numbers.
        colour: likewise for its colours, and `JITTER_DRAWS` numbers.
    """

    config: AugmentationConfig
    order: Int[np.ndarray, " n"]
    hw: Int[np.ndarray, "n 2"]
    flipped: Bool[np.ndarray, " n"]
    cropped: Bool[np.ndarray, " n"]
    first_hw: Int[np.ndarray, "n 2"]
    part: Int[np.ndarray, "n 4"]
    resized_hw: Int[np.ndarray, "n 2"]
    ground: Int[np.ndarray, "n 4"] | None
    mosaic: Float[np.ndarray, "n _"] | None
    colour: Float[np.ndarray, "n _"] | None

    def picture(self, index: int) -> Augmentation:
        """What becomes of one picture."""
        config = self.config
        steps: list[Step] = [Flip()] if self.flipped[index] else []
        if self.colour is not None and self.colour[index, 0] < config.colour_jitter:
            steps.append(drawn_jitter(self.colour[index, 1:].tolist()))
        if self.ground is not None and self.ground[index, 0] > 0:
            steps.append(ZoomOut(*self.ground[index].tolist()))
        if self.cropped[index]:
            steps += [Resize(_pair(self.first_hw[index])), Crop(*self.part[index].tolist())]
        steps.append(Resize(_pair(self.resized_hw[index])))
        if config.fixed_hw:
            steps.append(Resize(_pair(self.hw[index])))
        return Augmentation(index, tuple(steps), _pair(self.hw[index]), self._mosaic(index))

    def _mosaic(self, index: int) -> Mosaic | None:
        config = self.config
        if self.mosaic is None or self.mosaic[index, 0] >= config.mosaic:
            return None
        tiles = drawn_tiles(index, len(self.hw), self.mosaic[index, 1:].tolist())
        return Mosaic(tiles, config.mosaic_tile, max(config.short_sides), config.long_side)


def random_numbers(seed: int, epoch: int, stream: str) -> np.random.Generator:
    """A generator for one purpose in one epoch; what others draw does not disturb it.

    Raises:
        ValueError: if the seed is negative, or has more than 63 bits.
    """
    if not 0 <= seed < 1 << 63:
        raise ValueError(f"seed is {seed}, and must be a whole number from 0 to 2**63 - 1")
    counter = [0, 0, 0, _STREAMS.index(stream)]
    return np.random.Generator(np.random.Philox(key=[seed, epoch], counter=counter))


def augmented_epoch(
    config: AugmentationConfig, hws: Int[np.ndarray, "n 2"], *, seed: int, epoch: int
) -> AugmentedEpoch:
    """What becomes of pictures of these sizes.

    A picture's share of the random numbers is its own, however many there are and whatever is on.
    """
    n, hws = len(hws), hws.astype(np.int64)

    def rows(stream: str, columns: int) -> Float[np.ndarray, "n _"]:
        return random_numbers(seed, epoch, stream).random((n, columns))

    draws, ground = rows("pictures", _DRAWS), None
    mosaic = rows("mosaic", 1 + MOSAIC_DRAWS) if config.mosaic > 0 else None
    colour = rows("colour", 1 + JITTER_DRAWS) if config.colour_jitter > 0 else None
    if mosaic is not None:
        hws = np.where(mosaic[:, :1] < config.mosaic, 2 * config.mosaic_tile, hws)
    if config.zoom_out > 0:
        ground = _drawn_ground(config, hws, rows("zoom out", _ZOOM_DRAWS))
        hws = np.where(ground[:, :1] > 0, ground[:, :2], hws)
    cropped = (draws[:, 2] < config.crop) & (hws.max(axis=1) <= _LONGEST * hws.min(axis=1))
    first_hw = resized_hws(hws, _one_of(config.crop_short_sides, draws[:, 3]), _NO_LIMIT)
    part = _drawn_part(config, first_hw, draws[:, 4:8])
    before = np.where(cropped[:, None], part[:, 2:], hws)
    resized_hw = resized_hws(before, _one_of(config.short_sides, draws[:, 8]), config.long_side)
    return AugmentedEpoch(
        config=config,
        order=np.argsort(draws[:, 0], kind="stable"),
        hw=np.tile(config.fixed_hw, (n, 1)) if config.fixed_hw else resized_hw,
        flipped=draws[:, 1] < config.flip,
        cropped=cropped,
        first_hw=first_hw,
        part=part,
        resized_hw=resized_hw,
        ground=ground,
        mosaic=mosaic,
        colour=colour,
    )


def _drawn_ground(
    config: AugmentationConfig, hws: Int[np.ndarray, "n 2"], draws: Float[np.ndarray, "n 4"]
) -> Int[np.ndarray, "n 4"]:
    """Height, width, top and left of each zoom-out; zeros for pictures that have none."""
    factors = 1 + (_FARTHEST - 1) * draws[:, 1:2]
    larger = (hws * factors).astype(hws.dtype)
    corners = _between(0, larger - hws, draws[:, 2:4])
    ground = np.concatenate([larger, corners], axis=1)
    return np.where(draws[:, :1] < config.zoom_out, ground, 0)


def _drawn_part(
    config: AugmentationConfig, hws: Int[np.ndarray, "n 2"], draws: Float[np.ndarray, "n 4"]
) -> Int[np.ndarray, "n 4"]:
    """Top, left, height and width of a part of each picture; no side is longer than the picture."""
    # The numbers stand for width, height, left and top, the reference's order.
    least, most = config.crop_sides
    most = np.minimum(most, hws)
    sides = _between(np.minimum(least, most), most, draws[:, [1, 0]])
    corners = _between(0, hws - sides, draws[:, [3, 2]])
    return np.concatenate([corners, sides], axis=1)


def _one_of(choices: tuple[int, ...], draws: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    return np.array(choices)[(draws * len(choices)).astype(int)]


def _between(
    least: Int[np.ndarray, "n 2"] | int, most: Int[np.ndarray, "n 2"], draws: np.ndarray
) -> Int[np.ndarray, "n 2"]:
    """Whole numbers, the last one included."""
    return least + (draws * (most - least + 1)).astype(int)


def _pair(numbers: Int[np.ndarray, " 2"]) -> tuple[int, int]:
    first, second = numbers.tolist()
    return first, second
