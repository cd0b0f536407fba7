"""What the pictures' files themselves say: size, format, EXIF orientation, and how they look."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from anchor_detr_jax.data.batching import in_threads
from anchor_detr_jax.data.formats.records import PictureRecord
from anchor_detr_jax.data.transforms import open_rgb

__all__ = ["PictureFacts", "examined", "picture_hw"]

_ORIENTATION = 0x0112

_LOOK_SIDE = 16
"""Of the grid of brightness differences that tells how a picture looks: 256 bits."""

_LEAST_CONTRAST = 4.0
"""Levels of grey below which a picture, made small, shows nothing to compare."""


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """A picture's file.

    Attributes:
        hw: height and width as they are stored, before any EXIF rotation; None if unreadable.
        mode: Pillow's name of its colours.
        format: Pillow's name of its format.
        orientation: by its EXIF tag; 1 is upright.
        pixels: a number that only pictures of the same pixels have; b"" where not decoded.
        look: 32 bytes of which similar pictures have nearly all bits in common; b"" where not
            decoded, or nothing is to be seen.
        fault: the kind of finding that keeps it from being used; "" if it can be.
        message: of that fault.
    """

    hw: tuple[int, int] | None = None
    mode: str = ""
    format: str = ""
    orientation: int = 1
    pixels: bytes = b""
    look: bytes = b""
    fault: str = ""
    message: str = ""


def picture_hw(picture: PictureRecord, facts: PictureFacts) -> tuple[int, int] | None:
    """The size of a picture by its file or, where that cannot be read, by its annotations."""
    return facts.hw or picture.declared_hw or picture.header_hw


def examined(pictures: Sequence[PictureRecord], *, decode: bool) -> Iterator[PictureFacts]:
    """The facts of each picture, in order, gathered by as many threads as there are cores.

    Args:
        pictures: to look at.
        decode: decode every pixel; otherwise headers are read alone.
    """
    # Pillow warns of what is reported here; a warning is a matter of the whole process.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield from in_threads(
            lambda picture: _examine(picture, decode=decode),
            pictures,
            threads=os.cpu_count() or 1,
            ahead=64,
        )


def _examine(picture: PictureRecord, *, decode: bool) -> PictureFacts:
    try:
        return _facts(_source(picture, whole=decode), str(picture.path), decode=decode)
    except FileNotFoundError:
        return _faulty("missing picture", f"there is no file {picture.path}")
    except EOFError:
        return _faulty("empty file", f"{picture.path} has no bytes")
    except UnidentifiedImageError:
        return _faulty("no picture", f"{picture.path} is of no format that Pillow knows")
    except Exception as error:  # on damaged files, decoders raise what they like
        reason = str(error) or type(error).__name__
        name = "" if str(picture.path) in reason else f"{picture.path}: "
        return _faulty("damaged picture", f"{name}{reason}")


def _faulty(kind: str, message: str) -> PictureFacts:
    return PictureFacts(fault=kind, message=message)


def _source(picture: PictureRecord, *, whole: bool) -> Path | io.BytesIO:
    """What Pillow is to open; headers alone are read from the file itself.

    Raises:
        EOFError: if there is nothing in it.
    """
    if picture.encoded is None and not whole:
        if not picture.path.stat().st_size:
            raise EOFError
        return picture.path
    encoded = picture.encoded() if picture.encoded else picture.path.read_bytes()
    if not encoded:
        raise EOFError
    return io.BytesIO(encoded)


def _facts(source: Path | io.BytesIO, name: str, *, decode: bool) -> PictureFacts:
    with Image.open(source) as image:
        hw, mode, kind = (image.height, image.width), image.mode, image.format or ""
        orientation = _orientation(image)
    if not decode:
        return PictureFacts(hw, mode, kind, orientation)
    # As training reads it, so that what it cannot read is found here.
    rgb = open_rgb(source, apply_exif_rotation=False, name=name)
    digest = hashlib.blake2b(repr(rgb.size).encode(), digest_size=16)
    digest.update(rgb.tobytes())
    return PictureFacts(hw, mode, kind, orientation, digest.digest(), _look(rgb))


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF, which says nothing of the pixels
        return 1
    return found if found in range(1, 9) else 1


def _look(rgb: Image.Image) -> bytes:
    """Where, on a small grid, it grows brighter to the right (N. Krawetz's "dHash", 2013)."""
    size = (_LOOK_SIDE + 1, _LOOK_SIDE)
    grey = np.asarray(rgb.convert("L").resize(size, Image.Resampling.BILINEAR), np.int16)
    if grey.std() < _LEAST_CONTRAST:
        return b""
    return np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes()
