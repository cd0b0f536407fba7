"""The published models' configurations by name, for machines without ml_collections."""

from __future__ import annotations

import dataclasses

from anchor_detr_jax.backbones.resnet import BLOCKS, ResNetConfig
from anchor_detr_jax.training.config import TrainConfig

__all__ = ["PRESETS"]


def _preset(depth: int, *, dilation: bool) -> TrainConfig:
    default = TrainConfig()
    backbone = ResNetConfig(blocks=BLOCKS[depth], dilation=dilation)
    return dataclasses.replace(default, model=dataclasses.replace(default.model, backbone=backbone))


PRESETS = {
    f"anchor_detr_r{depth}_{'dc5' if dilation else 'c5'}": _preset(depth, dilation=dilation)
    for depth in BLOCKS
    for dilation in (False, True)
}
"""The same as the files of these names in configs/."""
