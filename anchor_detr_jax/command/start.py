"""How a command starts and ends."""

from __future__ import annotations

import io
import os
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from absl import app, logging

from anchor_detr_jax.command.accelerators import unused_accelerator
from anchor_detr_jax.command.command_line import parsed
from anchor_detr_jax.command.program_cache import keep_compiled_programs

__all__ = ["run_command"]


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
        keep_compiled_programs()
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


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    """A user's warning in one line; a programmer's as Python shows it."""
    if issubclass(category, UserWarning):
        print(f"warning: {message}", file=sys.stderr)
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))
