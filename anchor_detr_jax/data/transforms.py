"""Images as models want to see them; Pillow's pixels, as in the reference.

Source: AnchorDETR `datasets/transforms.py`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

__all__ = ["LONG_SIDE_SLACK", "open_rgb", "resize", "resized_hw", "upright_rgb"]

LONG_SIDE_SLACK = 10
"""Pixels by which rounding may take a long side over its limit."""


def open_rgb(path: str | Path, *, apply_exif_rotation: bool) -> Image.Image:
    """A file's picture in RGB.

    Raises:
        ValueError: if the file is no image, or a damaged one; it names the file.
        OSError: if it cannot be opened.
    """
    try:
        with Image.open(path) as image:
            return upright_rgb(image) if apply_exif_rotation else image.convert("RGB")
    except FileNotFoundError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a readable image ({error})") from None


def upright_rgb(image: Image.Image) -> Image.Image:
    """A picture in RGB, turned as its EXIF orientation says."""
    return ImageOps.exif_transpose(image).convert("RGB")


def resized_hw(hw: tuple[int, int], short_side: int, long_side: int) -> tuple[int, int]:
    """The size of an image whose short side goes to `short_side`, unless the long side forbids it.

    The reference's rounding, by which the long side can pass its limit a little. Only here it can
    pass it by `LONG_SIDE_SLACK` at most, and no side becomes 0: both concern images of more than
    20 to 1.
    """
    short, long = min(hw), max(hw)
    if short_side * long > long_side * short:
        short_side = round(long_side * short / long)
    if short == short_side:
        return hw
    short_side = max(short_side, 1)
    other = min(int(short_side * long / short), long_side + LONG_SIDE_SLACK)
    return (short_side, other) if hw[0] <= hw[1] else (other, short_side)


def resize(image: Image.Image, hw: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """Bilinear, averaging over what falls into a pixel when it shrinks."""
    if image.size != (hw[1], hw[0]):
        image = image.resize((hw[1], hw[0]), Image.Resampling.BILINEAR)
    return np.asarray(image)
