"""COCO annotations as training wants them, with everything that is wrong with them said at once.

Source: AnchorDETR `datasets/coco.py`, `ConvertCocoPolysToMask`.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from anchor_detr_jax.data.annotated import AnnotatedDataset, FilePictures
from anchor_detr_jax.data.categories import Categories
from anchor_detr_jax.data.coco import locate_split, read_annotation_file
from anchor_detr_jax.data.pixel_boxes import has_area, xywh_to_xyxy

__all__ = [
    "FaultList",
    "categories_of",
    "checked_box_xywh",
    "read_coco_training",
]

_SHOWN = 5
"""How many faults a message spells out."""


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

    def __post_init__(self):
        if self.on_bad not in ("stop", "skip"):
            raise ValueError(f"on_bad is {self.on_bad!r}, and must be 'stop' or 'skip'")

    def add(self, message: str) -> None:
        """Note one."""
        self.messages.append(message)

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


def read_coco_training(
    root: str | Path, split: str, *, columns: Categories | None = None, on_bad: str = "stop"
) -> AnnotatedDataset:
    """A split of a COCO folder, to train on.

    Crowd boxes are dropped, boxes are clipped to their picture, and those without an area dropped.
    Sizes that the file does not give are read off the pictures.

    Args:
        root: folder in COCO's layout.
        split: such as `train2017`.
        columns: what the columns of the logits stand for; a box's label is the column with its
            category's id. None: the file's categories, in ascending order of their ids.
        on_bad: "stop" at annotations and pictures with a fault, or "skip" and list them. Faults
            are: boxes that are not finite, have negative sides or lie more than a picture's size
            outside it, unknown categories and pictures, annotation ids that occur twice, pictures
            that are missing or whose size can neither be looked up nor read.

    Raises:
        ValueError: for faults, and if there is no such split, nothing in it to train on, or
            two images or categories with one id.
        OSError: if the annotation file cannot be read.
    """
    file, folder = locate_split(root, split)
    content = read_annotation_file(file)
    faults = FaultList(str(file), on_bad)
    columns = columns or categories_of(content.get("categories", []), str(file))
    images = _usable(content["images"], folder, faults)
    if not images:
        first = f"; {faults.settled()[0]}" if faults.settled() else ""
        raise ValueError(f"{file} has no picture to train on{first}")
    hw = np.array(list(images.values()), np.int64)
    gathered = _Gathered(columns, {image_id: row for row, (image_id, _) in enumerate(images)}, hw)
    skipped = {image["id"] for image in content["images"]} - set(gathered.row_of)
    gathered.add_all(content.get("annotations", []), skipped, faults)
    boxes, labels, starts = gathered.packed()
    return AnnotatedDataset(
        pictures=FilePictures(folder, tuple(name for _, name in images)),
        hw=hw,
        boxes_xyxy_px=boxes,
        labels=labels,
        starts=starts,
        categories=columns,
        dropped=dict(gathered.dropped),
        faults=faults.settled(),
    )


class _Gathered:
    """Boxes and labels as annotations come, in any order of the pictures."""

    def __init__(self, columns: Categories, row_of: dict[int, int], hw: np.ndarray):
        self.row_of = row_of
        self.hw: list[list[int]] = hw.tolist()
        self.column_of = {
            id_: column
            for column, (id_, name) in enumerate(zip(columns.ids, columns.names, strict=True))
            if name is not None
        }
        self.seen: set[Any] = set()
        self.rows: list[int] = []
        self.boxes_xywh: list[np.ndarray] = []
        self.labels: list[int] = []
        self.dropped: Counter[str] = Counter()

    def add_all(self, annotations: Sequence[Any], skipped: set[int], faults: FaultList) -> None:
        """Take in what has no fault, but for what belongs to images that were skipped."""
        for annotation in annotations:
            try:
                if annotation.get("image_id") not in skipped:
                    self.add(annotation)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                reason = f"no {error}" if isinstance(error, KeyError) else str(error)
                name = annotation.get("id") if isinstance(annotation, Mapping) else annotation
                faults.add(f"annotation {name}: {reason}")

    def add(self, annotation: Mapping[str, Any]) -> None:
        """Take an annotation in.

        Raises:
            ValueError, TypeError, KeyError: for one with a fault.
        """
        if "id" in annotation:
            if annotation["id"] in self.seen:
                raise ValueError("its id occurs twice")
            self.seen.add(annotation["id"])
        if annotation["image_id"] not in self.row_of:
            raise ValueError(f"there is no image {annotation['image_id']}")
        if annotation["category_id"] not in self.column_of:
            raise ValueError(
                f"no column stands for category {annotation['category_id']}; does "
                "data.categories fit the data?"
            )
        row = self.row_of[annotation["image_id"]]
        box = checked_box_xywh(annotation["bbox"], self.hw[row])
        if annotation.get("iscrowd", 0):
            self.dropped["crowd"] += 1
            return
        self.rows.append(row)
        self.boxes_xywh.append(box)
        self.labels.append(self.column_of[annotation["category_id"]])

    def packed(
        self,
    ) -> tuple[Float[np.ndarray, "m 4"], Int[np.ndarray, " m"], Int[np.ndarray, " s"]]:
        """Boxes, clipped, and labels, picture by picture, and where each picture's start."""
        rows = np.array(self.rows, np.int64)
        boxes = xywh_to_xyxy(np.array(self.boxes_xywh, np.float32).reshape(-1, 4))
        limits = np.array(self.hw, np.float32)[rows][:, [1, 0, 1, 0]]
        boxes = boxes.clip(0, limits)
        kept = has_area(boxes)
        if not kept.all():
            self.dropped["no area"] += int((~kept).sum())
        places = np.flatnonzero(kept)
        places = places[np.argsort(rows[places], kind="stable")]
        starts = np.zeros(len(self.hw) + 1, np.int64)
        starts[1:] = np.cumsum(np.bincount(rows[places], minlength=len(self.hw)))
        return boxes[places], np.array(self.labels, np.int32)[places], starts


