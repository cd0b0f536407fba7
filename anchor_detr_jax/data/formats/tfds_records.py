"""The records of a folder that TensorFlow Datasets prepared; without TensorFlow."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anchor_detr_jax.data.categories import Categories
from anchor_detr_jax.data.formats.coco_records import categories_of
from anchor_detr_jax.data.formats.picture_sizes import header_hw

__all__ = ["LAYOUT_VERSION", "MARK", "Layout", "Records", "open_folder"]

MARK = "anchor_detr_jax"
"""Key in a folder's metadata under which ours say how they were made."""

LAYOUT_VERSION = 1
"""Of the records of our folders, and of what is under that key."""

_OBJECT_FEATURES = (
    *("bbox", "category_id", "label", "iscrowd", "is_crowd", "difficult", "is_difficult"),
    *("area", "id"),
)
_SIZE_FEATURES = (("image/height", "image/width"), ("height", "width"))


@dataclass(frozen=True)
class Layout:
    """How the records of a split are to be understood.

    Attributes:
        prepared_id: of a folder of ours, what no other preparation has; empty for others.
        box_format: as TFDS names it: XYWH in pixels, or REL_YXYX and the like.
        categories: of ours with their ids, of others numbered as the class labels are; None where
            a folder of ours does not say it.
        by_name: as in `SplitRecords`.
    """

    prepared_id: str
    box_format: str
    categories: Categories | None
    by_name: bool

    def called(self, category: int) -> int | str:
        """A category of the records: ours by its id, others' by the class label's name."""
        if self.prepared_id or self.categories is None or category not in self.categories.ids:
            return category
        return self.categories.names[category] or category


class Records:
    """The records of a split, at random; safe with threads.

    Attributes:
        layout: how to understand them.
        shards: the files that they are in.

    Raises:
        ValueError: if there is no such split, or the folder is not as it must be.
    """

    def __init__(self, root: str | Path, split: str) -> None:
        import tensorflow_datasets as tfds

        root = Path(root)
        info, self._source = _open_source(root, split)
        self.layout = _layout(root, split, info)
        self.shards = [Path(path) for path in info.splits[split].filepaths]
        missing = [path.name for path in self.shards if not path.is_file()]
        if missing:
            raise ValueError(
                f"{root} lacks {len(missing)} of {len(self.shards)} files of {split}, "
                f"first {missing[0]}"
            )
        features, self._name = info.features, f"{root} {split}"
        stored = [keys for keys in _SIZE_FEATURES if all(key in features for key in keys)]
        self._size_features = stored[0] if stored else None
        wanted = ["image/filename", "image/id", *(self._size_features or ["image"])]
        objects = features["objects"].feature
        objects = {key: objects[key] for key in _OBJECT_FEATURES if key in objects}
        self._picture = tfds.features.FeaturesDict({"image": features["image"]})
        self._annotations = tfds.features.FeaturesDict(
            {key: features[key] for key in wanted if key in features}
            | {"objects": tfds.features.Sequence(objects)}
        )
        self._left_encoded = {"image": tfds.decode.SkipDecoding()}

    def __len__(self) -> int:
        return len(self._source)

    def encoded(self, number: int) -> bytes:
        """A picture as its file had it.

        Raises:
            OSError: if the record cannot be read.
        """
        return self._parsed(self._picture, number)["image"]

    def annotations(self, number: int) -> dict[str, Any]:
        """What a record says of its picture, which is not decoded.

        Returns:
            `objects`, `hw` ((0, 0) for what is no readable picture), and where the records have
            them `image/filename` and `image/id`.

        Raises:
            OSError: if the record cannot be read.
        """
        record = self._parsed(self._annotations, number)
        if self._size_features:
            record["hw"] = tuple(int(record[key]) for key in self._size_features)
        else:
            record["hw"] = header_hw(io.BytesIO(record.pop("image"))) or (0, 0)
        return record

    def _parsed(self, features: Any, number: int) -> dict[str, Any]:
        decoders = self._left_encoded if "image" in features else None
        try:
            return features.deserialize_example_np(self._source[number], decoders=decoders)
        except Exception as error:  # on damaged files, readers raise what they like
            raise OSError(f"{self._name}: record {number} cannot be read ({error})") from error


def open_folder(root: Path) -> Any:
    """TFDS' builder of a folder.

    Raises:
        ValueError: if TFDS did not prepare it.
    """
    import tensorflow_datasets as tfds

    try:
        return tfds.builder_from_directory(root)
    except Exception as error:  # TFDS raises what it likes on files that are not its own
        raise ValueError(f"{root} is no folder that TFDS prepared ({error})") from None


def _open_source(root: Path, split: str) -> tuple[Any, Any]:
    """TFDS' description of a folder, and the bytes of a split's records."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.file_adapters import FileFormat

    builder = open_folder(root)
    info, needed = builder.info, FileFormat.ARRAY_RECORD
    if split not in list(info.splits):
        raise ValueError(f"{root} has no split {split!r}; there are {', '.join(info.splits)}")
    if not info.splits[split].num_examples:
        raise ValueError(f"{root} has no picture in {split}")
    if needed not in info.available_file_formats():
        raise ValueError(
            f"{root} is in format {getattr(info.file_format, 'value', None)}, and array_record is "
            "needed, which is read at random; prepare the data set again with "
            "file_format='array_record', or convert it where TensorFlow is installed: tfds "
            f"convert_format --dataset_version_dir={root} --out_file_format=array_record "
            "--out_dir=NEW"
        )
    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    return info, builder.as_data_source(split, deserialize_method=raw, file_format=needed)


def _layout(root: Path, split: str, info: Any) -> Layout:
    mark = dict(info.metadata or {}).get(MARK)
    if mark is None:
        box_format, names = _others_annotations(root, info.features)
        return Layout("", box_format, Categories(tuple(range(len(names))), names), True)
    if not isinstance(mark, Mapping) or mark.get("version") != LAYOUT_VERSION:
        raise ValueError(
            f"{root} was prepared by another version, whose layout this one does not read; "
            "prepare it again with scripts/prepare_tfds.py"
        )
    entries = mark["categories"][split]
    categories = categories_of(entries, f"{root} {split}") if entries else None
    return Layout(mark["prepared_id"], "XYWH", categories, mark.get("by_name", False))


def _others_annotations(root: Path, features: Any) -> tuple[str, tuple[str, ...]]:
    """Box format and class names of a folder that is not ours."""
    from tensorflow_datasets.core.features import BBoxFeature, ClassLabel
    from tensorflow_datasets.core.features import Image as Picture

    top = dict(getattr(features, "items", dict)())
    objects = dict(getattr(getattr(top.get("objects"), "feature", None), "items", dict)())
    picture, box, label = top.get("image"), objects.get("bbox"), objects.get("label")
    kinds = ((picture, Picture), (box, BBoxFeature), (label, ClassLabel))
    if not (box and label and all(isinstance(feature, kind) for feature, kind in kinds)):
        raise ValueError(
            f"{root} has {features}, expected at least image (Image), and objects, a Sequence of "
            "bbox (BBoxFeature) and label (ClassLabel)"
        )
    # Before TFDS could store the format, there was but one.
    return getattr(box.bbox_format, "value", "REL_YXYX"), tuple(label.names)
