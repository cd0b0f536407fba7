"""A data set made up: circles, squares and triangles on striped, noisy grounds.

It is learned in minutes, and made in seconds; for trying things out where COCO is not at hand.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

__all__ = ["SHAPES", "make_shapes"]

SHAPES = ("circle", "square", "triangle")
"""The categories; their ids are 1, 2 and 3."""

_SMALLEST = 32
"""Side of a picture, in pixels, in which the smallest shapes can still be told apart."""

_MOST_SHAPES, _TRIES = 4, 20
_PERIODS = 6.0, 24.0
"""Of the stripes, in pixels."""

_STRIPES, _NOISE, _CONTRAST = 32, 24, 96
"""Levels by which a ground's stripes and its noise go up and down, and its shapes stand out."""


def make_shapes(folder: str | Path, *, train: int, val: int, size: int = 96, seed: int = 0) -> None:
    """Write a data set in COCO's layout, with the splits `train2017` and `val2017`.

    A picture has 1 to 4 shapes, whose boxes do not overlap; a box is exactly around
    its shape's pixels, and its area is their number. A picture follows from `size`, `seed`, its
    split and its number in it, so that a longer data set begins with the shorter one. The folder
    appears when it is complete.

    Args:
        folder: to write; its parents are made.
        train: pictures to learn from.
        val: pictures to measure on.
        size: height and width of the pictures in pixels.
        seed: of everything.

    Raises:
        ValueError: for a split without pictures, or pictures that are too small.
        FileExistsError: if there is something of this name.
    """
    for name, value, least in (("train", train, 1), ("val", val, 1), ("size", size, _SMALLEST)):
        if value < least:
            raise ValueError(f"{name} is {value}, and must be at least {least}")
    with _appears_complete(Path(folder)) as root:
        (root / "annotations").mkdir()
        for number, (split, count) in enumerate({"train2017": train, "val2017": val}.items()):
            (root / split).mkdir()
            content = _write_split(root / split, count, size=size, key=(seed, number))
            file = root / "annotations" / f"instances_{split}.json"
            file.write_text(json.dumps(content), encoding="utf-8")


@contextmanager
def _appears_complete(folder: Path) -> Iterator[Path]:
    """A folder beside the wanted one, which takes its name at the end; it goes if that fails."""
    folder = folder.absolute()
    if folder.exists():
        raise FileExistsError(f"{folder} exists; choose another folder or remove it first")
    filling = folder.with_name(f".{folder.name}.{os.getpid()}")
    filling.mkdir(parents=True)
    try:
        yield filling
        filling.rename(folder)
    finally:
        shutil.rmtree(filling, ignore_errors=True)


def _write_split(folder: Path, count: int, *, size: int, key: tuple[int, int]) -> dict[str, Any]:
    """Write the pictures; returns what the annotation file says of them."""
    images, annotations = [], []
    for i in range(count):
        pixels, shapes = _picture(np.random.default_rng((*key, i)), size)
        name = f"{i + 1:06d}.png"
        Image.fromarray(pixels).save(folder / name, compress_level=1)
        images.append({"id": i + 1, "file_name": name, "width": size, "height": size})
        for shape in shapes:
            annotations.append(
                {"id": len(annotations) + 1, "image_id": i + 1, "iscrowd": 0, **shape}
            )
    categories = [{"id": i, "name": name} for i, name in enumerate(SHAPES, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _picture(
    rng: np.random.Generator, size: int
) -> tuple[UInt8[np.ndarray, "size size 3"], list[dict[str, Any]]]:
    """A picture, with category, box [x, y, w, h] and area of each shape in it."""
    colour = rng.uniform(_STRIPES + _NOISE, 255 - _STRIPES - _NOISE, 3)
    pixels = _ground(rng, size, colour)
    taken = np.zeros((size, size), bool)
    shapes = []
    for _ in range(rng.integers(1, _MOST_SHAPES + 1)):
        category = int(rng.integers(len(SHAPES)))
        mask = _mask(SHAPES[category], int(rng.integers(size // 6, size * 4 // 9)))
        place = _free_place(rng, taken, mask.shape)
        if place is None:
            continue
        y, x = place
        h, w = mask.shape
        taken[y : y + h, x : x + w] = True
        pixels[y : y + h, x : x + w][mask] = _contrasting(rng, colour)
        area = int(mask.sum())
        shapes.append({"category_id": category + 1, "bbox": [x, y, w, h], "area": area})
    return pixels, shapes


def _ground(
    rng: np.random.Generator, size: int, colour: Float[np.ndarray, " 3"]
) -> UInt8[np.ndarray, "size size 3"]:
    """Stripes about a colour, with noise."""
    angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    along = np.arange(size) * 2 * np.pi / rng.uniform(*_PERIODS)
    wave = np.sin(along[:, None] * np.sin(angle) + along * np.cos(angle) + phase)
    stripes = wave[..., None] * rng.uniform(-_STRIPES, _STRIPES, 3)
    noise = rng.integers(-_NOISE, _NOISE + 1, (size, size, 3))
    return np.clip(colour + stripes + noise, 0, 255).astype(np.uint8)


def _mask(shape: str, side: int) -> Bool[np.ndarray, "h w"]:
    """True on the pixels of a shape that fills a square of this side, without empty borders."""
    at = (2 * np.arange(side) + 1) / side - 1
    x, y = at, at[:, None]
    if shape == "circle":
        mask = x**2 + y**2 <= 1
    elif shape == "square":
        mask = np.ones((side, side), bool)
    else:
        mask = np.abs(x) <= (1 + y) / 2
    return mask[mask.any(1)][:, mask.any(0)]


def _free_place(
    rng: np.random.Generator, taken: Bool[np.ndarray, "size size"], hw: tuple[int, int]
) -> tuple[int, int] | None:
    """Top and left of a place for a shape that no other has; None if it is not soon found."""
    for _ in range(_TRIES):
        y, x = (int(rng.integers(len(taken) - side + 1)) for side in hw)
        if not taken[y : y + hw[0], x : x + hw[1]].any():
            return y, x
    return None


def _contrasting(
    rng: np.random.Generator, ground: Float[np.ndarray, " 3"]
) -> UInt8[np.ndarray, " 3"]:
    """A colour that is far from the ground's in some channel."""
    while True:
        colour = rng.integers(0, 256, 3)
        if np.abs(colour - ground).max() >= _CONTRAST:
            return colour.astype(np.uint8)
