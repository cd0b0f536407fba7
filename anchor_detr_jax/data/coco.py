"""Data sets in COCO's layout."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["CocoDataset", "CocoImage", "read_coco", "read_coco_split"]


@dataclass(frozen=True)
class CocoImage:
    """One image of a data set: its id, and where it lies."""

    id: int
    path: Path


@dataclass(frozen=True)
class CocoDataset:
    """A split: its images in the file's order, and the file that describes them."""

    images: list[CocoImage]
    annotations: Path


def read_coco(annotations: str | Path, images: str | Path) -> CocoDataset:
    """The data set of an annotation file and the folder with its pictures.

    Raises:
        ValueError: if the file is no COCO annotation file, or pictures are missing.
        OSError: if it cannot be read.
    """
    annotations, images = Path(annotations), Path(images)
    listed = _read_images(annotations)
    found = [CocoImage(int(image["id"]), images / image["file_name"]) for image in listed]
    missing = [str(image.path) for image in found if not image.path.is_file()]
    if missing:
        raise ValueError(
            f"{annotations} names {len(missing)} of {len(found)} pictures that are not there, "
            f"first {missing[0]}; is {images} the right folder?"
        )
    return CocoDataset(found, annotations)


def read_coco_split(root: str | Path, split: str) -> CocoDataset:
    """A split such as `val2017` of a COCO folder; pictures in `root/split` or `root/images/split`.

    Raises:
        ValueError, OSError: as `read_coco`.
    """
    root = Path(root)
    candidates = [root / split, root / "images" / split]
    images = next((folder for folder in candidates if folder.is_dir()), None)
    if images is None:
        raise ValueError(
            f"{root} has no pictures of {split!r}: neither {split}/ nor images/{split}/"
        )
    return read_coco(root / "annotations" / f"instances_{split}.json", images)


def _read_images(annotations: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(annotations.read_bytes())
        images = content["images"]
        if all({"id", "file_name"} <= image.keys() for image in images):
            return images
        fault = "an image without id or file_name"
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        fault = f"{type(error).__name__}: {error}"
    raise ValueError(f"{annotations} is no COCO annotation file ({fault})")
