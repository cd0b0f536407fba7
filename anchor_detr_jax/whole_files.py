"""Files that are whole at any time, whenever the process or the disk gives out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["append_whole", "file_written_whole"]


@contextmanager
def file_written_whole(path: Path) -> Iterator[BinaryIO]:
    """A new file, which takes its name, and the place of what has it, when it is full.

    Raises:
        OSError: if it cannot be written; it has the file's name, and the old file stays.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    with _naming(path):
        try:
            with unfinished.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


def append_whole(path: Path, content: bytes) -> None:
    """Add to a file, made if need be, all of this or, where that fails, nothing.

    Raises:
        OSError: if it cannot be written; it has the file's name.
    """
    with _naming(path), path.open("ab", buffering=0) as file:
        end = file.tell()
        try:
            left = memoryview(content)
            while left:
                left = left[file.write(left) :]
        except OSError:
            with suppress(OSError):
                file.truncate(end)
            raise


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """What the system says of a failed write does not name the file."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
