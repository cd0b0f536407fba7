"""Data sets that TensorFlow Datasets prepared, as training wants them; without TensorFlow."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from anchor_detr_jax.data.annotated import AnnotatedDataset
from anchor_detr_jax.data.annotations import FaultList, checked_box_xywh
from anchor_detr_jax.data.categories import Categories
from anchor_detr_jax.data.pixel_boxes import has_area, xywh_to_xyxy
from anchor_detr_jax.data.tfds_index import RecordIndex, read_index
from anchor_detr_jax.data.tfds_records import Layout, Records

__all__ = ["TfdsPictures", "is_tfds_folder", "read_tfds_training", "write_coco_annotations"]


def is_tfds_folder(root: str | Path) -> bool:
    """Whether a folder is one that TFDS prepared: a version's, such as `coco/2017/1.1.0`."""
    return all((Path(root) / name).is_file() for name in ("dataset_info.json", "features.json"))


def read_tfds_training(
    root: str | Path, split: str, *, columns: Categories | None = None, on_bad: str = "stop"
) -> AnnotatedDataset:
    """A split of a folder that TFDS prepared in array_record, to train on.

    Of a folder that `prepare_coco_folder` made, this is to the bit what `read_coco_training` reads
    from the COCO folder. Of others, `image` and `objects` with `bbox` and `label` are used, and
    `is_crowd` where there is one. Crowd boxes are dropped, boxes are clipped to their picture, and
    those without an area dropped. The first time all records are read; what they say is kept.

    Args:
        root: a folder that `is_tfds_folder` knows.
        split: such as `train2017`.
        columns: what the columns of the logits stand for. The label of a box is the column with
            its category's id, or, in a folder that is not ours, with its class label's name.
            None: the data set's categories, in ascending order.
        on_bad: "stop" at annotations and pictures with a fault, or "skip" and list them. Faults
            are: boxes that are not finite, have negative sides or lie more than a picture's size
            outside it, categories without a column, and what is no picture.

    Raises:
        ValueError: for faults, and if there is no such split, or it cannot be used.
        OSError: if a file cannot be read.
    """
    root = Path(root)
    records = Records(root, split)
    index, layout = read_index(records, root, split), records.layout
    columns = columns or layout.categories
    if columns is None:
        raise ValueError(f"{root} does not name the categories of {split}; give them as columns")
    faults = FaultList(f"{root} {split}", on_bad)
    pictures = _readable_pictures(root, split, index, faults)
    index = index.chosen(pictures.numbers)
    hw = np.repeat(index.hw, np.diff(index.starts), axis=0)  # of each box's picture
    xyxy = boxes_xyxy_px(index.boxes, hw, box_format=layout.box_format)
    labels = _labels(index.categories, columns, layout)
    sound = _without_fault(index, layout, xyxy, labels, hw, faults)
    xyxy = xyxy.clip(0, hw[:, [1, 0, 1, 0]].astype(np.float32))
    reasons = {"crowd": sound & index.crowd, "no area": sound & ~index.crowd & ~has_area(xyxy)}
    kept = sound & ~reasons["crowd"] & ~reasons["no area"]
    return AnnotatedDataset(
        pictures=pictures,
        hw=index.hw,
        boxes_xyxy_px=xyxy[kept],
        labels=labels[kept],
        starts=np.concatenate([[0], np.cumsum(kept)])[index.starts],
        categories=columns,
        dropped={name: int(out.sum()) for name, out in reasons.items() if out.any()},
        faults=faults.settled(),
    )


def write_coco_annotations(root: str | Path, split: str, path: str | Path) -> None:
    """What a folder of ours holds of a split, as a COCO annotation file, to score results against.

    Boxes have the decimals that COCO gave them; areas are rounded to float32.

    Raises:
        ValueError: if `prepare_coco_folder` did not make the folder, or there is no such split.
        OSError: if a file cannot be read or written.
    """
    root = Path(root)
    records = Records(root, split)
    index, categories = read_index(records, root, split), records.layout.categories
    if not records.layout.ours:
        raise ValueError(f"{root} was not prepared from COCO annotations, so it cannot give any")
    sizes = zip(index.image_ids.tolist(), index.names, index.hw.tolist(), strict=True)
    images = [{"id": i, "file_name": str(n), "height": h, "width": w} for i, n, (h, w) in sizes]
    columns = {
        "id": index.ids.tolist(),
        "image_id": np.repeat(index.image_ids, np.diff(index.starts)).tolist(),
        "category_id": index.categories.tolist(),
        "bbox": [[float(str(side)) for side in box] for box in index.boxes],  # fewest decimals
        "area": [float(str(area)) for area in index.areas],
        "iscrowd": index.crowd.astype(int).tolist(),
    }
    rows = zip(*columns.values(), strict=True)
    content = {
        "images": images,
        "annotations": [dict(zip(columns, row, strict=True)) for row in rows],
        "categories": categories.to_json() if categories else [],
    }
    Path(path).write_text(json.dumps(content), encoding="utf-8")


