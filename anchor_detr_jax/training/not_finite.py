"""A loss or a gradient that is NaN or infinite: what is kept of its batch, and said."""

from __future__ import annotations

import math
from pathlib import Path

import jax
import numpy as np

from anchor_detr_jax.data.pipeline import TrainingBatch
from anchor_detr_jax.training.step import StepMetrics
from anchor_detr_jax.whole_files import file_written_whole

__all__ = ["NonFiniteLossError", "check_finite"]


class NonFiniteLossError(ValueError):
    """A loss or a gradient is NaN or infinite; the message names the step and the pictures."""


def check_finite(
    batch: TrainingBatch, metrics: StepMetrics, folder: Path, last_checkpoint: int | None
) -> None:
    """Refuse to go on after a step whose loss or gradient is not finite.

    Args:
        batch: of the step, or this host's part of it.
        metrics: of the step, on the host.
        folder: where the batch is written then, as `not_finite_step_STEP_host_HOST.npz`.
        last_checkpoint: its step, for the message.

    Raises:
        NonFiniteLossError: if it is not.
    """
    loss, grad_norm = float(metrics.losses.total), float(metrics.grad_norm)
    if math.isfinite(loss) and math.isfinite(grad_norm):
        return
    step = batch.step + 1
    file = folder / f"not_finite_step_{step}_host_{jax.process_index()}.npz"
    try:
        with file_written_whole(file) as stream:
            arrays = vars(batch.images) | vars(batch.targets)
            np.savez_compressed(stream, names=np.array(batch.names), **arrays)
        kept = f"the batch is in {file}"
    except OSError as error:
        kept = f"the batch could not be written ({error})"
    raise NonFiniteLossError(
        f"step {step}: the loss is {loss}, the gradient's norm {grad_norm}; pictures "
        f"{', '.join(filter(None, batch.names))}; {kept}; "
        + (
            f"the checkpoint of step {last_checkpoint} stays"
            if last_checkpoint
            else "there is no checkpoint yet"
        )
    )
