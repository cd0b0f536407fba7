"""Images as models want to see them; Pillow's pixels, as in the reference.

Source: AnchorDETR `datasets/transforms.py`.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

__all__ = ["LONG_SIDE_SLACK", "open_rgb", "resize", "resized_hw", "upright_rgb"]

LONG_SIDE_SLACK = 10
"""Pixels by which rounding may take a long side over its limit."""

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What each EXIF orientation but the upright one asks for."""


def open_rgb(
    file: str | Path | io.BytesIO, *, apply_exif_rotation: bool, name: str | None = None
) -> Image.Image:
    """A file's picture in 8-bit RGB; the first one of an animation.

    Errors call an open file by its `name`.

    Pictures of 8 bits or less become what Pillow's `convert("RGB")` makes of them, as in the
    reference: what is transparent shows the colour that is stored under it. 16-bit grey is scaled
    to 8 bits; 32-bit integers and floats by the first of 1 (floats only), 255 and 65535 that none
    of their values passes, else by the largest value.

    Raises:
        ValueError: if the file is no image, a damaged one, or one of more pixels than
            `PIL.Image.MAX_IMAGE_PIXELS`; it names the file.
        FileNotFoundError: if there is none.
    """
    try:
        with Image.open(file) as image:
            _check_size(image)
            return upright_rgb(image) if apply_exif_rotation else _in_rgb(image)
    except FileNotFoundError:
        raise
    except Exception as error:  # on damaged files, decoders raise what they like
        raise ValueError(f"{name or file}: not a readable image ({_reason(error)})") from None


def upright_rgb(image: Image.Image) -> Image.Image:
    """A picture in 8-bit RGB, as by `open_rgb`, turned as its EXIF orientation says.

    Raises:
        ValueError: for a picture without pixels.
        OSError: for one whose file turns out to be damaged when it is decoded.
    """
    image.load()
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF, which says nothing of the pixels
        turn = None
    return _in_rgb(image if turn is None else image.transpose(turn))


def _in_rgb(image: Image.Image) -> Image.Image:
    if 0 in image.size:
        raise ValueError(f"the picture is {image.width}x{image.height} pixels, expected some")
    if image.mode.startswith("I;16"):
        image = _in_8_bits(np.asarray(image), full_scales=(65535,))
    elif image.mode == "I":
        image = _in_8_bits(np.asarray(image), full_scales=(255, 65535))
    elif image.mode == "F":
        image = _in_8_bits(np.asarray(image), full_scales=(1, 255, 65535))
    elif image.mode == "La":
        image = image.convert("LA")
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # the same colours; without this step Pillow warns
    image = image.convert("RGB")
    # The pixels are upright and opaque now, and must not be taken for anything else later.
    image.info.clear()
    return image


def _in_8_bits(values: np.ndarray, *, full_scales: tuple[int, ...]) -> Image.Image:
    """Grey values scaled by the first of these that holds them all, else by the largest."""
    finite = values[np.isfinite(values)]
    largest = float(finite.max(initial=0))
    white = next((scale for scale in full_scales if largest <= scale), largest)
    scaled = np.nan_to_num(values / white, nan=0.0, posinf=1.0, neginf=0.0)
    return Image.fromarray(np.rint(255 * scaled.clip(0, 1)).astype(np.uint8))


def _check_size(image: Image.Image) -> None:
    """Pillow itself refuses at twice its limit only, and warns from the limit on."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise Image.DecompressionBombError(f"{image.width}x{image.height}")


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return (
            f"more than {Image.MAX_IMAGE_PIXELS} pixels, which fill the memory; if that is meant, "
            "raise PIL.Image.MAX_IMAGE_PIXELS"
        )
    if isinstance(error, UnidentifiedImageError):
        return "of no format that Pillow knows"
    return str(error) or type(error).__name__


def resized_hw(hw: tuple[int, int], short_side: int, long_side: int) -> tuple[int, int]:
    """The size of an image whose short side goes to `short_side`, unless the long side forbids it.

    The reference's rounding, by which the long side can pass its limit a little. Only here it can
    pass it by `LONG_SIDE_SLACK` at most, and no side becomes 0: both concern images of more than
    20 to 1.
    """
    short, long = min(hw), max(hw)
    if short_side * long > long_side * short:
        short_side = round(long_side * short / long)
    longest = long_side + LONG_SIDE_SLACK
    if short == short_side and long <= longest:
        return hw
    short_side = max(short_side, 1)
    other = min(int(short_side * long / short), longest)
    return (short_side, other) if hw[0] <= hw[1] else (other, short_side)


def resize(image: Image.Image, hw: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """Bilinear, averaging over what falls into a pixel when it shrinks."""
    if image.size != (hw[1], hw[0]):
        image = image.resize((hw[1], hw[0]), Image.Resampling.BILINEAR)
    return np.asarray(image)
