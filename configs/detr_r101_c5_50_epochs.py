r"""DETR with ResNet-101-C5, trained for 50 epochs by Conditional DETR's authors.

COCO val2017 AP expected: 36.9;
small 15.5, medium 40.6, large 55.6.

    python convert_torch_weights.py --backbone resnet101-63fe2227.pth backbone/
    python scripts/train.py --config configs/detr_r101_c5_50_epochs.py --workdir run/ \
        --config.data.root=path/to/coco --config.backbone_init=backbone/

Two pictures on each of 8 GPUs, 369,650 steps, rates to a tenth after 40 epochs.
"""

from typing import Any

from ml_collections import ConfigDict

from anchor_detr_jax.backbones.resnet import BLOCKS
from anchor_detr_jax.models.detr import DETRConfig
from anchor_detr_jax.training.config import TrainConfig, train_config_to_dict


def get_config() -> ConfigDict:
    """As Conditional DETR's, which it is compared with."""
    config: Any = ConfigDict(train_config_to_dict(TrainConfig(model=DETRConfig())))
    config.model.backbone.blocks = BLOCKS[101]
    config.data.batch_size = 16
    return config
