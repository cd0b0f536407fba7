"""How a command starts and ends."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable

from absl import app, logging

__all__ = ["run_command"]


def run_command(main: Callable[[list[str]], None]) -> None:
    """Parse flags and run `main` with what is left of the command line.

    What the user can mend (ValueError, OSError) ends in one message and exit code 1.
    """

    def guarded(arguments: list[str]) -> int:
        logging.set_verbosity(logging.WARNING)
        warnings.showwarning = _show_warning
        try:
            main(arguments[1:])
        except (ValueError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        return 0

    app.run(guarded)


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    """A user's warning in one line; a programmer's as Python shows it."""
    if issubclass(category, UserWarning):
        print(f"warning: {message}", file=sys.stderr)
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))