class TfdsPictures:
    """Pictures in a TFDS folder, as `Pictures`; each process opens the folder when first asked.

    Attributes:
        numbers: of the records that the pictures are in.
    """

    def __init__(
        self, root: Path, split: str, *, names: tuple[str, ...], numbers: Int[np.ndarray, " n"]
    ):
        self.numbers = numbers
        self._root, self._split, self._names = root, split, names
        self._opening = threading.Lock()
        self._opened: tuple[int, Records] | None = None

    def __getstate__(self):
        return {**self.__dict__, "_opening": None, "_opened": None}

    def __setstate__(self, state: dict[str, Any]):
        self.__dict__.update(state, _opening=threading.Lock())

    def __len__(self) -> int:
        return len(self.numbers)

    def name(self, index: int) -> str:
        """As a path: the folder, the split, the picture's file name or the record's number."""
        file_name = self._names[index] or f"record {self.numbers[index]}"
        return str(self._root / self._split / file_name)

    def encoded(self, index: int) -> bytes:
        """The bytes that the picture's file had."""
        number = int(self.numbers[index])
        return self._records().encoded(number)

    def _records(self) -> Records:
        process = os.getpid()  # open files do not survive a fork
        opened = self._opened
        if opened is None or opened[0] != process:
            with self._opening:
                opened = self._opened
                if opened is None or opened[0] != process:
                    opened = self._opened = (process, Records(self._root, self._split))
        return opened[1]


def boxes_xyxy_px(
    boxes: Float[np.ndarray, "m 4"], hw: Int[np.ndarray, "m 2"], *, box_format: str
) -> Float[np.ndarray, "m 4"]:
    """Corners in pixels, of boxes in one of TFDS' formats.

    Args:
        boxes: as the records have them.
        hw: height and width of each box's picture.
        box_format: XYXY, YXYX or XYWH, in pixels, or as fractions of the picture with REL_ before.
    """
    order = box_format.removeprefix("REL_")
    if order == "YXYX":
        boxes = boxes[:, [1, 0, 3, 2]]
    elif order not in ("XYXY", "XYWH"):
        raise ValueError(f"box format {box_format!r}, expected XYXY, YXYX or XYWH, or with REL_")
    with np.errstate(invalid="ignore"):  # boxes that are not finite are found later
        if order == "XYWH":
            boxes = xywh_to_xyxy(boxes)
        return boxes if order == box_format else (boxes * hw[:, [1, 0, 1, 0]]).astype(np.float32)


def _readable_pictures(
    root: Path, split: str, index: RecordIndex, faults: FaultList
) -> TfdsPictures:
    """The pictures that are ones."""
    readable = (index.hw > 0).all(axis=1)
    names: list[str] = index.names.tolist()
    every = TfdsPictures(root, split, names=tuple(names), numbers=np.arange(len(names)))
    for i in np.flatnonzero(~readable).tolist():
        faults.add(f"{every.name(i)} is no readable picture")
    if not readable.any():
        raise ValueError(f"{root} has no picture in {split} to train on")
    numbers = np.flatnonzero(readable)
    return TfdsPictures(root, split, names=tuple(names[i] for i in numbers), numbers=numbers)


def _labels(
    categories: Int[np.ndarray, " m"], columns: Categories, layout: Layout
) -> Int[np.ndarray, " m"]:
    """The column of each category; -1 where there is none."""
    in_use = [i for i, name in enumerate(columns.names) if name is not None]
    if layout.ours:
        column_of = {columns.ids[i]: i for i in in_use}
    else:
        by_name = {columns.names[i]: i for i in in_use}
        names = layout.categories.names if layout.categories else ()
        column_of = {number: by_name.get(name, -1) for number, name in enumerate(names)}
    values, where = np.unique(categories, return_inverse=True)
    return np.array([column_of.get(int(value), -1) for value in values], np.int32)[where]


def _without_fault(
    index: RecordIndex,
    layout: Layout,
    xyxy: Float[np.ndarray, "m 4"],
    labels: Int[np.ndarray, " m"],
    hw: Int[np.ndarray, "m 2"],
    faults: FaultList,
) -> Bool[np.ndarray, " m"]:
    """Whether each annotation is sound; what is wrong with the others goes to the faults."""
    sound = labels >= 0
    if not layout.ours:  # which were checked when they were prepared
        sound &= _plausible(xyxy, hw)
    for i in np.flatnonzero(~sound):
        try:
            if labels[i] < 0:
                category = layout.called(int(index.categories[i]))
                raise ValueError(
                    f"no column stands for category {category}; does data.categories fit the data?"
                )
            x1, y1, x2, y2 = xyxy[i].tolist()
            checked_box_xywh((x1, y1, x2 - x1, y2 - y1), hw[i])
            sound[i] = True
        except ValueError as error:
            faults.add(f"annotation {index.ids[i]}: {error}")
    return sound


def _plausible(
    xyxy: Float[np.ndarray, "m 4"], hw: Int[np.ndarray, "m 2"]
) -> Bool[np.ndarray, " m"]:
    """False for all boxes that `checked_box_xywh` refuses; it has the last word on these."""
    corner, opposite, sides = xyxy[:, :2], xyxy[:, 2:], hw[:, [1, 0]]
    within = (corner >= -sides) & (opposite <= 2 * sides) & (opposite >= corner)
    return np.all(np.concatenate([within, np.isfinite(xyxy)], axis=1), axis=1)
