"""COCO folders as TFDS data sets, in few large files; written without TensorFlow.

TFDS' `GeneratorBasedBuilder` sorts what passes 1 GB, for which it needs TensorFlow. The
`ShardBasedBuilder` writes what comes, in its order.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from anchor_detr_jax.data.annotations import FaultList, categories_of, checked_box_xywh
from anchor_detr_jax.data.coco import locate_split, read_annotation_file
from anchor_detr_jax.data.tfds_index import read_index
from anchor_detr_jax.data.tfds_records import LAYOUT_VERSION, MARK, Records, header_hw

__all__ = ["coco_splits", "prepare_coco_folder"]

_SHARD_BYTES = 256 * 2**20
"""About how large a file may become."""


@dataclass(frozen=True)
class _Image:
    """A picture to write.

    Attributes:
        hw: height and width in pixels.
        size: of the file, in bytes.
        objects: what is in it.
    """

    id: int
    name: str
    path: Path
    hw: tuple[int, int]
    size: int
    objects: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class _Split:
    """A split to write; its categories as the annotation file has them."""

    images: list[_Image]
    categories: list[dict[str, Any]]


def coco_splits(root: str | Path) -> list[str]:
    """The splits of a COCO folder that have annotations and pictures.

    Raises:
        ValueError: if there are none.
    """
    root = Path(root)
    files = sorted((root / "annotations").glob("instances_*.json"))
    names = [file.stem.removeprefix("instances_") for file in files]
    splits = [n for n in names if (root / n).is_dir() or (root / "images" / n).is_dir()]
    if not splits:
        raise ValueError(
            f"{root} has no split in COCO's layout: annotations/instances_SPLIT.json with SPLIT/ "
            "or images/SPLIT/"
        )
    return splits


def prepare_coco_folder(
    root: str | Path,
    data_dir: str | Path,
    *,
    splits: Sequence[str] | None = None,
    on_bad: str = "stop",
) -> Path:
    """Write a COCO folder as a TFDS data set in array_record, in the annotation files' order.

    `data_dir` appears when all of it is written. Pictures keep their bytes; crowd boxes are kept;
    boxes and areas become float32; segmentations are left out.

    Args:
        root: folder in COCO's layout.
        data_dir: folder to write, not there yet or empty.
        splits: such as `train2017`; none given: all that have annotations and pictures.
        on_bad: as for `read_coco_training`; "skip" does not write what has a fault.

    Returns:
        The folder that `read_tfds_training` reads, which is `data_dir`.

    Raises:
        FileExistsError: if there is something in `data_dir`.
        ValueError: for faults, and splits that are not there.
        OSError: if a file cannot be read or written.
    """
    root, target = Path(root), Path(data_dir).absolute()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise FileExistsError(f"{target} exists; choose another folder or remove it first")
    names = list(splits or coco_splits(root))
    found = {name: _read_split(root, name, on_bad) for name in names}
    unfinished = target.with_name(f".{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed
    try:
        written = _write(found, unfinished)
        for name in names:  # shows that all can be read, and keeps the index
            read_index(Records(written, name), written, name)
        written.replace(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return Path(data_dir)


def _read_split(root: Path, split: str, on_bad: str) -> _Split:
    """What a split holds, checked as for training."""
    if not re.fullmatch(r"[\w-]+", split) or split.lower() == "all":
        raise ValueError(
            f"split {split!r}: in TFDS, a name has letters, digits, _ and -; not 'all'"
        )
    file, folder = locate_split(root, split)
    content, faults = read_annotation_file(file), FaultList(str(file), on_bad)
    images = {image.id: image for image in _sound_images(content["images"], folder, faults)}
    left_out = {image["id"] for image in content["images"]} - set(images)
    seen: set[Any] = set()
    for annotation in content.get("annotations", []):
        try:
            if annotation.get("image_id") not in left_out:
                _add(annotation, images, seen)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            name = annotation.get("id") if isinstance(annotation, Mapping) else annotation
            faults.add(f"annotation {name}: {reason}")
    faults.settled()
    if not images:
        raise ValueError(f"{file} has no picture to write")
    if content.get("categories"):  # training may name them itself
        categories_of(content["categories"], str(file))
    objects = [found for image in images.values() for found in image.objects]
    if not all(type(found["id"]) is int and 0 <= found["id"] < 2**63 for found in objects):
        for number, found in enumerate(objects, start=1):
            found["id"] = number
    return _Split(list(images.values()), content.get("categories", []))


def _sound_images(
    entries: Sequence[Mapping[str, Any]], folder: Path, faults: FaultList
) -> Iterator[_Image]:
    """The images whose pictures are there."""
    for entry in entries:
        name = entry.get("file_name")
        if not isinstance(name, str):
            faults.add(f"image {entry['id']}: no file_name")
            continue
        path = folder / name
        if not path.is_file():
            faults.add(f"picture {path} is not there")
            continue
        listed: Any = entry.get("height"), entry.get("width")
        hw = listed if all(type(s) is int and s > 0 for s in listed) else header_hw(path)
        if hw is None:
            faults.add(f"picture {path} is not readable")
            continue
        yield _Image(entry["id"], name, path, hw, path.stat().st_size)


def _add(annotation: Mapping[str, Any], images: Mapping[int, _Image], seen: set[Any]) -> None:
    """Put an annotation into its image.

    Raises:
        ValueError, TypeError, KeyError, AttributeError, OverflowError: for one with a fault.
    """
    if "id" in annotation:
        if annotation["id"] in seen:
            raise ValueError("its id occurs twice")
        seen.add(annotation["id"])
    if annotation["image_id"] not in images:
        raise ValueError(f"there is no image {annotation['image_id']}")
    category = annotation["category_id"]
    if int(category) != category:
        raise ValueError(f"its category is {category!r}, expected a whole number")
    image = images[annotation["image_id"]]
    box = checked_box_xywh(annotation["bbox"], image.hw)
    area = annotation.get("area")
    image.objects.append(
        {
            "id": annotation.get("id"),
            "bbox": box,
            "category_id": int(category),
            "iscrowd": bool(annotation.get("iscrowd", 0)),
            "area": area if isinstance(area, int | float) else box[2] * box[3],
        }
    )


def _write(splits: Mapping[str, _Split], folder: Path) -> Path:
    """Write all into a new folder; returns the folder in it that TFDS reads."""
    from tensorflow_datasets.core.download import DownloadConfig

    pictures = sum(len(split.images) for split in splits.values())
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

        class CocoFolder(tfds.core.ShardBasedBuilder):
            """A folder in COCO's layout."""

            VERSION = tfds.core.Version("1.0.0")
            # To look for lists of downloads beside it, TFDS needs a package that it does not name.
            code_path = None

            def _info(self) -> tfds.core.DatasetInfo:
                mark = {
                    "version": LAYOUT_VERSION,
                    "prepared_id": uuid.uuid4().hex,
                    "categories": {name: split.categories for name, split in splits.items()},
                }
                return tfds.core.DatasetInfo(
                    builder=self,
                    features=_features(),
                    metadata=tfds.core.MetadataDict({MARK: mark}),
                )

            def _shard_iterators_per_split(self, dl_manager: Any) -> dict[str, Any]:
                del dl_manager
                return {name: _shards(split.images, written) for name, split in splits.items()}

    return CocoFolder(data_dir=folder, file_format="array_record")


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
                    "area": np.float32,
                }
            ),
        }
    )


def _shards(
    images: Sequence[_Image], written: Callable[[], object]
) -> list[Callable[[], Iterator[tuple[int, dict[str, Any]]]]]:
    """A function for each file to write, which gives the records in it."""
    size = sum(image.size for image in images)
    count = min(len(images), 1 + size // _SHARD_BYTES)
    ends = [round(len(images) * i / count) for i in range(count + 1)]
    parts = [range(start, end) for start, end in itertools.pairwise(ends)]
    return [functools.partial(_records, images, part, written) for part in parts]


def _records(
    images: Sequence[_Image], part: range, written: Callable[[], object]
) -> Iterator[tuple[int, dict[str, Any]]]:
    for number in part:
        image = images[number]
        record = {
            "image": image.path.read_bytes(),
            "image/filename": image.name,
            "image/id": image.id,
            "image/height": image.hw[0],
            "image/width": image.hw[1],
            "objects": image.objects,
        }
        yield number, record
        written()
