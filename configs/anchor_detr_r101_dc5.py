r"""Anchor DETR with ResNet-101-DC5, as published.

COCO val2017 AP expected: 45.1;
AP50 65.7, AP75 48.8, small 25.8, medium 49.4, large 61.6.

    python convert_torch_weights.py --backbone resnet101-63fe2227.pth backbone/
    python scripts/train.py --config configs/anchor_detr_r101_dc5.py --workdir run/ \
        --config.data.root=path/to/coco --config.backbone_init=backbone/

50 epochs with one picture on each of 8 GPUs, 739,300 steps. The reference names no hours; reckoned
from its 16 pictures/s on a V100 (inference, R50-DC5), 8 of these take roughly 61. With its file:

    python convert_torch_weights.py AnchorDETR_r101_dc5.pth out/
    python scripts/evaluate.py --checkpoint out/ --coco path/to/coco --output results.json
"""

from typing import Any

from ml_collections import ConfigDict

from anchor_detr_jax.backbones.resnet import BLOCKS
from anchor_detr_jax.training.config import TrainConfig, train_config_to_dict


def get_config() -> ConfigDict:
    """The reference's recipe, with another backbone."""
    config: Any = ConfigDict(train_config_to_dict(TrainConfig()))
    config.model.backbone.blocks = BLOCKS[101]
    config.model.backbone.dilation = True
    return config
