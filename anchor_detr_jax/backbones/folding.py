"""Frozen batch norms as part of the convolutions that they follow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anchor_detr_jax.backbones.resnet import norm_of
from anchor_detr_jax.layers.normalization import scale_and_shift

__all__ = ["folded_batch_norms"]


def folded_batch_norms(params: Mapping[str, Any], frozen: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a `ResNet` with `folded=True`, which does what that of these does.

    Args:
        params: of a `ResNet`, or of a part of one.
        frozen: its batch norms; empty where it has others.
    """
    folded = {}
    for name, part in params.items():
        norm = frozen.get(norm_of(name))
        if "kernel" in part and norm is not None:
            scale, shift = scale_and_shift(norm)
            folded[name] = {"kernel": part["kernel"] * scale, "bias": shift}
        elif "kernel" in part or "scale" in part:
            folded[name] = dict(part)
        else:
            folded[name] = folded_batch_norms(part, frozen.get(name, {}))
    return folded
