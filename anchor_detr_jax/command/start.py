"""How a command starts and ends."""

from __future__ import annotations

import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

from absl import app, logging

from anchor_detr_jax.command.accelerators import unused_accelerator
from anchor_detr_jax.command.command_line import parsed

__all__ = ["compilation_cache", "run_command"]


def run_command(
    main: Callable[[list[str]], int | None], *, default_config: str | Path | None = None
) -> None:
    """Parse flags and run `main` with what is left of the command line.

    The exit code is what it returns, or 0. What the user can mend (ValueError, OSError) ends in one
    message and exit code 1. Compiled programs are kept for the next run, where `compilation_cache`
    says.

    Args:
        main: the command.
        default_config: what --config is where it is not given. A default that ml_collections itself
            knows would be read, with all changes to it, before anything here can answer for them.
    """
    if default_config and not any(re.match("--?config(=|$)", one) for one in sys.argv):
        sys.argv.insert(1, f"--config={default_config}")  # ml_collections looks there too

    def guarded(arguments: list[str]) -> int:
        logging.set_verbosity(logging.WARNING)
        warnings.showwarning = _show_warning
        _keep_compiled_programs()
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # files may have names of any bytes
        if note := unused_accelerator(os.environ):
            print(note, file=sys.stderr)
        try:
            return main(arguments[1:]) or 0
        except (ValueError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130

    app.run(guarded, flags_parser=parsed)


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


def _keep_compiled_programs() -> None:
    folder = compilation_cache(os.environ)
    if folder is None:
        return
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)  # for a JAX that is imported from here on
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_compilation_cache_dir", str(folder))


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    """A user's warning in one line; a programmer's as Python shows it."""
    if issubclass(category, UserWarning):
        print(f"warning: {message}", file=sys.stderr)
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))
