"""What Orbax raises, and what it puts on the terminal beside that."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["quiet_orbax", "system_error"]


@contextmanager
def quiet_orbax() -> Iterator[None]:
    """Leave out Orbax's warnings and logged errors, which come with all its threads' tracebacks.

    And those tracebacks that Python prints where a first failed write or read has ended an event
    loop, and TensorStore tells that loop of the next ones.
    """
    log, before = logging.getLogger("absl"), sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    log.addFilter(_not_orbax)
    sys.unraisablehook = hook
    try:
        yield
    finally:
        log.removeFilter(_not_orbax)
        if sys.unraisablehook is hook:
            sys.unraisablehook = before


def _not_orbax(record: logging.LogRecord) -> bool:
    return record.levelno < logging.WARNING or "orbax" not in Path(record.pathname).parts


def system_error(error: Exception) -> int | None:
    """The system's number of what went wrong, if it did; TensorStore has it in its text."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"(?:os_error_code='|OS error )(\d+)", str(error))
    return int(found[1]) if found else None
