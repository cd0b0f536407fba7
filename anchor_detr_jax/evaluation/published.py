"""The AP that is published for the models of each family, on COCO val2017.

Source: the authors' READMEs and, for what those leave out of DETR, table 1 of its paper. Where a
model was trained for several lengths, the AP is that of the published file, or of the authors'
main recipe.
"""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

from anchor_detr_jax.backbones.resnet import BLOCKS, ResNetConfig
from anchor_detr_jax.models.anchor_detr import AnchorDETRConfig
from anchor_detr_jax.models.build import ModelConfig
from anchor_detr_jax.models.conditional_detr import ConditionalDETRConfig
from anchor_detr_jax.models.detr import DETRConfig
from anchor_detr_jax.models.smca import SMCAConfig

__all__ = ["published_ap"]

_Figures: TypeAlias = tuple[float, *tuple[float | None, ...]]

_PUBLISHED: dict[type, dict[tuple[int, bool], _Figures]] = {
    AnchorDETRConfig: {
        (50, False): (42.1, 63.1, 44.9, 22.3, 46.2, 60.0),
        (50, True): (44.2, 64.7, 47.5, 24.7, 48.2, 60.6),
        (101, False): (43.5, 64.3, 46.6, 23.2, 47.7, 61.4),
        (101, True): (45.1, 65.7, 48.8, 25.8, 49.4, 61.6),
    },
    ConditionalDETRConfig: {
        (50, False): (41.0, None, None, 20.6, 44.3, 59.3),
        (50, True): (43.7, None, None, 23.9, 47.6, 60.1),
        (101, False): (42.8, None, None, 21.7, 46.6, 60.9),
        (101, True): (45.0, None, None, 26.1, 48.9, 62.8),
    },
    DETRConfig: {
        (50, False): (42.0, 62.4, 44.2, 20.5, 45.8, 61.1),
        (50, True): (43.3, 63.1, 45.9, 22.5, 47.3, 61.1),
        (101, False): (43.5, 63.8, 46.4, 21.9, 48.0, 61.8),
        (101, True): (44.9, 64.7, 47.7, 23.7, 49.5, 62.3),
    },
    SMCAConfig: {(50, False): (41.0, None, None, None, None, None)},
}
"""By depth of the ResNet and whether it is a DC5."""


def published_ap(config: ModelConfig) -> _Figures | None:
    """AP, AP50, AP75, AP small, medium and large in per cent; None for an unpublished model.

    A figure that is not published is None.
    """
    config = dataclasses.replace(config, num_classes=91)  # detrex has the same models with 80
    family = type(config)
    for (depth, dilation), figures in _PUBLISHED[family].items():
        if config == family(backbone=ResNetConfig(blocks=BLOCKS[depth], dilation=dilation)):
            return figures
    return None
