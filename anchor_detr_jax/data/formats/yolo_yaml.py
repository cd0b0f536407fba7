"""The `data.yaml` of a YOLO folder: which pictures its splits have, and what its classes are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from anchor_detr_jax.data.categories import Categories, numbered_columns
from anchor_detr_jax.data.formats.listing import pictures_below

__all__ = ["YoloFolder", "find_yaml", "read_yaml"]

_USUAL_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Keys that name pictures, and the split that each stands for."""

_LARGEST = 2**20


@dataclass(frozen=True)
class YoloFolder:
    """What the file says.

    Attributes:
        file: the file itself.
        base: what the paths in it start from.
        sources: by split, the folders, pictures or lists of pictures in it; they may be anywhere,
            as the file is the user's own.
        categories: by the numbers of the classes.
        fault: what is wrong with the names; "" if nothing is.
    """

    file: Path
    base: Path
    sources: dict[str, list[Path]]
    categories: Categories
    fault: str = ""

    def pictures(self, split: str) -> list[Path]:
        """The pictures of a split, in the order of folders and lists; those missing, too.

        Raises:
            ValueError: if a folder or list is not there, or a list is no text.
        """
        found: list[Path] = []
        for source in self.sources[split]:
            if source.is_dir():
                found += pictures_below(source)
            elif source.suffix == ".txt" and source.is_file():
                found += _listed(source, self.base)
            else:
                raise ValueError(
                    f"{self.file} says that {split} is {source}, which is no folder, nor a list "
                    "of pictures that ends in .txt"
                )
        return found


def find_yaml(root: str | Path) -> Path | None:
    """The file of a folder: data.yaml, dataset.yaml, or the only one that has names and train."""
    root = Path(root)
    usual = next((root / name for name in _USUAL_NAMES if (root / name).is_file()), None)
    if usual:
        return usual
    fitting = []
    for file in sorted([*root.glob("*.yaml"), *root.glob("*.yml")]):
        try:
            content = _content(file)
        except (ValueError, OSError):
            continue
        if {"names", "train"} <= set(content):
            fitting.append(file)
    return fitting[0] if len(fitting) == 1 else None


def read_yaml(file: Path) -> YoloFolder:
    """Read and check it; tags that make objects, and aliases, are refused.

    Raises:
        ValueError: if it is no such file; the message says why.
        OSError: if it cannot be read.
    """
    content = _content(file)
    if "kpt_shape" in content:
        raise ValueError(
            f"{file} is of key points (kpt_shape), whose lines look like polygons; "
            "write labels of class x y w h, and take kpt_shape out"
        )
    base, said = file.parent, content.get("path")
    if isinstance(said, str) and (file.parent / said).is_dir():  # it is often another machine's
        base = file.parent / said
    sources: dict[str, list[Path]] = {}
    for key, split in _SPLITS.items():
        value = content.get(key)
        entries = [value] if isinstance(value, str) else value
        if not entries or split in sources:
            continue
        if not isinstance(entries, list) or not all(isinstance(e, str) for e in entries):
            raise ValueError(f"{file}: {key} must be a folder, a .txt list, or a list of these")
        sources[split] = [_located(base, entry) for entry in entries]
    if not sources:
        raise ValueError(f"{file} names no pictures: neither train nor val nor test")
    categories, fault = _categories(content)
    return YoloFolder(file, base, sources, categories, fault)


class _PlainLoader(yaml.SafeLoader):
    """Plain containers only, each as long as it is written."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are refused: a few of them can fill the memory")
        return super().compose_node(parent, index)


def _content(file: Path) -> Mapping[str, Any]:
    with file.open("rb") as stream:
        text = stream.read(_LARGEST + 1)
    if len(text) > _LARGEST:
        raise ValueError(f"{file} has more than {_LARGEST // 2**20} MB, too much for names")
    try:
        content = yaml.load(text, Loader=_PlainLoader)  # noqa: S506 (a safe loader)
    except Exception as error:  # on tags of the wrong kind PyYAML raises what it likes
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{file} cannot be read ({type(error).__name__}: {reason})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds no names with values")
    return content


def _categories(content: Mapping[str, Any]) -> tuple[Categories, str]:
    """The classes, and what is wrong with them."""
    names, count = content.get("names"), content.get("nc")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if names is None and type(count) is int and 0 < count <= 10_000:
        return numbered_columns(count), "it has no names"
    if (
        not isinstance(names, dict)
        or not names
        or not all(type(i) is int and i >= 0 for i in names)
        or not all(isinstance(name, str | int | float) for name in names.values())
    ):
        return Categories((), ()), "names must be a list of names, or names by their numbers"
    ids = tuple(sorted(names))
    fault = ""
    if count is not None and count != len(ids):
        fault = f"nc is {str(count)[:20]}, but there are {len(ids)} names"
    return Categories(ids, tuple(str(names[i]) for i in ids)), fault


def _located(base: Path, entry: str) -> Path:
    """A path of the file; Roboflow writes `../train/images` for what lies beside it.

    That comes first: what lies above may be of another data set.
    """
    if entry.startswith("../") and (base / entry[3:]).exists():
        return base / entry[3:]
    return base / entry


def _listed(file: Path, base: Path) -> list[Path]:
    """The pictures of a list; `./` stands for the list's folder, all else starts at the base."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{file} is no text in UTF-8") from None
    names = [line.strip() for line in lines if line.strip()]
    return [(file.parent if name.startswith("./") else base) / name for name in names]
