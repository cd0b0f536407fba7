r"""Conditional DETR with ResNet-50-C5, as published.

COCO val2017 AP expected: 41.0;
small 20.6, medium 44.3, large 59.3.

    python convert_torch_weights.py --backbone resnet50-0676ba61.pth backbone/
    python scripts/train.py --config configs/conditional_detr_r50_c5.py --workdir run/ \
        --config.data.root=path/to/coco --config.backbone_init=backbone/

50 epochs with two pictures on each of 8 GPUs, 369,650 steps in about 30 hours on V100. With its
file:

    python convert_torch_weights.py ConditionalDETR_r50_epoch50.pth out/
    python scripts/evaluate.py --checkpoint out/ --coco path/to/coco --output results.json
"""

from typing import Any

from ml_collections import ConfigDict

from anchor_detr_jax.models.conditional_detr import ConditionalDETRConfig
from anchor_detr_jax.training.config import TrainConfig, train_config_to_dict


def get_config() -> ConfigDict:
    """The authors' recipe."""
    config: Any = ConfigDict(train_config_to_dict(TrainConfig(model=ConditionalDETRConfig())))
    config.data.batch_size = 16
    return config
