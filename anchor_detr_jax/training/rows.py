"""What a step is worth writing down, by name."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from anchor_detr_jax.losses import Losses
from anchor_detr_jax.training.optimizer import Schedule
from anchor_detr_jax.training.step import StepMetrics

__all__ = ["StepClock", "metrics_row"]


def metrics_row(
    metrics: StepMetrics, schedules: Mapping[str, Schedule], step: int
) -> dict[str, float]:
    """Losses, norms and learning rates of a step; the same to the bit whenever it is done.

    `loss/classes` and so on are the last layer's, unweighted; `loss/classes_0` the first's.
    """
    losses: Losses = metrics.losses
    row = {"loss/total": float(losses.total)}
    parts = {"classes": losses.classes, "l1": losses.l1, "giou": losses.giou}
    for name, values in parts.items():
        row[f"loss/{name}"] = float(values[-1])
    for name, values in parts.items():
        row |= {f"loss/{name}_{layer}": float(value) for layer, value in enumerate(values[:-1])}
    if losses.cardinality_error is not None:
        row["cardinality_error"] = float(losses.cardinality_error[-1])
    row |= {
        "class_error": float(losses.class_error),
        "grad_norm": float(metrics.grad_norm),
        "update_norm": float(metrics.update_norm),
    }
    # Beside the devices, which are busy with the next step.
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        rates = {f"lr/{group}": float(np.asarray(rate(step))) for group, rate in schedules.items()}
    return row | rates


@dataclass
class StepClock:
    """How fast steps go, from one row of the log to the next.

    Attributes:
        steps: done since the last row.
        waiting: seconds in which the devices' next batch was waited for.
        compiling: seconds in which programs were compiled; they count as no time at all.
    """

    steps: int = 0
    waiting: float = 0.0
    compiling: float = 0.0
    started: float = 0.0

    def __post_init__(self) -> None:
        self.started = time.perf_counter()

    def row(self, batch_size: int) -> dict[str, float]:
        """Speed since the last row; begins anew."""
        seconds = max(time.perf_counter() - self.started - self.compiling, 1e-9)
        row = {
            "images_per_second": self.steps * batch_size / seconds,
            "seconds_per_step": seconds / max(self.steps, 1),
            "data_wait": min(self.waiting / seconds, 1.0),
        }
        self.__init__()
        peak = [_peak_bytes(device) for device in jax.local_devices()]
        if any(peak):
            row["device_memory_gib"] = float(np.max(peak)) / 2**30
        return row


def _peak_bytes(device: Any) -> int:
    """The most that was in use; 0 where the device does not say, as on the CPU."""
    return int((device.memory_stats() or {}).get("peak_bytes_in_use", 0))
