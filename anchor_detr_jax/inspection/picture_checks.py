"""What is wrong with one picture's file, or with what the annotations say of it."""

from __future__ import annotations

from collections.abc import Iterator

from PIL import Image

from anchor_detr_jax.data.formats.records import PictureRecord
from anchor_detr_jax.inspection.findings import Finding, finding
from anchor_detr_jax.inspection.picture_files import PictureFacts

__all__ = ["check_picture"]

_TINY, _LONG = 32, 10
"""A side in pixels and an aspect beyond which pictures are worth a look."""

_SIDEWAYS = range(5, 9)
"""EXIF orientations by which height and width change places."""

_MODES = {
    "1": "black and white",
    "L": "grey",
    "LA": "grey with transparency",
    "P": "a palette",
    "RGBA": "with transparency",
}
"""What Pillow's names of colour modes mean."""

_ALIASES = {"MPO": "JPEG"}
"""Formats that go by another one's file names."""


def check_picture(
    picture: PictureRecord, facts: PictureFacts, *, queries: int
) -> Iterator[Finding]:
    """Everything about a picture but its boxes' places.

    Args:
        picture: what the annotations say.
        facts: what the file says.
        queries: of the model; no picture may have more boxes.
    """
    if facts.fault:
        yield finding(facts.fault, picture.where, facts.message)
    labelled = sum(not box.crowd for box in picture.boxes)
    if labelled > queries:
        message = f"{picture.path.name}: {labelled} boxes, more than the model's {queries} queries"
        yield finding("too many boxes", picture.where, message)
    if facts.hw is not None:
        yield from _size(picture, facts)
        yield from _format(picture, facts)


def _size(picture: PictureRecord, facts: PictureFacts) -> Iterator[Finding]:
    name, (height, width) = picture.path.name, facts.hw or (0, 0)
    declared = picture.declared_hw or picture.header_hw
    if declared not in (None, facts.hw):
        sizes = f"declared {declared[1]}x{declared[0]}, stored {width}x{height}"
        if declared == (width, height):
            turned = facts.orientation in _SIDEWAYS
            tag = f", EXIF orientation {facts.orientation}" if turned else ""
            yield finding("rotated size", picture.where, f"{name}: {sizes}{tag}")
        else:
            yield finding("wrong size", picture.where, f"{name}: {sizes} (width x height)")
    elif facts.orientation != 1:
        message = f"{name}: EXIF orientation {facts.orientation}, stored as {width}x{height}"
        yield finding("EXIF rotation", picture.where, message)
    if min(height, width) < _TINY:
        yield finding("tiny picture", picture.where, f"{name}: {width}x{height}")
    elif max(height, width) > _LONG * min(height, width):
        yield finding("very long picture", picture.where, f"{name}: {width}x{height}")


def _format(picture: PictureRecord, facts: PictureFacts) -> Iterator[Finding]:
    name = picture.path.name
    if facts.mode != "RGB":
        yield finding("colour mode", picture.where, f"{name}: {_MODES.get(facts.mode, facts.mode)}")
    named = Image.registered_extensions().get(picture.path.suffix.lower())
    if named and named != _ALIASES.get(facts.format, facts.format):
        yield finding("file ending", picture.where, f"{name}: holds a {facts.format}")
