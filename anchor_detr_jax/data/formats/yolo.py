"""Folders as YOLO has them: a `data.yaml`, and a text file of boxes for each picture.

The boxes of `images/a/b.jpg` are in `labels/a/b.txt`, or beside a picture that is below no
`images`. A line is a class and a box as fractions of the picture, centre and size; or a class and
the corners of a polygon, which stands for the box around it. No file: no boxes.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from anchor_detr_jax.data.formats.listing import unmentioned
from anchor_detr_jax.data.formats.picture_sizes import picture_sizes
from anchor_detr_jax.data.formats.records import BoxRecord, Fault, PictureRecord, SplitRecords
from anchor_detr_jax.data.formats.yolo_yaml import YoloFolder, find_yaml, read_yaml

__all__ = ["is_yolo_folder", "read_yolo_records", "yolo_splits"]

_NO_LABELS = ("classes.txt", "README.txt", "README.dataset.txt", "README.roboflow.txt")
"""What labelling tools put beside labels."""


def is_yolo_folder(root: str | Path) -> bool:
    """Whether a folder has this layout."""
    return find_yaml(root) is not None


def yolo_splits(root: str | Path) -> list[str]:
    """The splits that the folder's `data.yaml` names, where there are pictures of them.

    `train` is always among them if it is named, so that what is wrong with it can be said.

    Raises:
        ValueError, OSError: if there is no such file, or it cannot be read.
    """
    sources = _described(root).sources
    there = [n for n, paths in sources.items() if n == "train" or any(p.exists() for p in paths)]
    return there or list(sources)


def read_yolo_records(root: str | Path, split: str) -> SplitRecords:
    """The records of a split; categories have the classes' numbers as ids.

    The headers of all pictures are read, as fractions alone say no pixels; once, as sizes are kept.

    Raises:
        ValueError: if there is no such split, or the folder's `data.yaml` is none.
        OSError: if that cannot be read.
    """
    folder = _described(root)
    source = str(folder.file)
    if split not in folder.sources:
        splits = ", ".join(folder.sources)
        raise ValueError(f"{source} has no split {split!r}; there are {splits}")
    faults = [Fault("categories", source, folder.fault)] if folder.fault else []
    paths = list(_once(folder.pictures(split), source, faults))
    sizes = picture_sizes(paths, title=f"sizes of {split}")
    pictures = []
    for number, (path, hw) in enumerate(zip(paths, sizes, strict=True), start=1):
        label_file = _label_file(path)
        boxes = tuple(_boxes(label_file, hw, faults))
        pictures.append(PictureRecord(str(label_file), path, number, None, boxes, header_hw=hw))
    mentioned = [*paths, *_others(folder, split)]
    unreferenced = unmentioned({path.parent for path in paths}, mentioned)
    faults += _orphans(paths, [*mentioned, *unreferenced], folder)
    return SplitRecords(source, pictures, folder.categories, faults, unreferenced, by_name=True)


def _described(root: str | Path) -> YoloFolder:
    file = find_yaml(root)
    if file is None:
        raise ValueError(f"{root} has no data.yaml")
    return read_yaml(file)


def _once(paths: Sequence[Path], where: str, faults: list[Fault]) -> Iterator[Path]:
    """Each path, the first time that it occurs."""
    seen: set[str] = set()
    for path in paths:
        name = os.path.normpath(path)
        if name in seen:
            faults.append(Fault("listed twice", where, f"{path} is listed again"))
        else:
            yield path
        seen.add(name)


def _label_files(picture: Path) -> tuple[Path, Path]:
    """Where the boxes of a picture may be: below `labels`, or beside it."""
    parts = list(picture.parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    return Path(*parts).with_suffix(".txt"), picture.with_suffix(".txt")


def _label_file(picture: Path) -> Path:
    """The one of them that is there; else the first."""
    usual, beside = _label_files(picture)
    return beside if usual != beside and not usual.is_file() and beside.is_file() else usual


def _boxes(file: Path, hw: tuple[int, int] | None, faults: list[Fault]) -> Iterator[BoxRecord]:
    """The boxes of a picture of this size."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        faults.append(Fault("label file", str(file), f"it cannot be read ({error})"))
        return
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _box(line, f"{file}:{number}", hw)


def _box(line: str, where: str, hw: tuple[int, int] | None) -> BoxRecord:
    try:
        category, *sides = [float(word) for word in line.split()]
    except ValueError:
        return BoxRecord(where, None, -1, fault=f"it is {line[:50]!r}, expected numbers")
    if not all(map(math.isfinite, (category, *sides))) or category != int(category):
        expected = "a whole number and finite numbers"
        return BoxRecord(where, None, -1, fault=f"it is {line[:50]!r}, expected {expected}")
    if len(sides) == 4:
        x, y, w, h = sides
        fractions = x - w / 2, y - h / 2, x + w / 2, y + h / 2
    elif len(sides) >= 6 and len(sides) % 2 == 0:
        xs, ys = sides[::2], sides[1::2]
        fractions = min(xs), min(ys), max(xs), max(ys)
    else:
        fault = f"{len(sides)} numbers after the class, expected 4, or 6 or more, two a corner"
        return BoxRecord(where, None, int(category), fault=fault)
    if hw is None:
        fault = "its picture has no size that can be read, so it is of no pixels"
        return BoxRecord(where, None, int(category), fault=fault)
    height, width = hw
    x1, y1, x2, y2 = fractions
    xyxy = x1 * width, y1 * height, x2 * width, y2 * height
    return BoxRecord(where, xyxy, int(category))


def _others(folder: YoloFolder, split: str) -> Iterator[Path]:
    """The pictures of the other splits, of those that can be found."""
    for other in folder.sources:
        with contextlib.suppress(ValueError, OSError):
            if other != split:
                yield from folder.pictures(other)


def _orphans(
    pictures: Sequence[Path], there: Sequence[Path], folder: YoloFolder
) -> Iterator[Fault]:
    """Label files beside those of these pictures, of no picture that is there."""
    known = {file for path in there for file in _label_files(path)}
    known |= {source for sources in folder.sources.values() for source in sources}
    for place in sorted({file.parent for path in pictures for file in _label_files(path)}):
        for file in sorted(place.glob("*.txt")):
            if file not in known and file.name not in _NO_LABELS:
                yield Fault("label file without picture", str(file), "there is no such picture")
