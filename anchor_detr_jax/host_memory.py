"""Memory of the host that a process holds and does not use."""

from __future__ import annotations

import ctypes

__all__ = ["give_back_freed_memory"]


def give_back_freed_memory() -> None:
    """Have glibc give the system back what was freed; nothing where there is another C library.

    It keeps what many small pieces took, such as those of a compilation, for pieces as small.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):  # TypeError: Windows
        return
