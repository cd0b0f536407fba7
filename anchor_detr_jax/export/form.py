"""What an exported program takes and gives."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from anchor_detr_jax.data.buckets import inference_buckets

__all__ = ["FORMATS", "ExportForm", "parsed_batch", "parsed_sizes"]

FORMATS = ("stablehlo", "onnx")

_LEAST, _MOST = 32, 8192
"""Pixels that a side may be long: smaller maps have nothing in them, larger ones no memory."""


@dataclass(frozen=True)
class ExportForm:
    """What goes in and what comes out.

    Attributes:
        batch: images at a time; None: any number.
        sizes: heights and widths that there is a program for; none: any.
        padding: whether a second input says how much of each image is real. Without it all of an
            image is, and an image of another size has to be stretched to one of `sizes`.
        preprocess: whether pixels come as they were decoded (uint8), or normalised (float32).
        postprocess: whether the best detections come out, with boxes in pixels, or what the model
            says of each query.
        top_k: detections of an image.
        short_side: what images are to be resized to, where `sizes` leaves it open,
        long_side: unless their long side would be longer than this.
    """

    batch: int | None = 1
    sizes: tuple[tuple[int, int], ...] = ()
    padding: bool = True
    preprocess: bool = True
    postprocess: bool = True
    top_k: int = 100
    short_side: int = 800
    long_side: int = 1333

    def __post_init__(self) -> None:
        for name, holds, expected in self._rules():
            if not holds:
                raise ValueError(f"{name} is {getattr(self, name)!r}, and must be {expected}")

    def _rules(self) -> Iterator[tuple[str, bool, str]]:
        """Name, whether it is right, and what would be."""
        yield "batch", self.batch is None or self.batch >= 1, "at least 1, or None for any"
        sides = [side for size in self.sizes for side in size]
        expected = f"heights and widths from {_LEAST} to {_MOST} pixels"
        yield "sizes", all(_LEAST <= side <= _MOST for side in sides), expected
        yield "top_k", self.top_k >= 1, "at least 1"
        yield "short_side", self.short_side >= 1, "at least 1"
        longer = self.long_side >= self.short_side
        yield "long_side", longer, f"at least short_side ({self.short_side})"

    @property
    def symbolic(self) -> bool:
        """Whether some size is open."""
        return self.batch is None or not self.sizes


def parsed_batch(text: str) -> int | None:
    """A number, or None for `dynamic`.

    Raises:
        ValueError: for anything else.
    """
    if text == "dynamic":
        return None
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError(f"--batch is {text!r}, expected a number from 1 on, or 'dynamic'")
    return int(text)


def parsed_sizes(text: str, short_side: int, long_side: int) -> tuple[tuple[int, int], ...]:
    """The sizes that `HxW`, `buckets` or `dynamic` stands for.

    Raises:
        ValueError: for anything else.
    """
    if text == "dynamic":
        return ()
    if text == "buckets":
        return tuple(inference_buckets(short_side, long_side))
    found = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", text)
    if not found:
        raise ValueError(
            f"--size is {text!r}, expected HEIGHTxWIDTH such as 800x1216, 'buckets' or 'dynamic'"
        )
    return ((int(found[1]), int(found[2])),)
