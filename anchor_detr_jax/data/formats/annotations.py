"""What a data set says, checked, and as training wants it; all that is wrong is said at once.

Source: AnchorDETR `datasets/coco.py`, `ConvertCocoPolysToMask`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from anchor_detr_jax.data.annotated import AnnotatedDataset, FilePictures, Pictures
from anchor_detr_jax.data.categories import Categories
from anchor_detr_jax.data.formats.listing import names_in
from anchor_detr_jax.data.formats.picture_sizes import picture_sizes
from anchor_detr_jax.data.formats.records import BoxRecord, PictureRecord, SplitRecords
from anchor_detr_jax.data.pixel_boxes import has_area

__all__ = [
    "FaultList",
    "SoundPicture",
    "annotated_dataset",
    "check_box",
    "columns_of",
    "sound_pictures",
]

_SHOWN = 5
"""How many faults a message spells out."""


_OF_ANNOTATIONS = ("annotation", "annotation id", "annotation of no image")
"""Faults that follow where there are no pictures."""


@dataclass
class FaultList:
    """What is wrong with a data set: an error at the end, or a list of what was skipped.

    Attributes:
        source: what it was read from.
        on_bad: "stop" or "skip".
    """

    source: str
    on_bad: str
    messages: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.on_bad not in ("stop", "skip"):
            raise ValueError(f"on_bad is {self.on_bad!r}, and must be 'stop' or 'skip'")

    def add(self, message: str) -> None:
        """Note one; it need not name the source again."""
        self.messages.append(message.removeprefix(f"{self.source}: "))

    def settled(self) -> tuple[str, ...]:
        """The messages, where what is wrong may be skipped.

        Raises:
            ValueError: where it may not, and there is something.
        """
        if self.messages and self.on_bad == "stop":
            count, more = len(self.messages), len(self.messages) - _SHOWN
            raise ValueError(
                f"{self.source} has {count} fault{'s' if count > 1 else ''}: "
                + "; ".join(self.messages[:_SHOWN])
                + (f"; and {more} more" if more > 0 else "")
                + ". Mend them, or leave them out with data.on_bad='skip'"
            )
        return tuple(self.messages)


@dataclass(frozen=True, slots=True)
class SoundPicture:
    """A picture that is there.

    Attributes:
        record: what the data set says of it.
        hw: its height and width by the annotations, or else by itself.
        boxes: those without a fault, crowds and boxes without an area included.
    """

    record: PictureRecord
    hw: tuple[int, int]
    boxes: list[BoxRecord]


def annotated_dataset(
    records: SplitRecords, *, columns: Categories | None = None, on_bad: str = "stop"
) -> AnnotatedDataset:
    """Records of files, to train on.

    Crowd boxes are dropped, boxes are clipped to their picture, and those without an area dropped.

    Args:
        records: as a format's scanner made them.
        columns: what the columns of the logits stand for; None: the data set's categories.
        on_bad: "stop" at annotations and pictures with a fault, or "skip" and list them. Faults
            are those of the records, and what `sound_pictures` adds.

    Raises:
        ValueError: for faults, and if there is nothing to train on, or images or categories cannot
            be told apart.
    """
    column_of = columns_of(records, columns)
    faults = FaultList(records.source, on_bad)
    sound = sound_pictures(records, faults, known=column_of.__contains__)
    if not sound:
        first = ""
        if any(fault.kind not in _OF_ANNOTATIONS for fault in records.faults) or records.pictures:
            first = f"; {faults.settled()[0]}"
        raise ValueError(f"{records.source} has no picture to train on{first}")
    boxes = [(row, box) for row, found in enumerate(sound) for box in found.boxes if not box.crowd]
    rows = np.array([row for row, _ in boxes], np.int64)
    labels = np.array([column_of[box.category] for _, box in boxes], np.int32)
    xyxy = np.array([box.xyxy_px for _, box in boxes], np.float32).reshape(-1, 4)
    hw = np.array([found.hw for found in sound], np.int64)
    xyxy = xyxy.clip(0, hw[rows][:, [1, 0, 1, 0]].astype(np.float32))
    kept = has_area(xyxy)
    starts = np.zeros(len(sound) + 1, np.int64)
    starts[1:] = np.cumsum(np.bincount(rows[kept], minlength=len(sound)))
    dropped = {
        "crowd": sum(len(found.boxes) for found in sound) - len(boxes),
        "no area": int((~kept).sum()),
    }
    return AnnotatedDataset(
        pictures=_pictures([found.record for found in sound]),
        hw=hw,
        boxes_xyxy_px=xyxy[kept],
        labels=labels[kept],
        starts=starts,
        categories=columns or records.categories,
        dropped={reason: count for reason, count in dropped.items() if count},
        faults=faults.settled(),
    )


def columns_of(records: SplitRecords, columns: Categories | None) -> dict[int | str, int]:
    """The column of each category that boxes of these records may have.

    Columns that are given are found by the category's id, or, where ids are only counted, by name.

    Raises:
        ValueError: if none are given, and the data set's own categories cannot be told apart.
    """
    if columns is None:
        fault = next((f for f in records.faults if f.kind == "categories"), None)
        if fault:
            raise ValueError(f"{fault.where}: {fault.message.removeprefix(fault.where).strip()}")
    elif not records.by_name:
        columns.check_same_ids(records.categories, records.source)
    chosen = columns or records.categories
    places = list(enumerate(zip(chosen.ids, chosen.names, strict=True)))
    by_name = {name: column for column, (_, name) in places if name is not None}
    by_id = {id_: column for column, (id_, name) in places if name is not None}
    if columns and records.by_name:
        own = zip(records.categories.ids, records.categories.names, strict=True)
        by_id = {id_: by_name[name] for id_, name in own if name in by_name}
    return {**by_name, **by_id}


def sound_pictures(
    records: SplitRecords, faults: FaultList, *, known: Callable[[int | str], bool] | None
) -> list[SoundPicture]:
    """The pictures that are there, with the boxes that can be meant; the others go to `faults`.

    Faults are those of the records; pictures that are missing, or whose size is neither given nor
    to be read; boxes that are not finite, have negative sides or lie more than a picture's size
    outside it; categories that are not `known`, where that is given.

    Raises:
        ValueError: if images cannot be told apart.
    """
    for fault in records.faults:
        if fault.kind == "image id":
            raise ValueError(fault.message)
        if fault.kind != "categories":
            faults.add(f"{fault.where}: {fault.message}")
    found = []
    for picture, hw in _sized(_present(records.pictures, faults)):
        if hw is None:
            size = (
                "is no readable picture"
                if picture.encoded
                else ("has no size in the file, nor one that can be read")
            )
            faults.add(f"picture {picture.path} {size}")
            continue
        boxes = [box for box in picture.boxes if _is_sound(box, hw, known, faults)]
        found.append(SoundPicture(picture, hw, boxes))
    return found


def check_box(xyxy_px: Sequence[float], hw: Sequence[int]) -> None:
    """Refuse corners that cannot be meant in a picture of this size.

    Raises:
        ValueError: for negative sides, and what is far outside; the box is shown as x, y, w, h.
    """
    (x1, y1, x2, y2), (height, width) = xyxy_px, hw
    negative = x2 < x1 or y2 < y1
    if negative or x1 < -width or y1 < -height or not (x2 <= 2 * width and y2 <= 2 * height):
        shown = ", ".join(f"{number:g}" for number in (x1, y1, x2 - x1, y2 - y1))
        fault = "has a negative width or height"
        if not negative:
            fault = f"is far outside its picture of {width}x{height}"
        raise ValueError(f"its box [{shown}] {fault}")


def _is_sound(
    box: BoxRecord,
    hw: tuple[int, int],
    known: Callable[[int | str], bool] | None,
    faults: FaultList,
) -> bool:
    if box.fault or box.xyxy_px is None:
        faults.add(f"{box.where}: {box.fault or 'it has no box'}")
        return False
    if known and not known(box.category):
        category = box.category if isinstance(box.category, int) else repr(box.category)
        faults.add(
            f"{box.where}: no column stands for category {category}; does data.categories fit the "
            "data?"
        )
        return False
    try:
        check_box(box.xyxy_px, hw)
    except ValueError as error:
        faults.add(f"{box.where}: {error}")
        return False
    return True


def _present(pictures: Sequence[PictureRecord], faults: FaultList) -> Iterator[PictureRecord]:
    """The pictures whose files are there, or that are no files.

    Folders are listed once, as asking for each picture takes long where many are far away.
    """
    files: dict[Path, set[str]] = {}
    for picture in pictures:
        folder = picture.path.parent
        if picture.encoded is None and folder not in files:
            files[folder] = names_in(folder)
        if picture.encoded or picture.path.name in files[folder]:
            yield picture
        else:
            faults.add(f"picture {picture.path} is not there")


def _sized(
    pictures: Iterator[PictureRecord],
) -> Iterator[tuple[PictureRecord, tuple[int, int] | None]]:
    """Each with its height and width; those that nothing gives are read off the files."""
    there = list(pictures)
    unsized = [p for p in there if not (p.declared_hw or p.header_hw or p.encoded)]
    sizes = picture_sizes([picture.path for picture in unsized], title="sizes of pictures")
    read = {picture.id: hw for picture, hw in zip(unsized, sizes, strict=True)}
    for picture in there:
        yield picture, picture.declared_hw or picture.header_hw or read.get(picture.id)


def _pictures(records: Sequence[PictureRecord]) -> Pictures:
    paths = [record.path for record in records]
    stored = tuple(record.encoded for record in records if record.encoded)
    if stored:
        return _StoredPictures(tuple(map(str, paths)), stored)
    try:
        folder = Path(os.path.commonpath([path.parent for path in paths]))
    except ValueError:  # some are relative, some absolute, or on several drives
        return FilePictures(Path(), tuple(map(str, paths)))
    return FilePictures(folder, tuple(str(path.relative_to(folder)) for path in paths))


@dataclass(frozen=True)
class _StoredPictures:
    """Pictures that are no files of their own."""

    names: tuple[str, ...]
    readers: tuple[Callable[[], bytes], ...]

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return self.names[index]

    def encoded(self, index: int) -> bytes:
        return self.readers[index]()
