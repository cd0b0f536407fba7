"""Data sets of any layout as TFDS data sets, in few large files; written without TensorFlow.

TFDS' `GeneratorBasedBuilder` sorts what passes 1 GB, for which it needs TensorFlow. The
`ShardBasedBuilder` writes what comes, in its order.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from anchor_detr_jax.data.categories import Categories
from anchor_detr_jax.data.formats.annotations import (
    FaultList,
    SoundPicture,
    columns_of,
    sound_pictures,
)
from anchor_detr_jax.data.formats.coco_content import box_xywh
from anchor_detr_jax.data.formats.layout import data_format, read_records, split_names
from anchor_detr_jax.data.formats.tfds_index import read_index
from anchor_detr_jax.data.formats.tfds_records import LAYOUT_VERSION, MARK, Records

__all__ = ["prepare_tfds_folder"]

_ALL, _TRAIN = "all", "train"
_SHARD_BYTES = 256 * 2**20
"""About how large a file may become."""


@dataclass(frozen=True)
class _Split:
    """A split to write.

    Attributes:
        pictures: those without a fault.
        names: of their files, below the folder that they share.
        id_of: the category id of what boxes name.
        categories: none where the data set does not say them.
        by_name: as in `SplitRecords`.
    """

    pictures: list[SoundPicture]
    names: list[str]
    id_of: dict[int | str, int]
    categories: Categories
    by_name: bool


def prepare_tfds_folder(
    root: str | Path,
    data_dir: str | Path,
    *,
    splits: Sequence[str] | None = None,
    on_bad: str = "stop",
) -> Path:
    """Write a data set of any layout as one of TFDS in array_record, in its own order.

    `data_dir` appears when all of it is written. Pictures keep their bytes; crowd boxes are kept,
    and boxes without an area; boxes and areas become float32; segmentations are left out.

    Args:
        root: folder in COCO's, VOC's or YOLO's layout.
        data_dir: folder to write, not there yet or empty.
        splits: such as `train2017`; none given: all that there are. `all`, which VOC folders
            without lists have and TFDS cannot have, becomes `train`.
        on_bad: as for `annotated_dataset`; "skip" does not write what has a fault.

    Returns:
        The folder that `read_tfds_records` reads, which is `data_dir`.

    Raises:
        FileExistsError: if there is something in `data_dir`.
        ValueError: for faults, and splits that are not there.
        OSError: if a file cannot be read or written.
    """
    root, target = Path(root), Path(data_dir).absolute()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise FileExistsError(f"{target} exists; choose another folder or remove it first")
    if data_format(root) == "tfds":
        raise ValueError(f"{root} is a data set of TFDS already; train on it as it is")
    names = list(splits or split_names(root))
    if _ALL in names and len(names) > 1:
        raise ValueError(
            f"{root} has {', '.join(names)}; 'all' would become 'train' and share pictures with "
            "the others: say splits without it, or it alone"
        )
    if not names:
        raise ValueError(f"{root} has no split that has both pictures and annotations")
    found = {_TRAIN if name == _ALL else name: _read_split(root, name, on_bad) for name in names}
    unfinished = target.with_name(f".{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed
    try:
        written = _write(found, unfinished)
        for name in found:  # shows that all can be read, and keeps the index
            read_index(Records(written, name), written, name)
        written.replace(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return Path(data_dir)


def _read_split(root: Path, split: str, on_bad: str) -> _Split:
    """What a split holds, checked as for training."""
    if not re.fullmatch(r"[\w-]+", split):
        raise ValueError(f"split {split!r}: in TFDS, a name has letters, digits, _ and -")
    records = read_records(root, split)
    faults = FaultList(records.source, on_bad)
    own = records.categories  # without any, training may name them itself
    column_of = columns_of(records, None) if len(own) else {}
    pictures = sound_pictures(records, faults, known=column_of.__contains__ if column_of else None)
    faults.settled()
    if not pictures:
        raise ValueError(f"{records.source} has no picture to write")
    folder = os.path.commonpath([picture.record.path.parent for picture in pictures])
    names = [picture.record.path.relative_to(folder).as_posix() for picture in pictures]
    id_of = {category: own.ids[column] for category, column in column_of.items()}
    return _Split(pictures, names, id_of, own, records.by_name)


def _write(splits: Mapping[str, _Split], folder: Path) -> Path:
    """Write all into a new folder; returns the folder in it that TFDS reads."""
    from tensorflow_datasets.core.download import DownloadConfig

    pictures = sum(len(split.pictures) for split in splits.values())
    with tqdm(total=pictures, desc="writing", unit="picture", disable=None) as progress:
        builder = _builder(splits, folder, progress.update)
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS speaks of a download
            builder.download_and_prepare(
                download_dir=folder / "downloads",
                download_config=DownloadConfig(try_download_gcs=False),
            )
    return Path(builder.data_dir)


def _builder(splits: Mapping[str, _Split], folder: Path, written: Callable[[], object]) -> Any:
    """TFDS' maker of a data set; `written` is called for each picture."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.registered import skip_registration

    with skip_registration():

        class PreparedFolder(tfds.core.ShardBasedBuilder):
            """A folder of any layout."""

            VERSION = tfds.core.Version("1.0.0")
            # To look for lists of downloads beside it, TFDS needs a package that it does not name.
            code_path = None

            def _info(self) -> tfds.core.DatasetInfo:
                mark = {
                    "version": LAYOUT_VERSION,
                    "prepared_id": uuid.uuid4().hex,
                    "categories": {n: split.categories.to_json() for n, split in splits.items()},
                    "by_name": any(split.by_name for split in splits.values()),
                }
                return tfds.core.DatasetInfo(
                    builder=self,
                    features=_features(),
                    metadata=tfds.core.MetadataDict({MARK: mark}),
                )

            def _shard_iterators_per_split(self, dl_manager: Any) -> dict[str, Any]:
                del dl_manager
                return {name: _shards(split, written) for name, split in splits.items()}

    return PreparedFolder(data_dir=folder, file_format="array_record")


