"""State dicts of other projects, brought to the official names of their family."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from anchor_detr_jax.conversion.foreign.detr_pytorch import DETR_PYTORCH
from anchor_detr_jax.conversion.foreign.detrex import DETREX
from anchor_detr_jax.conversion.foreign.hugging_face import HUGGING_FACE
from anchor_detr_jax.conversion.foreign.renaming import ForeignLayout

__all__ = ["foreign_layout"]

_FOREIGN = (DETREX, DETR_PYTORCH, HUGGING_FACE)


def foreign_layout(tensors: Mapping[str, np.ndarray]) -> ForeignLayout | None:
    """Whose names a state dict has; None: no other project's that is known."""
    return next((layout for layout in _FOREIGN if layout.recognises(tensors)), None)
