"""The AP that the reference publishes for its models, on COCO val2017."""

from __future__ import annotations

import dataclasses

from anchor_detr_jax.backbones.resnet import BLOCKS, ResNetConfig
from anchor_detr_jax.models.anchor_detr import AnchorDETRConfig
from anchor_detr_jax.models.build import ModelConfig

__all__ = ["published_ap"]

_PUBLISHED = {
    (50, False): (42.1, 63.1, 44.9, 22.3, 46.2, 60.0),
    (50, True): (44.2, 64.7, 47.5, 24.7, 48.2, 60.6),
    (101, False): (43.5, 64.3, 46.6, 23.2, 47.7, 61.4),
    (101, True): (45.1, 65.7, 48.8, 25.8, 49.4, 61.6),
}


def published_ap(config: ModelConfig) -> tuple[float, ...] | None:
    """AP, AP50, AP75, AP small, medium and large in per cent; None for an unpublished model."""
    config = dataclasses.replace(config, num_classes=91)  # detrex has the same models with 80
    for (depth, dilation), figures in _PUBLISHED.items():
        backbone = ResNetConfig(blocks=BLOCKS[depth], dilation=dilation)
        if config == AnchorDETRConfig(backbone=backbone):
            return figures
    return None
