"""Data sets recognised by their layout, and what they say of their pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from anchor_detr_jax.data.formats.coco import BESIDE_PICTURES, coco_splits
from anchor_detr_jax.data.formats.coco_records import read_coco_records
from anchor_detr_jax.data.formats.records import SplitRecords
from anchor_detr_jax.data.formats.splits import share_of
from anchor_detr_jax.data.formats.tfds_folder import is_tfds_folder, read_tfds_records, tfds_splits
from anchor_detr_jax.data.formats.voc import is_voc_folder, read_voc_records, voc_splits
from anchor_detr_jax.data.formats.yolo import is_yolo_folder, read_yolo_records, yolo_splits

__all__ = ["data_format", "read_records", "split_names"]

_LAYOUTS = f"""\
  tfds: dataset_info.json and features.json, as scripts/prepare_tfds.py and TFDS write them;
  coco: annotations/instances_SPLIT.json with SPLIT/ or images/SPLIT/, or SPLIT/{BESIDE_PICTURES};
  voc:  Annotations/*.xml with JPEGImages/, and ImageSets/Main/SPLIT.txt if there are splits;
  yolo: data.yaml with names, train and val"""


def data_format(root: str | Path) -> str:
    """The first of "tfds", "coco", "voc" and "yolo" whose layout a folder has.

    Raises:
        ValueError: if the folder is not there, or has no such layout; it says what each needs.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"there is no folder {root}")
    for name, layout in _FORMATS.items():
        if layout.recognised(root):
            return name
    there = sorted(f"{path.name}/" if path.is_dir() else path.name for path in root.iterdir())
    more = ", ..." if len(there) > 8 else ""
    raise ValueError(
        f"{root} is no data set of a known layout; it holds {', '.join(there[:8]) or 'nothing'}"
        f"{more}. A data set is one of\n{_LAYOUTS}"
    )


def split_names(root: str | Path) -> list[str]:
    """The splits of a data set, those to learn from first where the format has an order.

    Raises:
        ValueError: as `data_format`, or if the file that names them is damaged.
        OSError: if that cannot be read.
    """
    return _FORMATS[data_format(root)].splits(Path(root))


def read_records(root: str | Path, split: str) -> SplitRecords:
    """What a split's files say of its pictures; nothing that is wrong with these raises.

    Args:
        root: a folder that `data_format` knows.
        split: one of `split_names`, or a share of it as `share_of` reads it.

    Raises:
        ValueError: if there is no such split, or it is unreadable as a whole.
        OSError: if a file that speaks of all of it cannot be read.
    """
    name, share = share_of(split)
    records = _FORMATS[data_format(root)].records(Path(root), name)
    if share is None:
        return records
    pictures = [picture for picture in records.pictures if share.has(str(picture.path))]
    if not pictures:
        raise ValueError(
            f"{root} has no picture in {split}, of {len(records.pictures)} in {name}; choose "
            "another seed or fraction"
        )
    return dataclasses.replace(records, pictures=pictures)


def _is_coco_folder(root: Path) -> bool:
    return (
        any((root / "annotations").glob("instances_*.json"))
        or any((root / "annotations").glob("image_info_*.json"))
        or any(root.glob(f"*/{BESIDE_PICTURES}"))
    )


@dataclass(frozen=True)
class _Format:
    """What a layout is read with."""

    recognised: Callable[[Path], bool]
    splits: Callable[[Path], list[str]]
    records: Callable[[Path, str], SplitRecords]


_FORMATS = {
    "tfds": _Format(is_tfds_folder, tfds_splits, read_tfds_records),
    "coco": _Format(_is_coco_folder, coco_splits, read_coco_records),
    "voc": _Format(is_voc_folder, voc_splits, read_voc_records),
    "yolo": _Format(is_yolo_folder, yolo_splits, read_yolo_records),
}
