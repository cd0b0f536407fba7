"""What stands around a detector's tensors in a file: prefixes, counters, a mask head."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping

import numpy as np

__all__ = ["not_weights", "without_surroundings"]

_IGNORED = {
    "total_ops": "left by a FLOP counter",
    "total_params": "left by a FLOP counter",
    "num_batches_tracked": "a counter of batch norms, which are frozen here",
    "empty_weight": "a loss's weights of the classes",
}
"""Last parts of the names of tensors that are no weights, and why they are there."""
_MASK_HEAD = ("bbox_attention.", "mask_head.")


def not_weights(names: Iterable[str]) -> dict[str, str]:
    """Names of tensors that are no weights, and why they are there."""
    ends = {name: name.rpartition(".")[2] for name in names}
    return {name: _IGNORED[end] for name, end in ends.items() if end in _IGNORED}


def without_surroundings(
    tensors: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The detector's tensors under its own names; and what is ignored, and why.

    Models that were trained on several devices have `module.` before every name. Models with a mask
    head have `detr.` before the detector's: that is what is kept of them, with a warning.
    """
    tensors = _without_prefix(tensors, "module.")
    ignored = not_weights(tensors)
    masks = [name for name in tensors if name.startswith(_MASK_HEAD)]
    if masks:
        warnings.warn(
            "this model has a mask head, and masks are not part of this package: the detector "
            "in it is loaded, and finds boxes alone",
            stacklevel=4,
        )
        ignored |= dict.fromkeys(masks, "part of a mask head; masks are not part of this package")
    kept = {name: tensor for name, tensor in tensors.items() if name not in ignored}
    return _without_prefix(kept, "detr."), ignored


def _without_prefix(tensors: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Names without a prefix that all of them have."""
    if all(name.startswith(prefix) for name in tensors):
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return dict(tensors)
