"""Where compiled programs are kept, so that the next run starts with them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["compilation_cache", "keep_compiled_programs"]


def compilation_cache(environment: Mapping[str, str]) -> Path | None:
    """The folder that compiled programs are kept in; made if need be.

    `JAX_COMPILATION_CACHE_DIR` is the user's word, and left to JAX. Else it is `anchor_detr_jax` in
    `XDG_CACHE_HOME`, or in `~/.cache`.

    Returns:
        None where JAX decides, and where the folder cannot be written: then nothing is kept.
    """
    if "JAX_COMPILATION_CACHE_DIR" in environment:
        return None
    chosen = Path(environment.get("XDG_CACHE_HOME", ""))
    try:
        caches = chosen if chosen.is_absolute() else Path("~/.cache").expanduser()
        folder = caches / "anchor_detr_jax"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def keep_compiled_programs() -> None:
    """Have JAX keep its programs in `compilation_cache`, unless it was told where, or not to."""
    folder = compilation_cache(os.environ)
    jax = sys.modules.get("jax")
    if folder is None or (jax and jax.config.jax_compilation_cache_dir):
        return
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)  # for a JAX that is imported from here on
    if jax:
        jax.config.update("jax_compilation_cache_dir", str(folder))