def _features() -> Any:
    from tensorflow_datasets.core import features as kinds

    return kinds.FeaturesDict(
        {
            "image": kinds.Image(),
            "image/filename": kinds.Text(),
            "image/id": np.int64,
            "image/height": np.int64,
            "image/width": np.int64,
            "objects": kinds.Sequence(
                {
                    "id": np.int64,
                    # TFDS' own boxes are fractions, from which pixels do not come back exactly.
                    "bbox": kinds.Tensor(shape=(4,), dtype=np.float32),
                    "category_id": np.int64,
                    "iscrowd": np.bool_,
                    "difficult": np.bool_,
                    "area": np.float32,
                }
            ),
        }
    )


def _shards(
    split: _Split, written: Callable[[], object]
) -> list[Callable[[], Iterator[tuple[int, dict[str, Any]]]]]:
    """A function for each file to write, which gives the records in it."""
    size = sum(picture.record.path.stat().st_size for picture in split.pictures)
    count = min(len(split.pictures), 1 + size // _SHARD_BYTES)
    ends = [round(len(split.pictures) * i / count) for i in range(count + 1)]
    parts = [range(start, end) for start, end in itertools.pairwise(ends)]
    first_ids = _first_ids(split)
    return [functools.partial(_records, split, part, first_ids, written) for part in parts]


def _first_ids(split: _Split) -> list[int] | None:
    """What to count each picture's boxes from; None where all have ids of their own."""
    ids = [box.id for picture in split.pictures for box in picture.boxes]
    if all(id_ is not None and 0 <= id_ < 2**63 for id_ in ids):
        return None
    return list(itertools.accumulate((len(p.boxes) for p in split.pictures), initial=1))


def _records(
    split: _Split, part: range, first_ids: list[int] | None, written: Callable[[], object]
) -> Iterator[tuple[int, dict[str, Any]]]:
    for number in part:
        picture = split.pictures[number]
        record = {
            "image": picture.record.path.read_bytes(),
            "image/filename": split.names[number],
            "image/id": picture.record.id,
            "image/height": picture.hw[0],
            "image/width": picture.hw[1],
            "objects": [
                _object(split, picture, i, first_ids[number] + i if first_ids else None)
                for i in range(len(picture.boxes))
            ],
        }
        yield number, record
        written()


def _object(split: _Split, picture: SoundPicture, i: int, id_: int | None) -> dict[str, Any]:
    box = picture.boxes[i]
    xywh = box_xywh(box, picture.hw)
    return {
        "id": box.id if id_ is None else id_,
        "bbox": np.array(xywh, np.float32),
        "category_id": split.id_of.get(box.category, box.category),
        "iscrowd": box.crowd,
        "difficult": box.difficult,
        "area": xywh[2] * xywh[3] if box.area is None else box.area,
    }
