r"""Anchor DETR with ResNet-101-C5, as published.

COCO val2017 AP expected: 43.5;
AP50 64.3, AP75 46.6, small 23.2, medium 47.7, large 61.4.

    python convert_torch_weights.py --backbone resnet101-63fe2227.pth backbone/
    python scripts/train.py --config configs/anchor_detr_r101_c5.py --workdir run/ \
        --config.data.root=path/to/coco --config.backbone_init=backbone/

50 epochs with one picture on each of 8 GPUs, 739,300 steps. The reference names no hours; reckoned
from its 16 pictures/s on a V100 (inference, R50-DC5), 8 of these take roughly 43. With its file:

    python convert_torch_weights.py AnchorDETR_r101_c5.pth out/
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
    return config
