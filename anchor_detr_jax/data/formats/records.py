"""What a data set says of its pictures and boxes, before anything of it is checked.

Each format has one scanner that makes these records. Reading for training, evaluation and
inspection all begin with them, so that they agree about what is in a data set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from anchor_detr_jax.data.categories import Categories

__all__ = ["BoxRecord", "Fault", "PictureRecord", "SplitRecords"]


@dataclass(frozen=True, slots=True)
class BoxRecord:
    """One labelled box.

    Attributes:
        where: its file, and its id or line in it: what a person needs to find it.
        xyxy_px: x1, y1, x2, y2 in pixels from the picture's upper left corner, x2 and y2 just
            outside the box; neither clipped nor ordered. None where the file has no four numbers.
        category: as the file names it: an id, or a name.
        crowd: stands for a group, and is not trained on.
        difficult: Pascal VOC's mark; trained on like others, and left out of its AP.
        fault: why the file's entry cannot be read; "" if it can.
        id: of the annotation, where it has one.
        xywh_px: x, y, width and height, where the file has these; corners that are computed from
            them do not give them back to the bit.
        area: in square pixels, where the file says it.
    """

    where: str
    xyxy_px: tuple[float, float, float, float] | None
    category: int | str
    crowd: bool = False
    difficult: bool = False
    fault: str = ""
    id: int | None = None
    xywh_px: tuple[float, float, float, float] | None = None
    area: float | None = None


@dataclass(frozen=True, slots=True)
class PictureRecord:
    """One picture and the boxes in it.

    Attributes:
        where: the file, and the id in it, that speaks of this picture.
        path: the picture's file, or what messages call it.
        id: in COCO's formats; counted from 1 in the order of the split where a format has none.
        declared_hw: height and width in pixels by the annotations; None if they do not say.
        boxes: in the file's order.
        encoded: gives its bytes, where it is no file of its own.
        header_hw: height and width by the picture itself, where it was asked already because boxes
            are fractions of them; None if it was not, or could not say.
    """

    where: str
    path: Path
    id: int
    declared_hw: tuple[int, int] | None
    boxes: tuple[BoxRecord, ...]
    encoded: Callable[[], bytes] | None = None
    header_hw: tuple[int, int] | None = None


@dataclass(frozen=True)
class Fault:
    """What is wrong in a data set's files and belongs to no single picture or box.

    Attributes:
        kind: a word or two that name the fault, the same for all of its kind.
        where: its file, and the id or line in it.
        message: what came and what was expected.
    """

    kind: str
    where: str
    message: str


@dataclass(frozen=True)
class SplitRecords:
    """A split of a data set.

    Attributes:
        source: the file or folder that it was read from.
        pictures: in the order in which they are counted.
        categories: all of the data set, used in this split or not.
        faults: duplicate ids, annotations of no picture, label files that cannot be read, ...
        unreferenced: picture files beside those of the split that no split speaks of.
        by_name: the categories' ids are counted, by the format or by us, so that in another data
            set only their names say which they are.
    """

    source: str
    pictures: list[PictureRecord]
    categories: Categories
    faults: list[Fault] = field(default_factory=list)
    unreferenced: list[Path] = field(default_factory=list)
    by_name: bool = False
