"""What augmentation does to a picture and its boxes, one step at a time.

Each step is a frozen dataclass, drawn before any picture is decoded, and called with the sample.
Source: AnchorDETR `datasets/transforms.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from PIL import Image, ImageOps, ImageStat

from anchor_detr_jax.data.pixel_boxes import clipped_xyxy, has_area

__all__ = ["Crop", "Flip", "Resize", "Sample", "Step", "ZoomOut"]


@dataclass(frozen=True)
class Sample:
    """A picture with what there is to find in it.

    Attributes:
        image: RGB.
        boxes_xyxy_px: corners in pixels of the picture.
        labels: columns of the logits.
    """

    image: Image.Image
    boxes_xyxy_px: Float[np.ndarray, "k 4"]
    labels: Int[np.ndarray, " k"]


Step = Callable[[Sample], Sample]


@dataclass(frozen=True, slots=True)
class Flip:
    """Left becomes right."""

    def __call__(self, sample: Sample) -> Sample:
        """Mirror the picture and its boxes."""
        width = sample.image.width
        x1, y1, x2, y2 = sample.boxes_xyxy_px.T
        boxes = np.stack([width - x2, y1, width - x1, y2], axis=1)
        return Sample(ImageOps.mirror(sample.image), boxes, sample.labels)


@dataclass(frozen=True, slots=True)
class Resize:
    """To this height and width, whatever the aspect was; bilinear, as `transforms.resize`."""

    hw: tuple[int, int]

    def __call__(self, sample: Sample) -> Sample:
        """Scale the picture and its boxes."""
        image, (height, width) = sample.image, self.hw
        if image.size == (width, height):
            return sample
        ratio_x, ratio_y = width / image.width, height / image.height
        ratios = np.array([ratio_x, ratio_y, ratio_x, ratio_y], np.float32)
        resized = image.resize((width, height), Image.Resampling.BILINEAR)
        return Sample(resized, sample.boxes_xyxy_px * ratios, sample.labels)


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of the picture; boxes are clipped to it, and those of which nothing is left dropped.

    Attributes:
        top, left, height, width: the part, in pixels.
        least_share: boxes of whose area this share or less is left are dropped, too.
    """

    top: int
    left: int
    height: int
    width: int
    least_share: float = 0.0

    def __call__(self, sample: Sample) -> Sample:
        """Cut the part out."""
        corner = np.array([self.left, self.top] * 2, np.float32)
        boxes = clipped_xyxy(sample.boxes_xyxy_px - corner, (self.height, self.width))
        kept = has_area(boxes)
        if self.least_share > 0:
            kept &= _area(boxes) > self.least_share * _area(sample.boxes_xyxy_px)
        part = (self.left, self.top, self.left + self.width, self.top + self.height)
        return Sample(sample.image.crop(part), boxes[kept], sample.labels[kept])


@dataclass(frozen=True, slots=True)
class ZoomOut:
    """The picture as a part of a larger one, which is of its median colour all around.

    Attributes:
        height, width: of the larger one, in pixels.
        top, left: where the picture is in it.
    """

    height: int
    width: int
    top: int
    left: int

    def __call__(self, sample: Sample) -> Sample:
        """Lay the picture on the larger ground."""
        colour = tuple(round(level) for level in ImageStat.Stat(sample.image).median)
        ground = Image.new("RGB", (self.width, self.height), colour)
        ground.paste(sample.image, (self.left, self.top))
        corner = np.array([self.left, self.top] * 2, np.float32)
        return Sample(ground, sample.boxes_xyxy_px + corner, sample.labels)


def _area(boxes_xyxy: Float[np.ndarray, "k 4"]) -> Float[np.ndarray, " k"]:
    return np.prod(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], axis=1)
