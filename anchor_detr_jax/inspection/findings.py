"""What can be wrong with a data set: the kinds, how bad each is, and what to do about it.

An error is what training stops at, or what would make it learn or measure something wrong. A
warning is what training copes with, but somebody should look at. The rest is good to know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = ["SEVERITIES", "Finding", "advice_on", "by_kind", "finding", "in_order"]

SEVERITIES = ("error", "warning", "info")
"""From the worst to the best."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: a few words, the same for all of its kind.
        severity: one of `SEVERITIES`.
        where: its file, and the id or line in it.
        message: what came and what was expected.
    """

    kind: str
    severity: str
    where: str
    message: str


_ERRORS = {
    "training would refuse": "What it would say, were everything above left out.",
    "no pictures": "A split without pictures cannot be used.",
    "no boxes": "Without boxes there is nothing to learn.",
    "unreadable box": "The entry is no box: mend or delete it.",
    "box not finite": "NaN and infinity are no corners: mend or delete the box.",
    "inverted box": "Corners in the wrong order, or a negative width or height.",
    "box far outside": "More than a picture's size outside of it: whose box is it?",
    "unknown category": "The category is not among those that the data set lists.",
    "categories": "The list of categories cannot be used as it is.",
    "categories differ": "What is learned as one category is measured as another.",
    "image id": "Nobody can tell whose annotations these are: number the images anew.",
    "file name": "The annotations do not say which file they are of.",
    "annotation": "The entry cannot be read: mend or delete it.",
    "annotation id": "Two annotations with one id: number them anew.",
    "annotation of no image": "Whose box is it? Mend or delete the annotation.",
    "annotation file": "The file cannot be read: mend it.",
    "no annotation file": "A file without objects says that nothing is in the picture.",
    "label file": "The file cannot be read: mend it.",
    "label file without picture": "Was the picture lost, or renamed?",
    "listed twice": "A picture counts twice: delete one of the lines.",
    "boxes as fractions": "Boxes are in pixels here, and these seem to be shares of the picture.",
    "boxes as corners": "Boxes are x, y, width, height here, and these seem to be two corners.",
    "missing picture": "The annotations speak of a file that is not there.",
    "empty file": "The file has no bytes: copy it again.",
    "no picture": "The file is of no format that Pillow knows.",
    "damaged picture": "The picture cannot be decoded to its end: copy it again.",
    "wrong size": "Boxes belong to a picture of another size, or the picture was changed.",
    "rotated size": "The annotations are of the picture turned by its EXIF orientation. Training "
    "sees the stored pixels: turn the pictures for good, and delete the EXIF tag.",
    "too many boxes": "Each box needs a query: raise model.num_queries (Anchor DETR: "
    "model.num_anchors or model.num_patterns).",
    "picture in two splits": "What was learned by heart is measured: AP says too much.",
}
_WARNINGS = {
    "box without area": "Left out of training.",
    "box outside": "No part of it is in the picture: left out of training.",
    "box partly outside": "Clipped to the picture in training.",
    "duplicate box": "The same thing is labelled twice: two queries must answer for it.",
    "box with two classes": "The same box has several classes: training is told both.",
    "tiny box": "Less than 2 pixels wide or high: a slip of the mouse?",
    "unused category": "A column of the class head will stand for what never comes.",
    "category not in training": "It is measured, but nothing teaches it.",
    "duplicate category name": "Two categories with one name: which is which in a result?",
    "category without a name": "Results will show an empty label.",
    "mostly without boxes": "Most of a split's pictures are background: were labels lost?",
    "unreferenced file": "No annotation speaks of the picture, so it is not used.",
    "picture twice": "The same pixels under two names or ids: twice the weight in training.",
    "similar pictures in two splits": "Nearly the same picture is learned from and measured on.",
    "similar pictures": "Nearly the same picture twice, as from a video or saved again.",
    "EXIF rotation": "Viewers turn the picture, training does not. Look at the contact sheet: are "
    "the boxes where they belong?",
    "tiny picture": "Less than 32 pixels wide or high.",
    "very long picture": "More than 10 to 1: much is lost when it is resized.",
}
_INFOS = {
    "picture without boxes": "Trained on as background (data.keep_empty).",
    "box slightly outside": "By a pixel at most, as rounding makes it; clipped in training.",
    "box small for the model": "Less than 4 pixels wide or high once resized for evaluation.",
    "no annotations": "A split without any boxes can be predicted on, not measured on.",
    "colour mode": "Not RGB: converted in training.",
    "file ending": "The name says another format than the file has.",
}
_KINDS: Mapping[str, tuple[str, str]] = {
    kind: (severity, advice)
    for severity, kinds in zip(SEVERITIES, (_ERRORS, _WARNINGS, _INFOS), strict=True)
    for kind, advice in kinds.items()
}


def finding(kind: str, where: str, message: str) -> Finding:
    """A finding with its kind's severity; a kind that no check here knows is an error.

    The latter are what the reader of a format says of its own files.
    """
    severity, _ = _KINDS.get(kind, ("error", ""))
    return Finding(kind, severity, where, message)


def advice_on(kind: str) -> str:
    """What a kind means, or what to do about it; "" where its messages say all."""
    return _KINDS.get(kind, ("", ""))[1]


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The worst first; by kind, place and message, in whatever order they came, each once."""
    return tuple(
        sorted(
            set(findings), key=lambda f: (SEVERITIES.index(f.severity), f.kind, f.where, f.message)
        )
    )


def by_kind(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """Findings of each kind, in the order in which kinds first come."""
    groups: dict[str, list[Finding]] = {}
    for found in findings:
        groups.setdefault(found.kind, []).append(found)
    return groups
