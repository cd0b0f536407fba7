"""Data sets in COCO's layout."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from anchor_detr_jax.data.formats.listing import stays_below
from anchor_detr_jax.data.transforms import open_rgb

__all__ = [
    "BESIDE_PICTURES",
    "CocoDataset",
    "CocoImage",
    "annotation_content",
    "coco_splits",
    "locate_split",
    "read_annotation_file",
    "read_coco",
    "read_coco_split",
]

BESIDE_PICTURES = "_annotations.coco.json"
"""What Roboflow calls the annotations of the pictures beside it."""


@dataclass(frozen=True)
class CocoImage:
    """One image of a data set.

    Attributes:
        id: of the image.
        path: where it lies, or what messages call it.
        encoded: gives its bytes, where it is no file of its own.
    """

    id: int
    path: Path
    encoded: Callable[[], bytes] | None = None

    def opened(self) -> Image.Image:
        """The picture as it is stored, in RGB: boxes belong to it before any EXIF rotation.

        Raises:
            ValueError: if it is no picture, or a damaged one; it is named.
            OSError: if it cannot be read.
        """
        file = self.path if self.encoded is None else io.BytesIO(self.encoded())
        return open_rgb(file, apply_exif_rotation=False, name=str(self.path))


@dataclass(frozen=True)
class CocoDataset:
    """A split: its images in the file's order, and the file that describes them.

    Attributes:
        annotated: False where the file says nothing of what is in the images, as for test-dev.
    """

    images: list[CocoImage]
    annotations: Path
    annotated: bool = True


def read_coco(
    annotations: str | Path, images: str | Path, *, root: str | Path | None = None
) -> CocoDataset:
    """The data set of an annotation file and the folder with its pictures.

    Args:
        annotations: the file.
        images: what the names of pictures start from.
        root: folder that no name may lead out of; None: `images`.

    Raises:
        ValueError: if the file is no COCO annotation file, or pictures are missing.
        OSError: if it cannot be read.
    """
    annotations, images = Path(annotations), Path(images)
    content = read_annotation_file(annotations)
    if not all(isinstance(image.get("file_name"), str) for image in content["images"]):
        raise ValueError(f"{annotations} is no COCO annotation file (an image without file_name)")
    found = [CocoImage(image["id"], images / image["file_name"]) for image in content["images"]]
    root = Path(root or images)
    astray = next((image for image in found if not stays_below(root, image.path)), None)
    if astray:
        name = os.path.relpath(astray.path, images)
        raise ValueError(
            f"{annotations}: image {astray.id}: its file_name {name!r} is not below {root}"
        )
    missing = [str(image.path) for image in found if not image.path.is_file()]
    if missing:
        raise ValueError(
            f"{annotations} names {len(missing)} of {len(found)} pictures that are not there, "
            f"first {missing[0]}; is {images} the right folder?"
        )
    return CocoDataset(found, annotations, annotated=bool(content.get("annotations")))


def read_coco_split(root: str | Path, split: str) -> CocoDataset:
    """A split such as `val2017` of a COCO folder, as `locate_split` finds it.

    Raises:
        ValueError: as `read_coco` and `locate_split`.
        OSError: if a file cannot be read.
    """
    return read_coco(*locate_split(root, split), root=root)


def locate_split(root: str | Path, split: str) -> tuple[Path, Path]:
    """Annotation file and picture folder of a split such as `val2017` of a COCO folder.

    Pictures are in `split/` or `images/split/`, annotations in `annotations/instances_split.json`
    or, for a split that COCO keeps its annotations of to itself, `image_info_split.json`. The
    pictures of `test-dev2017` are some of those in `test2017/`. Or both are in `split/`, as
    Roboflow exports them: the annotations as `_annotations.coco.json`.

    Raises:
        ValueError: if there is no such split; it names what was looked for.
    """
    root = Path(root)
    if (root / split / BESIDE_PICTURES).is_file():
        return root / split / BESIDE_PICTURES, root / split
    folders = [root / split, root / "images" / split]
    if "test-dev" in split:
        whole = split.replace("test-dev", "test")
        folders += [root / whole, root / "images" / whole]
    files = [root / "annotations" / f"{kind}_{split}.json" for kind in ("instances", "image_info")]
    images = next((folder for folder in folders if folder.is_dir()), None)
    annotations = next((file for file in files if file.is_file()), None)
    if images and annotations:
        return annotations, images
    faults = []
    if not images:
        looked_for = " nor ".join(f"{folder.relative_to(root)}/" for folder in folders)
        faults.append(f"no pictures of {split!r}: neither {looked_for}")
    if not annotations:
        looked_for = " nor ".join(str(file.relative_to(root)) for file in files)
        faults.append(f"no annotation file of {split!r}: neither {looked_for}")
    raise ValueError(f"{root} has {'; and '.join(faults)}")


def coco_splits(root: str | Path) -> list[str]:
    """The splits of a COCO folder that have annotations and pictures; none, if it is no such."""
    root = Path(root)
    files = sorted((root / "annotations").glob("instances_*.json"))
    names = [file.stem.removeprefix("instances_") for file in files]
    names += sorted(file.parent.name for file in root.glob(f"*/{BESIDE_PICTURES}"))
    found = []
    for name in dict.fromkeys(names):
        with contextlib.suppress(ValueError):
            locate_split(root, name)
            found.append(name)
    return found


def read_annotation_file(path: Path) -> dict[str, Any]:
    """What is in a COCO annotation file, whose images have ids of their own.

    Raises:
        ValueError: if it is none; the message says why.
        OSError: if it cannot be read.
    """
    content = annotation_content(path)
    try:
        ids = [dict(image)["id"] for image in content["images"]]
    except (ValueError, TypeError, KeyError) as error:
        fault = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path} is no COCO annotation file ({fault})") from None
    seen: set[int] = set()
    for image_id in ids:
        if type(image_id) is not int:
            raise ValueError(f"{path} has an image with id {image_id!r}, expected a whole number")
        if image_id in seen:
            raise ValueError(f"{path} has more than one image with id {image_id}")
        seen.add(image_id)
    return content


def annotation_content(path: Path) -> dict[str, Any]:
    """What is in a JSON file with a list of `images`; of what is in that, nothing is checked.

    Raises:
        ValueError: if it is none; the message says why.
        OSError: if it cannot be read.
    """
    try:
        content = json.loads(path.read_bytes())
        for key, otherwise in (("images", None), ("annotations", []), ("categories", [])):
            if not isinstance(content.get(key, otherwise), list):
                raise TypeError(f"its {key} are no list")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        fault = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path} is no COCO annotation file ({fault})") from None
    return content
