"""Four pictures in one.

Source: csm-kr/detr_pytorch, `datasets/transforms.py`, with boxes clipped before they are tested.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from anchor_detr_jax.data.pixel_boxes import clipped_xyxy, has_area
from anchor_detr_jax.data.steps import Crop, Resize, Sample
from anchor_detr_jax.data.transforms import resized_hw

__all__ = ["MOSAIC_DRAWS", "TILES", "Mosaic", "Tile", "drawn_tiles"]

TILES = 4

_CROP = 0.5
"""Probability that a tile shows a part of its picture, and the share of a box that it must show."""

_OTHERS = TILES - 1
_TILE_DRAWS = 5
MOSAIC_DRAWS = _OTHERS + TILES * _TILE_DRAWS
"""Numbers that the tiles of a mosaic are drawn from."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One of the four.

    Attributes:
        index: which picture it shows.
        part: which part of it: four numbers in [0, 1) that height, width, top and left follow from
            once the picture's size is known; None: all of it.
    """

    index: int
    part: tuple[float, float, float, float] | None

    def shown(self, sample: Sample) -> Sample:
        """The part of the picture, with the boxes of which more than half is in it.

        All of the picture, if no box would be left.
        """
        if self.part is None:
            return sample
        height, width, top, left = self.part
        region_h = _from_half(sample.image.height, height)
        region_w = _from_half(sample.image.width, width)
        top = int(top * (sample.image.height - region_h + 1))
        left = int(left * (sample.image.width - region_w + 1))
        cropped = Crop(top, left, region_h, region_w, least_share=_CROP)(sample)
        return cropped if len(cropped.labels) else sample


@dataclass(frozen=True, slots=True)
class Mosaic:
    """Four pictures, each as a square tile: top left, top right, bottom left, bottom right.

    Attributes:
        tiles: what they show.
        side: of a tile, in pixels.
        short_side, long_side: what a picture is resized to before a part of it is taken.
    """

    tiles: tuple[Tile, ...]
    side: int
    short_side: int
    long_side: int

    def __call__(self, read: Callable[[int], Sample]) -> Sample:
        """The four in one picture, given how to read one of them."""
        canvas = Image.new("RGB", (2 * self.side, 2 * self.side))
        boxes, labels = [], []
        for place, tile in enumerate(self.tiles):
            sample = self._tile(tile, read(tile.index))
            left, top = place % 2 * self.side, place // 2 * self.side
            canvas.paste(sample.image, (left, top))
            boxes.append(sample.boxes_xyxy_px + np.array([left, top] * 2, np.float32))
            labels.append(sample.labels)
        boxes, labels = np.concatenate(boxes), np.concatenate(labels)
        kept = has_area(boxes)
        return Sample(canvas, boxes[kept], labels[kept])

    def _tile(self, tile: Tile, sample: Sample) -> Sample:
        hw = (sample.image.height, sample.image.width)
        sample = tile.shown(Resize(resized_hw(hw, self.short_side, self.long_side))(sample))
        square = (self.side, self.side)
        sample = Resize(square)(sample)
        return Sample(sample.image, clipped_xyxy(sample.boxes_xyxy_px, square), sample.labels)


def drawn_tiles(index: int, count: int, draws: Sequence[float]) -> tuple[Tile, ...]:
    """The tiles of a mosaic, from `MOSAIC_DRAWS` numbers in [0, 1).

    The first is picture `index`; the others are any of `count`, whichever have come already.
    """
    indices = [index, *(int(draw * count) for draw in draws[:_OTHERS])]
    tiles = []
    for place, shown in enumerate(indices):
        first = _OTHERS + place * _TILE_DRAWS
        crop, height, width, top, left = draws[first : first + _TILE_DRAWS]
        tiles.append(Tile(shown, (height, width, top, left) if crop < _CROP else None))
    return tuple(tiles)


def _from_half(length: int, draw: float) -> int:
    """A whole number from half a length up to all of it, at least 1."""
    least = max(length // 2, 1)
    return least + int(draw * (length - least + 1))
