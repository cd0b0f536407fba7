r"""Conditional DETR with ResNet-101-DC5, as published.

COCO val2017 AP expected: 45.0;
small 26.1, medium 48.9, large 62.8.

    python convert_torch_weights.py --backbone resnet101-63fe2227.pth backbone/
    python scripts/train.py --config configs/conditional_detr_r101_dc5.py --workdir run/ \
        --config.data.root=path/to/coco --config.backbone_init=backbone/

50 epochs with one picture on each of 8 GPUs, 739,300 steps. With its file:

    python convert_torch_weights.py ConditionalDETR_r101dc5_epoch50.pth out/ --dilation
    python scripts/evaluate.py --checkpoint out/ --coco path/to/coco --output results.json
"""

from typing import Any

from ml_collections import ConfigDict

from anchor_detr_jax.backbones.resnet import BLOCKS
from anchor_detr_jax.models.conditional_detr import ConditionalDETRConfig
from anchor_detr_jax.training.config import TrainConfig, train_config_to_dict


def get_config() -> ConfigDict:
    """The authors' recipe."""
    config: Any = ConfigDict(train_config_to_dict(TrainConfig(model=ConditionalDETRConfig())))
    config.model.backbone.blocks = BLOCKS[101]
    config.model.backbone.dilation = True
    return config
