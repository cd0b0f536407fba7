"""Whatever people hand in as an image, opened and made ready for a batch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from anchor_detr_jax.data.batching import PreparedImage, in_threads, prepare
from anchor_detr_jax.data.image_size import ImageSize
from anchor_detr_jax.data.transforms import open_rgb, upright_rgb

__all__ = ["ImageSource", "check_request", "checked_pixels", "open_source", "prepared_sources"]

ImageSource = str | Path | Image.Image | np.ndarray
"""A file, a picture of Pillow, or RGB pixels: uint8 [h, w, 3]."""


_DECODING = threading.Lock()
"""Pillow decodes on demand, and one picture may be asked for twice at the same time."""


def check_request(threshold: float, top_k: int, batch_size: int | None) -> None:
    """See that what is asked of a prediction can be meant.

    Raises:
        ValueError: if it cannot; nothing would be found, without a word.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}, expected a score from 0 to 1")
    for name, number in {"top_k": top_k, "batch_size": batch_size}.items():
        if number is not None and number < 1:
            raise ValueError(f"{name} is {number}, expected at least 1")


def prepared_sources(
    numbered: Iterable[tuple[int, ImageSource]],
    size: ImageSize,
    *,
    ahead: int,
    on_error: Callable[[int, Exception], object] | None = None,
) -> Iterator[PreparedImage]:
    """Images, opened and resized in threads, at most `ahead` of the consumer; in order.

    Args:
        numbered: each with the number that stands for it.
        size: what they are resized to.
        ahead: how many are made ready before they are asked for.
        on_error: called with number and error of each one that cannot be read, which is left out.
            None: the error is raised; it names the file, or the number.
    """

    def prepared(item: tuple[int, ImageSource]) -> PreparedImage | _Unreadable:
        index, source = item
        try:
            return prepare(index, _numbered(index, source), size)
        except (ValueError, OSError) as error:
            return _Unreadable(index, error)

    for image in in_threads(prepared, numbered, ahead=ahead):
        if isinstance(image, PreparedImage):
            yield image
        elif on_error is None:
            raise image.error
        else:
            on_error(image.index, image.error)


@dataclass(frozen=True)
class _Unreadable:
    index: int
    error: Exception


def _numbered(index: int, source: ImageSource) -> Image.Image:
    try:
        return open_source(source)
    except Exception as error:
        if isinstance(source, str | Path):
            raise  # it names the file
        raise ValueError(f"image {index}: {error}") from None


def open_source(source: ImageSource) -> Image.Image:
    """The picture in 8-bit RGB; files and pictures of Pillow upright by their EXIF orientation.

    Raises:
        ValueError: for what is no image, or a damaged file, which it names.
        FileNotFoundError: for a file that is not there.
    """
    if isinstance(source, str | Path):
        return open_rgb(source, apply_exif_rotation=True)
    if isinstance(source, Image.Image):
        with _DECODING:
            return upright_rgb(source)
    return Image.fromarray(checked_pixels(source))


def checked_pixels(image: Any) -> UInt8[np.ndarray, "h w 3"]:
    """The same array.

    Raises:
        ValueError: for anything but pixels of a colour picture; it says what came.
    """
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        *size, channels = image.shape or (0,)
        if len(size) == 2 and channels == 3 and image.size:
            return image
    came = f"{image.dtype}{list(image.shape)}" if hasattr(image, "shape") else type(image).__name__
    raise ValueError(
        f"an image must be a numpy array, uint8 RGB [height, width, 3]; this is {came}"
    )