def categories_of(entries: Sequence[Mapping[str, Any]], source: str) -> Categories:
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


def checked_box_xywh(box: Any, hw: Sequence[int] | np.ndarray) -> Float[np.ndarray, " 4"]:
    """A box (x, y, w, h) in pixels of a picture of this size, from whatever a file has there.

    Raises:
        ValueError: if it is none, or cannot be meant.
    """
    sides = _finite_numbers(box)
    if len(sides) != 4:
        raise ValueError(f"its box is {box}, expected four finite numbers x, y, w, h")
    x, y, w, h = sides
    if w < 0 or h < 0:
        raise ValueError(f"its box {list(box)} has a negative width or height")
    height, width = int(hw[0]), int(hw[1])
    if x < -width or y < -height or x + w > 2 * width or y + h > 2 * height:
        raise ValueError(f"its box {list(box)} is far outside its picture of {width}x{height}")
    return np.array(sides, np.float32)


def _finite_numbers(values: Any) -> list[float]:
    """These numbers; none, if there is anything else among them."""
    try:
        numbers = [value + 0.0 for value in values]
        return numbers if all(map(math.isfinite, numbers)) else []
    except (TypeError, OverflowError):
        return []


def _usable(
    images: Sequence[Mapping[str, Any]], folder: Path, faults: FaultList
) -> dict[tuple[int, str], tuple[int, int]]:
    """Id and file of each image whose picture is there, and its height and width.

    Folders are listed once, as asking for each picture takes long where many are far away.
    """
    files: dict[Path, set[str]] = {}
    usable = {}
    for image in images:
        name = image.get("file_name")
        if not isinstance(name, str):
            faults.add(f"image {image['id']}: no file_name")
            continue
        path = folder / name
        if path.parent not in files:
            files[path.parent] = _files_of(path.parent)
        if path.name not in files[path.parent]:
            faults.add(f"picture {path} is not there")
            continue
        try:
            usable[image["id"], name] = _picture_hw(image, path)
        except Exception as error:  # on damaged files, decoders raise what they like
            faults.add(f"picture {path} has no size in the file, nor one that can be read: {error}")
    return usable


def _files_of(folder: Path) -> set[str]:
    """Names of the files of a folder; none, if there is no such folder."""
    if not folder.is_dir():
        return set()
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.is_file()}


def _picture_hw(image: Mapping[str, Any], path: Path) -> tuple[int, int]:
    height, width = image.get("height"), image.get("width")
    if type(height) is int and type(width) is int and height > 0 and width > 0:
        return height, width
    with Image.open(path) as picture:
        return picture.height, picture.width
