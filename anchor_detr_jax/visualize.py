"""Pictures of detections."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from anchor_detr_jax.data.image_source import open_source
from anchor_detr_jax.structures import Detections

__all__ = [
    "category_colour",
    "contact_sheet",
    "draw_beside",
    "draw_detections",
    "legible_scale",
]

_COLOURS = 128
"""Ids that differ by a multiple of this share a colour."""

_SMALLEST_FONT = 11

_GROUND, _ON_GROUND = (38, 38, 38), (230, 230, 230)
"""What pictures stand on, and what is written there."""


def category_colour(category_id: int) -> tuple[int, int, int]:
    """A category's colour, RGB: bright enough for black letters, and far from other categories'."""
    return _palette()[category_id % _COLOURS]


def legible_scale(size: tuple[int, int]) -> int:
    """By how much a tiny picture (width, height) is to be enlarged so that labels fit; else 1."""
    width, height = size
    wanted = round(400 / (width * height) ** 0.5)
    return max(1, min(wanted, 1600 // max(size)))


def draw_detections(
    image: UInt8[np.ndarray, "h w 3"] | Image.Image,
    detections: Detections,
    *,
    scale: int = 1,
    with_scores: bool = True,
) -> Image.Image:
    """A copy of `image` with its boxes, each with name and score.

    Lines run around what they frame and not over it, except at the picture's border. Labels stand
    where they hide as little as possible of other labels and boxes; one that would have to hide a
    better detection's label, or that is larger than the picture, is left off.

    Args:
        image: RGB pixels, or a picture of Pillow, which is turned upright by its EXIF orientation
            as `Detector.predict` does.
        detections: what was found in it.
        scale: draw on the picture enlarged by this; `legible_scale` says what suits tiny ones.
        with_scores: False where scores say nothing, as of the ground truth.
    """
    picture = open_source(image)
    if scale > 1:
        size = (picture.width * scale, picture.height * scale)
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    boxes = scale * detections.boxes.astype(np.float64)
    colours = [category_colour(label) for label in detections.labels.tolist()]
    texts = detections.names
    if with_scores:
        found = zip(texts, detections.scores.tolist(), strict=True)
        texts = [f"{name} {score:.2f}" for name, score in found]
    draw = ImageDraw.Draw(picture)
    side = (picture.width * picture.height) ** 0.5
    line = max(1, min(2, round(side / 100)), round(side / 270))
    for box, colour in reversed(list(zip(boxes, colours, strict=True))):
        _draw_box(draw, box, colour, line)
    _draw_labels(draw, texts, boxes, colours, line)
    return picture


def draw_beside(picture: Image.Image, truth: Detections, found: Detections) -> Image.Image:
    """Two drawings of a picture side by side: what is in it, and what was found.

    A tiny picture is enlarged by `legible_scale`.

    Args:
        picture: with its pixels as they are stored, which is what a data set's boxes belong to: an
            EXIF orientation is not looked at.
        truth: drawn without scores.
        found: drawn with scores; choose the good ones before.
    """
    pixels, scale = np.array(picture.convert("RGB")), legible_scale(picture.size)
    halves = {
        "ground truth": draw_detections(pixels, truth, scale=scale, with_scores=False),
        "found": draw_detections(pixels, found, scale=scale),
    }
    width, height = halves["found"].size
    size = _font_size(width, height) + 2
    gap, band = max(4, width // 100), 2 * size
    both = Image.new("RGB", (2 * width + gap, band + height), _GROUND)
    draw, font = ImageDraw.Draw(both), ImageFont.load_default(size)
    for i, (caption, half) in enumerate(halves.items()):
        left = i * (width + gap)
        both.paste(half, (left, band))
        at = (left + size // 2, band // 2)
        draw.text(at, caption, fill=_ON_GROUND, font=font, anchor="lm")
    return both


def contact_sheet(pictures: Sequence[Image.Image], *, columns: int, width: int) -> Image.Image:
    """Pictures in rows, all as wide as a column, on a dark ground.

    A row is as high as its highest picture; all hang from its upper edge.

    Args:
        pictures: in reading order.
        columns: how many stand in a row.
        width: of the sheet, in pixels.

    Raises:
        ValueError: if there are no pictures, no columns, or less than a pixel for a column.
    """
    if not pictures or columns < 1:
        raise ValueError(
            f"{len(pictures)} pictures in {columns} columns, expected at least 1 of each"
        )
    gap = max(2, width // 150)
    cell = (width - (columns + 1) * gap) // columns
    if cell < 1:
        raise ValueError(f"width is {width}, too little for {columns} columns {gap} pixels apart")
    scaled = [_as_wide_as(cell, picture) for picture in pictures]
    rows = [scaled[i : i + columns] for i in range(0, len(scaled), columns)]
    heights = [max(picture.height for picture in row) for row in rows]
    sheet = Image.new("RGB", (width, sum(heights) + (len(rows) + 1) * gap), _GROUND)
    left, top = (width - columns * cell - (columns - 1) * gap) // 2, gap
    for row, height in zip(rows, heights, strict=True):
        for i, picture in enumerate(row):
            sheet.paste(picture, (left + i * (cell + gap), top))
        top += height + gap
    return sheet


def _as_wide_as(width: int, picture: Image.Image) -> Image.Image:
    height = max(1, round(picture.height * width / picture.width))
    return picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)


def _draw_box(draw: ImageDraw.ImageDraw, box, colour: tuple[int, int, int], line: int) -> None:
    """A line around the box, and around that a thin black one, for pictures as bright as it."""
    width, height = draw.im.size
    edge = max(1, line // 3)
    x1, y1 = np.floor(box[:2]).clip(0, (width - 1, height - 1)).astype(int).tolist()
    x2, y2 = np.ceil(box[2:]).clip((x1 + 1, y1 + 1), (width, height)).astype(int).tolist()
    for outwards, thickness, ink in [(line + edge, edge, "black"), (line, line, colour)]:
        corner = max(x1 - outwards, 0), max(y1 - outwards, 0)
        opposite = min(x2 + outwards, width) - 1, min(y2 + outwards, height) - 1
        draw.rectangle((*corner, *opposite), outline=ink, width=thickness)


def _draw_labels(draw: ImageDraw.ImageDraw, texts: list[str], boxes, colours, line: int) -> None:
    """The best detections choose their labels' places first."""
    width, height = draw.im.size
    font = ImageFont.load_default(_font_size(width, height))
    _, top, _, bottom = draw.textbbox((0, 0), "Ág", font=font)
    margin = max(2, line)
    taken = np.zeros((0, 4))
    for text, box, colour in zip(texts, boxes, colours, strict=True):
        size = np.ceil([draw.textlength(text, font=font) + 2 * margin, bottom - top + margin])
        place = _place(size, box, boxes, taken, (width, height), line)
        if place is None:
            continue
        taken = np.concatenate([taken, place[None]])
        draw.rectangle((*place[:2], *(place[2:] - 1)), fill=colour)
        at = (place[0] + margin, place[1] + margin // 2 - top)
        draw.text(at, text, fill="black", font=font)


def _font_size(width: int, height: int) -> int:
    return max(_SMALLEST_FONT, round((width * height) ** 0.5 / 42))


def _place(size, box, boxes, taken, picture_size, line: int) -> Float[np.ndarray, " 4"] | None:
    """Where a label of this size hides least; None: nowhere at its box without hiding another."""
    if (size > picture_size).any():
        return None
    limits = np.array([*picture_size, *picture_size])
    places = _places_at(box, size, line)
    inside = places[:, :2].clip(0, limits[:2] - size).round()
    places = np.concatenate([inside, inside + size], axis=1)
    around = box.clip(0, limits) + 2 * line * np.array([-1, -1, 1, 1])
    detached = _overlap(places, around[None])[:, 0] == 0
    hidden = _overlap(places, taken).sum(axis=1)
    frames = boxes.clip(0, limits)
    covered = _overlap(places, frames) / _areas(frames).clip(1)
    # The order of the places is the order of taste.
    cost = covered.sum(axis=1) + 0.02 * np.arange(len(places))
    cost[detached | (hidden > 0)] = np.inf
    best = int(cost.argmin())
    return places[best] if cost[best] < np.inf else None


def _places_at(box, size, line: int) -> Float[np.ndarray, "places 4"]:
    """Where a label may stand at its box: above, below, beside it, and down its inner left side."""
    (x1, y1, x2, y2), (width, height) = box, size
    left, right = x1 - line, x2 + line - width
    above, below = y1 - line - height, y2 + line
    corners = [(left, above), (x1, y1), (left, below), (right, above), (right, below)]
    corners += [(x2 + line, y1), (x1 - line - width, y1), (x2 + line, below - height)]
    corners += [(x1, y2 - height), (x2 - width, y1), (x2 - width, y2 - height)]
    corners += [(x1, y1 + step * height) for step in (1, 2, 3)]
    return np.concatenate([corners, np.add(corners, size)], axis=1)


def _areas(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
    return np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)


def _overlap(
    some: Float[np.ndarray, "a 4"], others: Float[np.ndarray, "b 4"]
) -> Float[np.ndarray, "a b"]:
    """Areas that two sets of boxes (x1, y1, x2, y2) share."""
    corner = np.maximum(some[:, None, :2], others[None, :, :2])
    opposite = np.minimum(some[:, None, 2:], others[None, :, 2:])
    return np.prod((opposite - corner).clip(0), axis=-1)


@cache
def _palette() -> list[tuple[int, int, int]]:
    """Bright colours, each as far as can be from all before it."""
    steps = np.linspace(0, 255, 18).round()
    rgb = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = _oklab(rgb)
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    fit = (lab[:, 0] > 0.65) & (chroma > 0.12) & (chroma < 0.25)  # neither dark, grey nor glaring
    rgb, lab = rgb[fit], lab[fit] * (0.6, 1, 1)  # a difference in hue counts more
    chosen = [int(chroma[fit].argmax())]
    distance = np.full(len(lab), np.inf)
    for _ in range(_COLOURS - 1):
        distance = np.minimum(distance, np.linalg.norm(lab - lab[chosen[-1]], axis=1))
        chosen.append(int(distance.argmax()))
    return [(int(r), int(g), int(b)) for r, g, b in rgb[chosen]]


def _oklab(rgb: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Lightness and two axes of colour, in which distances are as they are seen.

    Source: B. Ottosson, "A perceptual color space for image processing", 2020.
    """
    share = rgb / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    cones = linear @ np.array(
        [
            [0.4122214708, 0.2119034982, 0.0883024619],
            [0.5363325363, 0.6806995451, 0.2817188376],
            [0.0514459929, 0.1073969566, 0.6299787005],
        ]
    )
    return np.cbrt(cones) @ np.array(
        [
            [0.2104542553, 1.9779984951, 0.0259040371],
            [0.7936177850, -2.4285922050, 0.7827717662],
            [-0.0040720468, 0.4505937099, -0.8086757660],
        ]
    )
