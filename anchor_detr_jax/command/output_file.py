"""The file that a command is asked to write."""

from __future__ import annotations

import os
from pathlib import Path

from anchor_detr_jax.whole_files import file_written_whole

__all__ = ["check_output_file", "write_output_file"]


def check_output_file(flag: str, file: Path) -> None:
    """See that a file can be written, before hours are spent on what goes into it.

    Args:
        flag: that names the file, without its dashes.
        file: what it was given.

    Raises:
        ValueError: if its folder is not there or cannot be written to, or it is a folder.
    """
    folder = file.absolute().parent
    if not folder.is_dir():
        fault = f"{folder} is a file" if folder.exists() else f"there is no folder {folder}"
        raise ValueError(f"--{flag} {file}: {fault}")
    if file.is_dir():
        raise ValueError(f"--{flag} {file} is a folder, expected a file's name")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"--{flag} {file}: {folder} cannot be written to")


def write_output_file(file: Path, text: str) -> None:
    """Write all of it, or nothing; what has the name is replaced.

    Raises:
        OSError: if it cannot be written.
    """
    with file_written_whole(file) as stream:
        stream.write(text.encode())
