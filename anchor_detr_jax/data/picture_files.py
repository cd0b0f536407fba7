"""The pictures and videos that a command line names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

__all__ = ["PICTURES", "VIDEOS", "distinct_stems", "named_files"]

PICTURES = frozenset(
    {
        *(".jpg", ".jpeg", ".jfif", ".mpo", ".jp2", ".avif", ".webp", ".png", ".gif"),
        *(".bmp", ".tif", ".tiff", ".pbm", ".pgm", ".pnm", ".ppm"),
    }
)
"""Suffixes of pictures."""

VIDEOS = frozenset(
    {
        *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts"),
        *(".m2ts", ".wmv", ".flv", ".3gp", ".ogv"),
    }
)
"""Suffixes of videos."""


def named_files(
    names: Sequence[str], suffixes: Iterable[str], *, kind: str = "pictures"
) -> list[Path]:
    """The files that were named, those in the folders that were, and those of the patterns.

    Each comes once. In folders and patterns only files with one of the suffixes count, and no
    hidden ones; what is named itself is taken as it is.

    Args:
        names: files, folders, and patterns such as `photographs/*.jpg`.
        suffixes: in lower case, with the dot.
        kind: what files with these suffixes are called in messages.

    Raises:
        ValueError: for a name that is nothing, or has no such files.
    """
    suffixes = frozenset(suffixes)
    files: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_file():
            files.append(path)
            continue
        if path.is_dir():
            what, among = "folder", path.iterdir()
        elif any(sign in name for sign in "*?["):
            what, among = "pattern", _matches(path)
        else:
            raise ValueError(f"{path}: there is no such file or folder")
        inside = sorted(file for file in among if _is_one_of(suffixes, file))
        if not inside:
            raise ValueError(f"{path}: the {what} has no {kind}")
        files += inside
    return list(dict.fromkeys(files))


def distinct_stems(files: Iterable[Path]) -> Iterator[str]:
    """A name without suffix for each file, no two alike, on any file system."""
    taken = set()
    for file in files:
        stem, count = file.stem, 1
        while stem.lower() in taken:
            count += 1
            stem = f"{file.stem}_{count}"
        taken.add(stem.lower())
        yield stem


def _matches(pattern: Path) -> Iterator[Path]:
    start = Path(pattern.anchor)
    return start.glob(str(pattern.relative_to(start)))


def _is_one_of(suffixes: frozenset[str], path: Path) -> bool:
    hidden = path.name.startswith(".")
    return path.suffix.lower() in suffixes and not hidden and not path.is_dir()
