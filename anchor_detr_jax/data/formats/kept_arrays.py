"""Arrays that took long to find out, kept in files from one run to the next."""

from __future__ import annotations

import contextlib
import os
import uuid
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["load_arrays", "save_arrays", "user_cache"]


def user_cache() -> Path | None:
    """`anchor_detr_jax` in `XDG_CACHE_HOME`, or in `~/.cache`; None where there is no home."""
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        caches = chosen if chosen.is_absolute() else Path("~/.cache").expanduser()
    except RuntimeError:
        return None
    return caches / "anchor_detr_jax"


def load_arrays(file: Path, key: str) -> dict[str, np.ndarray] | None:
    """What `save_arrays` wrote with this key; None if there is no such file, or it is damaged."""
    try:
        with file.open("rb") as stream, np.load(stream) as content:
            if str(content["key"]) == key:
                return {name: content[name] for name in content.files if name != "key"}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        pass  # then it is made again
    return None


def save_arrays(file: Path, key: str, arrays: Mapping[str, Any]) -> bool:
    """Write a file whole, or not at all; whether it could be written."""
    unfinished = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as stream:
            np.savez_compressed(stream, key=np.array(key), **arrays)
        unfinished.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        return False
    return True
