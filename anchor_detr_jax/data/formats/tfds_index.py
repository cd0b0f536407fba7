"""What all records of a TFDS folder say of their pictures; read once, and kept."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from tqdm import tqdm

from anchor_detr_jax.data.formats.kept_arrays import load_arrays, save_arrays, user_cache
from anchor_detr_jax.data.formats.tfds_records import MARK, Records

__all__ = ["RecordIndex", "read_index"]

_VERSION = 2
"""Of kept indices."""


@dataclass(frozen=True)
class RecordIndex:
    """A split without its pictures, in the records' order; numbers as the records have them.

    Attributes:
        names: of the pictures; empty where the records have none.
        image_ids: counted from 0 where the records have none.
        hw: height and width in pixels; 0, 0 for what is no readable picture.
        starts: picture i has boxes `starts[i]` up to `starts[i + 1]`.
        boxes: in the folder's own format.
        categories: category ids, or numbers of class labels.
        crowd: False where the records do not say it.
        difficult: Pascal VOC's mark; False where the records do not say it.
        areas: in square pixels; 0 where the records do not say it.
        ids: of the annotations; counted from 1 where the records have none.
    """

    names: np.ndarray
    image_ids: Int[np.ndarray, " n"]
    hw: Int[np.ndarray, "n 2"]
    starts: Int[np.ndarray, " n+1"]
    boxes: Float[np.ndarray, "m 4"]
    categories: Int[np.ndarray, " m"]
    crowd: Bool[np.ndarray, " m"]
    difficult: Bool[np.ndarray, " m"]
    areas: Float[np.ndarray, " m"]
    ids: Int[np.ndarray, " m"]


def read_index(records: Records, root: Path, split: str) -> RecordIndex:
    """The index of a split of a folder.

    The first time all records are read, with a progress bar. The index is kept beside them, or
    else in the user's cache folder, for as long as the records stay the same.

    Raises:
        OSError: if a record cannot be read.
    """
    key = _fingerprint(records, root, split)
    files = list(_places(root, split, key))
    for file in files:
        index = _load(file, key)
        if index is not None:
            return index
    index = _scan(records, f"annotations of {split}")
    any(_save(file, key, index) for file in files)  # the first that can be written
    return index


def _scan(records: Records, title: str) -> RecordIndex:
    """Read all records."""
    images, objects = [], []
    for i in tqdm(range(len(records)), desc=title, unit="picture", disable=None):
        record = records.annotations(i)
        objects.append(record.pop("objects"))
        images.append({key: [value] for key, value in record.items()})
    counts = [len(of_one["bbox"]) for of_one in objects]
    nothing, numbers = np.zeros(sum(counts)), np.arange(1, sum(counts) + 1)
    names = [image.get("image/filename", [b""])[0].decode(errors="replace") for image in images]
    return RecordIndex(
        names=np.array(names, np.str_),
        image_ids=_column(images, ["image/id"], np.int64, np.arange(len(images))),
        hw=_column(images, ["hw"], np.int64, np.zeros((0, 2))),
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes=_column(objects, ["bbox"], np.float32, nothing).reshape(-1, 4),
        categories=_column(objects, ["category_id", "label"], np.int64, nothing),
        crowd=_column(objects, ["iscrowd", "is_crowd"], np.bool_, nothing),
        difficult=_column(objects, ["difficult", "is_difficult"], np.bool_, nothing),
        areas=_column(objects, ["area"], np.float32, nothing),
        ids=_column(objects, ["id"], np.int64, numbers),
    )


def _column(
    rows: Sequence[Mapping[str, Any]], keys: Sequence[str], dtype: type, otherwise: np.ndarray
) -> np.ndarray:
    """The values under the first of these keys that there is, of all rows one after another."""
    key = next((key for key in keys if rows and key in rows[0]), None)
    values = np.array([value for row in rows for value in row[key]] if key else otherwise)
    return (values if values.dtype.kind in "biuf" else otherwise).astype(dtype)


def _fingerprint(records: Records, root: Path, split: str) -> str:
    """What changes with the records.

    A folder of ours has a name of its own, so that a copy of it keeps its index; of others, the
    files' times say that they were written again.
    """
    prepared_id = records.layout.prepared_id
    digest = hashlib.sha256(f"{_VERSION} {split} {prepared_id}".encode())
    for name in ("dataset_info.json", "features.json"):
        digest.update((root / name).read_bytes())
    for shard in records.shards:
        stat = shard.stat()
        time = 0 if prepared_id else stat.st_mtime_ns
        digest.update(f"{shard.name} {stat.st_size} {time}".encode())
    return digest.hexdigest()


def _places(root: Path, split: str, key: str) -> Iterator[Path]:
    """Where an index may be kept."""
    yield root / f"{MARK}-{split}.npz"
    caches = user_cache()
    if caches is not None:
        yield caches / f"tfds-{key[:16]}.npz"


def _load(file: Path, key: str) -> RecordIndex | None:
    """The index in a file, if it is there, whole, and of these records."""
    arrays = load_arrays(file, key)
    try:
        return RecordIndex(**arrays) if arrays else None
    except TypeError:  # of another version
        return None


def _save(file: Path, key: str, index: RecordIndex) -> bool:
    """Whether it could be written."""
    arrays = {field.name: getattr(index, field.name) for field in dataclasses.fields(index)}
    return save_arrays(file, key, arrays)
