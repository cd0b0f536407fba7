"""What COCO's annotation files say, fault or not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from anchor_detr_jax.data.categories import Categories
from anchor_detr_jax.data.formats.coco import annotation_content, coco_splits, locate_split
from anchor_detr_jax.data.formats.listing import stays_below, unmentioned
from anchor_detr_jax.data.formats.records import BoxRecord, Fault, PictureRecord, SplitRecords
from anchor_detr_jax.data.pixel_boxes import xywh_to_xyxy

__all__ = ["categories_of", "read_coco_records"]

_SHOWN = 5
"""How many ids a message spells out."""


def read_coco_records(root: str | Path, split: str) -> SplitRecords:
    """The records of a split of a COCO folder.

    Corners are computed in float32, as the reference does.

    Raises:
        ValueError: if there is no such split, or its file is no COCO annotation file.
        OSError: if that cannot be read.
    """
    root = Path(root)
    file, folder = locate_split(root, split)
    content = annotation_content(file)
    faults: list[Fault] = []
    categories = _categories(content.get("categories", []), file, faults)
    images = _images(content["images"], file, root, folder, faults)
    sorted_out = _SortedOut(file, images, faults)
    for number, annotation in enumerate(content.get("annotations", [])):
        sorted_out.add(annotation, number)
    boxes = sorted_out.boxes()
    pictures = [
        PictureRecord(image.where, image.path, id_, image.hw, tuple(boxes.get(id_, ())))
        for id_, image in images.items()
        if image.path
    ]
    return SplitRecords(
        str(file), pictures, categories, faults, _unreferenced(root, split, folder, pictures)
    )


def categories_of(entries: Sequence[Any], source: str) -> Categories:
    """The categories of an annotation file, in ascending order of their ids.

    Raises:
        ValueError: if there are none, or ids that are no whole numbers or occur twice.
    """
    try:
        names = {entry["id"]: str(entry["name"]) for entry in entries}
        ids = sorted(names)
        whole = all(type(i) is int for i in ids)
    except (TypeError, KeyError) as error:
        raise ValueError(f"{source} needs categories with id and name ({error})") from None
    if not ids or not whole or len(ids) != len(entries):
        raise ValueError(
            f"{source} has {len(entries)} categories with ids {ids[:_SHOWN]}, expected at least "
            "one, with whole numbers as ids, each once"
        )
    return Categories(tuple(ids), tuple(names[i] for i in ids))


def _categories(entries: Sequence[Any], file: Path, faults: list[Fault]) -> Categories:
    """As far as they can be made out."""
    try:
        return categories_of(entries, str(file))
    except ValueError as error:
        faults.append(Fault("categories", str(file), str(error)))
    names = {
        entry["id"]: str(entry.get("name"))
        for entry in entries
        if isinstance(entry, Mapping) and type(entry.get("id")) is int
    }
    return Categories(tuple(sorted(names)), tuple(names[i] for i in sorted(names)))


@dataclass(frozen=True, slots=True)
class _Image:
    """An image of the file; without a path if it cannot be used, which is a fault already."""

    where: str
    path: Path | None
    hw: tuple[int, int] | None


def _images(
    entries: Sequence[Any], file: Path, root: Path, folder: Path, faults: list[Fault]
) -> dict[int, _Image]:
    """The images by their ids."""
    images: dict[int, _Image] = {}
    for number, entry in enumerate(entries):
        if not isinstance(entry, Mapping) or type(entry.get("id")) is not int:
            where = f"{file}: image number {number}"
            message = f"{file} has an image with id {_id_of(entry)!r}, expected a whole number"
            faults.append(Fault("image id", where, message))
            continue
        id_, name = entry["id"], entry.get("file_name")
        where, path = f"{file}: image {id_}", None
        if id_ in images:
            message = f"{file} has more than one image with id {id_}"
            faults.append(Fault("image id", where, message))
            continue
        if not isinstance(name, str):
            faults.append(Fault("file name", where, "no file_name"))
        elif "\0" in name or not stays_below(root, folder / name):
            faults.append(Fault("file name", where, f"its file_name {name!r} is not below {root}"))
        else:
            path = folder / name
        hw = entry.get("height"), entry.get("width")
        sound = all(type(side) is int and 0 < side < 2**31 for side in hw)
        images[id_] = _Image(where, path, hw if sound else None)  # pyright: ignore[reportArgumentType]
    return images


def _id_of(entry: Any) -> Any:
    return entry.get("id") if isinstance(entry, Mapping) else entry


@dataclass
class _SortedOut:
    """Annotations as they come, in any order of the pictures."""

    file: Path
    images: Mapping[int, _Image]
    faults: list[Fault]
    seen: set[Any] = field(default_factory=set)
    entries: list[tuple[str, Mapping[str, Any], list[float]]] = field(default_factory=list)

    def add(self, annotation: Any, number: int) -> None:
        """Take one in, or note what is wrong with it."""
        named = isinstance(annotation, Mapping) and "id" in annotation
        where = f"{self.file}: annotation {annotation['id'] if named else f'number {number}'}"
        try:
            self._check(annotation)
        except _FaultyError as fault:
            self.faults.append(Fault(fault.kind, where, str(fault)))
            return
        if self.images[annotation["image_id"]].path:
            self.entries.append((where, annotation, _four_numbers(annotation.get("bbox"))))

    def _check(self, annotation: Any) -> None:
        """Raise what cannot be put into a record."""
        if not isinstance(annotation, Mapping):
            raise _FaultyError("annotation", f"it is {str(annotation)[:50]!r}, expected an object")
        for key in ("image_id", "category_id", "bbox"):
            if key not in annotation:
                raise _FaultyError("annotation", f"no {key!r}")
        id_, image_id, category = (annotation.get(k) for k in ("id", "image_id", "category_id"))
        if id_ is not None and not isinstance(id_, int | str | float):
            raise _FaultyError("annotation", "its id is no whole number")
        if "id" in annotation and id_ in self.seen:
            raise _FaultyError("annotation id", "its id occurs twice")
        self.seen.add(id_)
        if not isinstance(image_id, int | float) or image_id not in self.images:
            raise _FaultyError("annotation of no image", f"there is no image {image_id}")
        if not isinstance(category, int | float) or category != category // 1:
            raise _FaultyError(
                "annotation", f"its category is {category!r}, expected a whole number"
            )

    def boxes(self) -> dict[int, list[BoxRecord]]:
        """Records by the image's id, each image's in the file's order."""
        sides = np.zeros((len(self.entries), 4), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # is found later, as far outside
            for row, (_, _, numbers) in enumerate(self.entries):
                if numbers:
                    sides[row] = numbers
            corners = xywh_to_xyxy(sides)
        found: dict[int, list[BoxRecord]] = {}
        for (where, annotation, numbers), xyxy in zip(self.entries, corners.tolist(), strict=True):
            record = _box(where, annotation, numbers, xyxy)
            found.setdefault(annotation["image_id"], []).append(record)
        return found


class _FaultyError(Exception):
    """An annotation that no record can be made of."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def _box(
    where: str, annotation: Mapping[str, Any], numbers: list[float], xyxy: Sequence[float]
) -> BoxRecord:
    fault = ""
    if not numbers:
        shown = str(annotation["bbox"])[:100]
        fault = f"its box is {shown}, expected four finite numbers x, y, w, h"
    id_, area = annotation.get("id"), annotation.get("area")
    return BoxRecord(
        where,
        None if fault else tuple(xyxy),  # pyright: ignore[reportArgumentType]
        int(annotation["category_id"]),
        crowd=bool(annotation.get("iscrowd", 0)),
        difficult=bool(annotation.get("difficult", 0)),
        fault=fault,
        id=id_ if type(id_) is int else None,
        xywh_px=None if fault else tuple(numbers),  # pyright: ignore[reportArgumentType]
        area=float(area) if isinstance(area, int | float) and math.isfinite(area) else None,
    )


def _four_numbers(values: Any) -> list[float]:
    """These numbers; none, if they are not four, or there is anything else among them."""
    try:
        numbers = [value + 0.0 for value in values]
    except (TypeError, OverflowError):
        return []
    return numbers if len(numbers) == 4 and all(map(math.isfinite, numbers)) else []


def _unreferenced(
    root: Path, split: str, folder: Path, pictures: Sequence[PictureRecord]
) -> list[Path]:
    """Pictures beside those of the split that neither it nor another one in its folder names."""
    if locate_split(root, split)[0].name.startswith("image_info"):
        return []  # COCO's own, which share a folder
    mentioned = [picture.path for picture in pictures]
    for other in coco_splits(root):
        file, its_folder = locate_split(root, other)
        if other != split and its_folder == folder:
            entries = annotation_content(file)["images"]
            names = (entry.get("file_name") for entry in entries if isinstance(entry, Mapping))
            mentioned += [folder / name for name in names if isinstance(name, str)]
    return unmentioned({folder} | {picture.path.parent for picture in pictures}, mentioned)
