"""Sizes of pictures by their headers, which are read once and kept."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from anchor_detr_jax.data.formats.kept_arrays import load_arrays, save_arrays, user_cache

__all__ = ["header_hw", "picture_sizes"]

_VERSION = "picture sizes 1"
"""Of kept sizes."""

_THREADS = 16
"""Files on other machines are waited for, most of the time."""

_NOTHING = ((-2, -2), None)
"""Stands for a picture of which nothing was kept."""


def header_hw(file: Path | io.BytesIO) -> tuple[int, int] | None:
    """Height and width that a picture says it has, which is not decoded; None if it is none.

    They are of the pixels as they are stored, before any EXIF rotation.
    """
    try:
        with Image.open(file) as picture:
            return picture.height, picture.width
    except Exception:  # on damaged files, decoders raise what they like
        return None


def picture_sizes(paths: Sequence[Path], *, title: str) -> list[tuple[int, int] | None]:
    """`header_hw` of files, in their order.

    Sizes are kept in the user's cache folder, where that can be written, and looked up there for as
    long as a file's length and time stay the same.

    Args:
        paths: the files; those that are not there are no pictures.
        title: says on a progress bar what is read.
    """
    names = [os.path.abspath(path) for path in paths]  # noqa: PTH100
    marks = [_mark(name) for name in names]
    file = _kept_file(names)
    kept = _kept(file) if file else {}
    unknown = [i for i, name in enumerate(names) if kept.get(name, _NOTHING)[0] != marks[i]]
    if unknown:
        with ThreadPoolExecutor(_THREADS) as pool:
            found = pool.map(header_hw, [paths[i] for i in unknown])
            bar = tqdm(found, desc=title, total=len(unknown), unit="picture", disable=None)
            for i, hw in zip(unknown, bar, strict=True):
                kept[names[i]] = marks[i], hw
        if file:
            _keep(file, kept)
    return [kept[name][1] for name in names]


def _mark(name: str) -> tuple[int, int]:
    """Length and time of a file, which change with its content."""
    try:
        stat = os.stat(name)  # noqa: PTH116
    except OSError:
        return -1, -1
    return stat.st_size, stat.st_mtime_ns


def _kept(file: Path) -> dict[str, tuple[tuple[int, int], tuple[int, int] | None]]:
    """Mark, height and width by a picture's name, as they were kept."""
    arrays = load_arrays(file, _VERSION)
    if arrays is None:
        return {}
    rows = zip(arrays["names"].tolist(), arrays["numbers"].tolist(), strict=True)
    return {name: ((length, time), (h, w)) for name, (length, time, h, w) in rows}


def _keep(file: Path, sizes: Mapping[str, tuple[tuple[int, int], tuple[int, int] | None]]) -> None:
    """Write them down, but for what is no picture: it may be one that was being copied."""
    rows = [(name, (*mark, *hw)) for name, (mark, hw) in sizes.items() if hw]
    arrays = {
        "names": np.array([name for name, _ in rows], np.str_),
        "numbers": np.array([numbers for _, numbers in rows], np.int64).reshape(-1, 4),
    }
    save_arrays(file, _VERSION, arrays)


def _kept_file(names: Sequence[str]) -> Path | None:
    """A file for the pictures of these folders, whichever of them a split has."""
    caches = user_cache()
    if caches is None or not names:
        return None
    folders = sorted({os.path.dirname(name) for name in names})  # noqa: PTH120
    digest = hashlib.sha256("\n".join(folders).encode(errors="surrogateescape")).hexdigest()
    return caches / f"sizes-{digest[:16]}.npz"
