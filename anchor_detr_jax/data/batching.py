"""Images of any sizes to batches of few sizes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from anchor_detr_jax.data.buckets import smallest_bucket
from anchor_detr_jax.data.image_size import ImageSize
from anchor_detr_jax.data.transforms import resize
from anchor_detr_jax.structures import Images

__all__ = ["Batch", "PreparedImage", "bucketed_batches", "in_threads", "pad_images", "prepare"]

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class PreparedImage:
    """An image as the model will see it.

    Attributes:
        index: which one it is among those asked for.
        pixels: RGB, resized.
        original_hw: its size before.
    """

    index: int
    pixels: UInt8[np.ndarray, "h w 3"]
    original_hw: tuple[int, int]


@dataclass(frozen=True)
class Batch:
    """A padded batch; images that only fill it up stand at its end.

    Attributes:
        images: host arrays.
        original_hw: sizes to scale boxes to, in pixels.
        indices: which images these are; shorter than the batch where it was filled up.
    """

    images: Images
    original_hw: Int[np.ndarray, "b 2"]
    indices: list[int]


def prepare(index: int, image: Image.Image, size: ImageSize) -> PreparedImage:
    """An RGB image, resized."""
    hw = (image.height, image.width)
    return PreparedImage(index, resize(image, size.of(hw)), hw)


def in_threads(
    function: Callable[[T], R], items: Iterable[T], *, threads: int = 4, ahead: int = 16
) -> Iterator[R]:
    """`map` in threads, in order, never more than `ahead` items in front of the consumer."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def pad_images(
    pixels: Sequence[UInt8[np.ndarray, "_ _ 3"]], hw: tuple[int, int], batch_size: int
) -> Images:
    """Images in the upper left of zeros of size `hw`; missing ones are a single black pixel."""
    padded = np.zeros((batch_size, *hw, 3), np.uint8)
    valid_hw = np.ones((batch_size, 2), np.int32)
    for i, image in enumerate(pixels):
        height, width, _ = image.shape
        padded[i, :height, :width] = image
        valid_hw[i] = height, width
    return Images(padded, valid_hw)


def bucketed_batches(
    prepared: Iterable[PreparedImage], buckets: Sequence[tuple[int, int]], batch_size: int
) -> Iterator[Batch]:
    """Batches of images of one bucket each, given out as they fill."""
    waiting: dict[tuple[int, int], list[PreparedImage]] = {}
    for image in prepared:
        height, width, _ = image.pixels.shape
        bucket = smallest_bucket((height, width), buckets)
        members = waiting.setdefault(bucket, [])
        members.append(image)
        if len(members) == batch_size:
            yield _batch(waiting.pop(bucket), bucket, batch_size)
    for bucket, members in waiting.items():
        yield _batch(members, bucket, batch_size)


def _batch(members: list[PreparedImage], bucket: tuple[int, int], batch_size: int) -> Batch:
    original_hw = np.ones((batch_size, 2), np.int32)
    original_hw[: len(members)] = [image.original_hw for image in members]
    return Batch(
        images=pad_images([image.pixels for image in members], bucket, batch_size),
        original_hw=original_hw,
        indices=[image.index for image in members],
    )
