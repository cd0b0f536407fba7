"""What Orbax raises, and what it puts on the terminal beside that."""

from __future__ import annotations

import functools
import logging
import re
import sys
import warnings
from pathlib import Path
from typing import Any

__all__ = ["quiet_orbax", "system_error"]


def quiet_orbax() -> None:
    """Leave out what Orbax prints beside the error that it raises: tracebacks of all its threads.

    That is its warnings and logged errors, and what asyncio and Python say of its tasks and event
    loops that a failed write ended. Until the process ends, because its threads outlive it.
    """
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_worth_saying)
    warnings.filterwarnings("ignore", r"coroutine 'async_serialize", RuntimeWarning)
    _pass_over_closed_loops()


@functools.cache
def _pass_over_closed_loops() -> None:
    """Where a first failed write has closed an event loop, TensorStore tells it of the others."""
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = hook


def _worth_saying(record: logging.LogRecord) -> bool:
    """Whether a message is of something else, or no more than information."""
    said = record.getMessage()
    of_orbax = "orbax" in Path(record.pathname).parts or "/orbax/" in said or "OCDBT" in said
    return record.levelno < logging.WARNING or not of_orbax


def system_error(error: Exception) -> int | None:
    """The system's number of what went wrong, if it did; TensorStore has it in its text."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"(?:os_error_code='|OS error )(\d+)", str(error))
    return int(found[1]) if found else None
