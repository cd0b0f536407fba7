"""Pictures of detections."""

from __future__ import annotations

import colorsys

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from anchor_detr_jax.structures import Detections

__all__ = ["category_colour", "draw_detections"]

_GOLDEN_RATIO = 0.6180339887


def category_colour(category_id: int) -> tuple[int, int, int]:
    """A category's colour, RGB; neighbouring ids are far apart."""
    hue = (category_id * _GOLDEN_RATIO) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_detections(
    image: UInt8[np.ndarray, "h w 3"] | Image.Image, detections: Detections
) -> Image.Image:
    """A copy of `image` with its boxes, each with name and score, the best on top."""
    picture = image.copy() if isinstance(image, Image.Image) else Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    line = max(2, round(max(picture.size) / 400))
    font = ImageFont.load_default(size=max(11, round(max(picture.size) / 50)))
    found = zip(
        detections.boxes.tolist(),
        detections.scores.tolist(),
        detections.labels.tolist(),
        detections.names,
        strict=True,
    )
    for box, score, label, name in reversed(list(found)):
        colour = category_colour(label)
        draw.rectangle(box, outline=colour, width=line)
        _draw_label(draw, f"{name} {score:.2f}", box, colour, font)
    return picture


def _draw_label(draw: ImageDraw.ImageDraw, text: str, box, colour, font) -> None:
    """Text on its colour, above the box where there is room, and always inside the picture."""
    picture_width, picture_height = draw.im.size
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    margin = 2
    width, height = right - left + 2 * margin, bottom - top + 2 * margin
    x = min(max(box[0], 0), max(picture_width - width, 0))
    above = box[1] - height
    y = min(above if above >= 0 else max(box[1], 0), max(picture_height - height, 0))
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    brightness = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    ink = "black" if brightness > 128 else "white"
    draw.text((x + margin - left, y + margin - top), text, fill=ink, font=font)
