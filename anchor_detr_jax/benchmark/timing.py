"""Programs timed in turn."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

__all__ = ["is_out_of_memory", "stage", "timed_in_turn"]

K = TypeVar("K", bound=Hashable)

_SIGNS = ("RESOURCE_EXHAUSTED", "out of memory", "Unable to allocate")
"""What JAX, PyTorch and numpy say where memory does not suffice."""


def timed_in_turn(
    runs: Mapping[K, Callable[[], Any]], count: int, *, warm_up: int = 2
) -> dict[K, list[float]]:
    """Seconds of `count` runs of each program; each waits for its result by itself.

    They take turns, so that what else the machine does meets all of them alike. The first `warm_up`
    runs of each are not counted.
    """
    for run in runs.values():
        for _ in range(warm_up):
            run()
    seconds: dict[K, list[float]] = {name: [] for name in runs}
    for _ in range(count):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return seconds


@contextmanager
def stage(text: str) -> Iterator[None]:
    """Say on the screen what is being done, and how long it took."""
    print(f"{text} ...", end="", file=sys.stderr, flush=True)
    started, end = time.perf_counter(), " not done"
    try:
        yield
        end = f" {time.perf_counter() - started:.1f} s"
    finally:
        print(end, file=sys.stderr, flush=True)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it says that there is no memory left."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in _SIGNS)
