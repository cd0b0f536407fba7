"""What one host finds out for all, so that they go on together."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

__all__ = ["from_first_host"]

T = TypeVar("T")


def from_first_host(ask: Callable[[], T]) -> T:
    """What a function returns on the first host, on all of them; the others do not call it.

    All hosts call this; none goes on before the first one has its answer.

    Raises:
        ValueError, OSError: on all hosts, if the function raises it on the first.
    """
    if jax.process_count() == 1:
        return ask()
    answer: Any = None
    if jax.process_index() == 0:
        try:
            answer = ask()
        except (ValueError, OSError) as error:
            answer = error
    answer = _broadcast(answer)
    if isinstance(answer, Exception):
        raise answer
    return answer


def _broadcast(value: Any) -> Any:
    """The first host's value."""
    content = np.frombuffer(pickle.dumps(value), np.uint8)
    length = int(multihost_utils.broadcast_one_to_all(np.array(len(content))))
    buffer = np.zeros(length, np.uint8)
    if jax.process_index() == 0:
        buffer[:] = content
    said = np.asarray(multihost_utils.broadcast_one_to_all(buffer))
    return pickle.loads(said.tobytes())  # noqa: S301 (from a host of the same run)
