"""Folders as Pascal VOC has them: one XML file for each picture.

`Annotations/*.xml` describe `JPEGImages/*`, and `ImageSets/Main/SPLIT.txt` list the names of a
split, without their endings. Where there are no lists, all that is annotated is one split, `all`.

Corners count pixels from 1, and both are inside the box: x1 = xmin - 1, y1 = ymin - 1, x2 = xmax,
y2 = ymax. Where both corners are one point nothing was drawn, and the box gets no area, though by
that rule it would have one of a pixel.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

from anchor_detr_jax.data.categories import Categories
from anchor_detr_jax.data.formats.listing import names_in, pictures_below
from anchor_detr_jax.data.formats.records import BoxRecord, Fault, PictureRecord, SplitRecords
from anchor_detr_jax.data.formats.xml_tree import read_xml

__all__ = ["is_voc_folder", "read_voc_records", "voc_splits"]

_ALL = "all"
_USUAL = ("train", "val", "trainval", "test")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def is_voc_folder(root: str | Path) -> bool:
    """Whether a folder has this layout."""
    return all((Path(root) / name).is_dir() for name in ("Annotations", "JPEGImages"))


def voc_splits(root: str | Path) -> list[str]:
    """The splits that have a list, the usual ones first; or `all`.

    VOC's lists of one class, such as `cat_train.txt` beside `train.txt`, are none.
    """
    lists = names_in(Path(root) / "ImageSets" / "Main")
    names = {name.removesuffix(".txt") for name in lists if name.endswith(".txt")}
    others = sorted(
        n for n in names.difference(_USUAL) if "_" not in n or n.rpartition("_")[2] not in names
    )
    return [*(name for name in _USUAL if name in names), *others] or [_ALL]


def read_voc_records(root: str | Path, split: str) -> SplitRecords:
    """The records of a split; categories have ids from 1, in the order of their names.

    The names are those of all annotations of the folder, so that its splits agree about the ids.
    Files are found by listing folders: no name in a list or an annotation is ever followed.

    Raises:
        ValueError: if there is no such split, or its list is no text.
        OSError: if that cannot be read.
    """
    root = Path(root)
    splits = voc_splits(root)
    if split not in splits:
        raise ValueError(f"{root} has no split {split!r}; there are {', '.join(splits)}")
    folder = _Folder.listed(root)
    entries = _parsed(folder.annotations)
    names = sorted({name for entry in entries.values() for name in _names(entry)})
    faults: list[Fault] = []
    pictures: list[PictureRecord] = []
    for key, where in _once(folder.keys(split), faults):
        entry = entries.get(key)
        if entry is None:
            faults.append(Fault("no annotation file", where, f"no Annotations/{key}.xml"))
        elif isinstance(entry, str):
            faults.append(Fault("annotation file", str(folder.annotations[key]), entry))
        else:
            pictures.append(folder.picture(key, entry, len(pictures) + 1))
    mentioned = folder.mentioned(splits) | {picture.path for picture in pictures}
    return SplitRecords(
        source=str(root / "Annotations"),
        pictures=pictures,
        categories=Categories(tuple(range(1, len(names) + 1)), tuple(names)),
        faults=faults,
        unreferenced=[path for path in folder.all_pictures() if path not in mentioned],
        by_name=True,
    )


def _once(listed: Iterable[tuple[str, str]], faults: list[Fault]) -> Iterator[tuple[str, str]]:
    """Each key, the first time that it is listed."""
    seen: set[str] = set()
    for key, where in listed:
        if key in seen:
            faults.append(Fault("listed twice", where, f"{key!r} stands here again"))
        else:
            yield key, where
        seen.add(key)


@dataclass(frozen=True)
class _Folder:
    """What there is; keys are paths in the two folders, without an ending."""

    root: Path
    annotations: dict[str, Path]
    pictures: dict[str, list[Path]]

    @classmethod
    def listed(cls, root: Path) -> _Folder:
        annotations = root / "Annotations"
        pictures: dict[str, list[Path]] = {}
        for path in pictures_below(root / "JPEGImages"):
            pictures.setdefault(_key(path, root / "JPEGImages"), []).append(path)
        files = sorted(annotations.rglob("*.xml"))
        return cls(root, {_key(path, annotations): path for path in files}, pictures)

    def keys(self, split: str) -> Iterator[tuple[str, str]]:
        """What a split lists, and where."""
        file = self.root / "ImageSets" / "Main" / f"{split}.txt"
        if split == _ALL and not file.is_file():
            yield from ((key, str(path)) for key, path in self.annotations.items())
            return
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise ValueError(f"{file} is no text in UTF-8") from None
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield self._known(line.strip()), f"{file}:{number}"

    def all_pictures(self) -> list[Path]:
        """In the order of their paths."""
        return sorted(path for paths in self.pictures.values() for path in paths)

    def mentioned(self, splits: Sequence[str]) -> set[Path]:
        """The pictures that these splits list, as far as their lists can be read."""
        keys: list[str] = []
        for split in splits:
            with contextlib.suppress(ValueError, OSError):
                keys += [key for key, _ in self.keys(split)]
        return {path for key in keys for path in self.pictures.get(key, ())}

    def _known(self, listed: str) -> str:
        """The key that a line means: 1, 0 and -1 may follow it, and an ending."""
        bare = re.sub(r"\s+-?[01]$", "", listed)
        known = (k for k in (listed, bare, _without_ending(bare)) if k in self.annotations)
        return next(known, bare)

    def picture(self, key: str, entry: Element, number: int) -> PictureRecord:
        """The record of an annotation file."""
        file, name = self.annotations[key], (entry.findtext("filename") or "").strip()
        found = self.pictures.get(key) or [
            path for path in self.pictures.get(_without_ending(name), ()) if path.name == name
        ]
        best = [path for path in found if path.name == name] or found
        return PictureRecord(
            where=str(file),
            path=best[0] if best else self.root / "JPEGImages" / f"{key}.jpg",
            id=number,
            declared_hw=_hw(entry),
            boxes=tuple(
                _box(found, f"{file}: object {i}")
                for i, found in enumerate(entry.findall("object"), start=1)
            ),
        )


def _key(path: Path, folder: Path) -> str:
    return _without_ending(path.relative_to(folder).as_posix())


def _without_ending(name: str) -> str:
    return name.rpartition(".")[0] or name


def _parsed(files: Mapping[str, Path]) -> dict[str, Element | str]:
    """The root element of each file, or what is wrong with it."""
    found: dict[str, Element | str] = {}
    for key, file in files.items():
        try:
            found[key] = read_xml(file)
        except (ValueError, OSError) as error:
            found[key] = str(error)
    return found


def _names(entry: Element | str) -> Iterator[str]:
    """Of the categories in an annotation; those of parts, as of a person's head, do not count."""
    objects: Sequence[Element] = entry.findall("object") if isinstance(entry, Element) else ()
    return (name for found in objects if (name := (found.findtext("name") or "").strip()))


def _hw(entry: Element) -> tuple[int, int] | None:
    height, width = (_number(entry.findtext(f"size/{side}")) for side in ("height", "width"))
    if height is None or width is None or not 1 <= min(height, width) <= max(height, width) < 2**31:
        return None
    return int(height), int(width)


def _box(found: Element, where: str) -> BoxRecord:
    name = (found.findtext("name") or "").strip()
    texts = [found.findtext(f"bndbox/{corner}") for corner in _CORNERS]
    corners = [number for text in texts if (number := _number(text)) is not None]
    difficult = (found.findtext("difficult") or "").strip() == "1"
    if not name or len(corners) < 4:
        fault = "it has no name" if not name else (
            f"its box is {dict(zip(_CORNERS, texts, strict=True))}, expected four finite numbers"
        )  # fmt: skip
        return BoxRecord(where, None, name, difficult=difficult, fault=fault)
    xmin, ymin, xmax, ymax = corners
    x1, y1 = xmin - 1, ymin - 1
    x2, y2 = (x1, y1) if (xmin, ymin) == (xmax, ymax) else (xmax, ymax)
    return BoxRecord(where, (x1, y1, x2, y2), name, difficult=difficult)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None
