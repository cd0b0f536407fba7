"""Which pictures lie in folders, and which names in a file may be followed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from anchor_detr_jax.data.picture_files import PICTURES

__all__ = ["names_in", "pictures_below", "stays_below", "unmentioned"]


def pictures_below(folder: Path) -> list[Path]:
    """All pictures of a folder and of those in it, in the order of their paths.

    Hidden files and folders are passed over.
    """
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in files if _is_picture(name)]
    return sorted(found)


def names_in(folder: Path) -> set[str]:
    """Names of the files of a folder; none, if there is no such folder."""
    if not folder.is_dir():
        return set()
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.is_file()}


def unmentioned(folders: Iterable[Path], mentioned: Iterable[Path]) -> list[Path]:
    """The pictures directly in these folders that are not among those mentioned."""
    known = {os.path.normpath(path) for path in mentioned}
    return sorted(
        folder / name
        for folder in {Path(os.path.normpath(folder)) for folder in folders}
        for name in names_in(folder)
        if _is_picture(name) and str(folder / name) not in known
    )


def stays_below(root: Path, path: Path) -> bool:
    """Whether a path is one of a folder's by its words; links in it are the user's own."""
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(root))  # noqa: PTH100


def _is_picture(name: str) -> bool:
    suffix = os.path.splitext(name)[1]  # noqa: PTH122 (there may be a hundred thousand)
    return not name.startswith(".") and suffix.lower() in PICTURES
