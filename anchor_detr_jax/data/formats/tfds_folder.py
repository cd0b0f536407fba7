"""Data sets that TensorFlow Datasets prepared, as records; without TensorFlow."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from anchor_detr_jax.data.categories import Categories
from anchor_detr_jax.data.formats.records import BoxRecord, Fault, PictureRecord, SplitRecords
from anchor_detr_jax.data.formats.tfds_index import RecordIndex, read_index
from anchor_detr_jax.data.formats.tfds_records import Layout, Records, open_folder
from anchor_detr_jax.data.pixel_boxes import xywh_to_xyxy

__all__ = ["TfdsPictures", "is_tfds_folder", "read_tfds_records", "tfds_splits"]


def is_tfds_folder(root: str | Path) -> bool:
    """Whether a folder is one that TFDS prepared: a version's, such as `coco/2017/1.1.0`."""
    return all((Path(root) / name).is_file() for name in ("dataset_info.json", "features.json"))


def tfds_splits(root: str | Path) -> list[str]:
    """The splits of a folder that TFDS prepared.

    Raises:
        ValueError: if it did not.
    """
    return list(open_folder(Path(root)).info.splits)


def read_tfds_records(root: str | Path, split: str) -> SplitRecords:
    """The records of a split of a folder that TFDS prepared in array_record.

    A folder that `prepare_tfds` made has to the bit what it was made from. Of others, `image` and
    `objects` with `bbox` and `label` are used, and `is_crowd` and `is_difficult` where there are
    any. The first time all records are read; what they say is kept.

    Raises:
        ValueError: if there is no such split, or it cannot be used.
        OSError: if a file cannot be read.
    """
    root = Path(root)
    records = Records(root, split)
    index, layout = read_index(records, root, split), records.layout
    faults = []
    if layout.categories is None:
        message = f"{root} does not name the categories of {split}; give them as columns"
        faults.append(Fault("categories", f"{root} {split}", message))
    boxes = list(_boxes(index, layout, f"{root} {split}"))
    names: list[str] = index.names.tolist()
    stored = TfdsPictures(root, split, names=tuple(names))
    starts = index.starts.tolist()
    pictures = [
        PictureRecord(
            where=f"{root} {split}: record {i}",
            path=Path(stored.name(i)),
            id=image_id,
            declared_hw=(height, width) if height and width else None,
            boxes=tuple(boxes[starts[i] : starts[i + 1]]),
            encoded=partial(stored.encoded, i),
        )
        for i, (image_id, (height, width)) in enumerate(
            zip(index.image_ids.tolist(), index.hw.tolist(), strict=True)
        )
    ]
    categories = layout.categories or Categories((), ())
    return SplitRecords(f"{root} {split}", pictures, categories, faults, by_name=layout.by_name)


def _boxes(index: RecordIndex, layout: Layout, source: str) -> Iterator[BoxRecord]:
    """All boxes of a split, in the records' order."""
    hw = np.repeat(index.hw, np.diff(index.starts), axis=0)
    xyxy = boxes_xyxy_px(index.boxes, hw, box_format=layout.box_format)
    finite = np.all(np.isfinite(xyxy), axis=1)
    pixels = layout.box_format == "XYWH"
    columns = (index.ids, index.boxes, xyxy, finite, index.categories)
    more = (index.crowd, index.difficult, index.areas)
    rows = zip(*(column.tolist() for column in (*columns, *more)), strict=True)
    for id_, sides, corners, is_finite, category, crowd, difficult, area in rows:
        yield BoxRecord(
            f"{source}: annotation {id_}",
            tuple(corners) if is_finite else None,
            layout.called(category),
            crowd=crowd,
            difficult=difficult,
            fault="" if is_finite else f"its box is {sides}, expected four finite numbers",
            id=id_,
            xywh_px=tuple(sides) if pixels and is_finite else None,
            area=area or None,
        )


class TfdsPictures:
    """Pictures in a TFDS folder; each process opens it when first asked."""

    def __init__(self, root: Path, split: str, *, names: tuple[str, ...]) -> None:
        self._root, self._split, self._names = root, split, names
        self._opening = threading.Lock()
        self._opened: tuple[int, Records] | None = None

    def __getstate__(self):
        return {**self.__dict__, "_opening": None, "_opened": None}

    def __setstate__(self, state: dict[str, Any]):
        self.__dict__.update(state, _opening=threading.Lock())

    def name(self, number: int) -> str:
        """As a path: the folder, the split, the picture's file name or the record's number."""
        file_name = self._names[number] or f"record {number}"
        return str(self._root / self._split / file_name)

    def encoded(self, number: int) -> bytes:
        """The bytes that the picture's file had."""
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
