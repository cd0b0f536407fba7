"""Being told to stop: by the user, or by a cluster that wants its machine back."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

__all__ = ["StopSignals"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_HOSTS_AGREE_EVERY = 10
"""Steps between two times that hosts ask each other, which makes them wait for each other."""


class StopSignals:
    """Takes note of SIGTERM and SIGINT, so that a run can save and leave.

    A second SIGINT ends it at once.

    Attributes:
        received: the first signal, or None.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.received is None:
            self.received = signal.Signals(number)
        elif number == signal.SIGINT:
            raise KeyboardInterrupt

    def stop_after(self, step: int) -> bool:
        """Whether to end after this step; all hosts come to the same answer."""
        if jax.process_count() == 1:
            return self.received is not None
        if step % _HOSTS_AGREE_EVERY:
            return False
        asked = multihost_utils.process_allgather(np.array(self.received or 0))
        if asked.any() and self.received is None:
            self.received = signal.Signals(int(asked.max()))
        return bool(asked.any())
