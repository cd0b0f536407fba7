r"""Conditional DETR with ResNet-50-DC5, as published.

COCO val2017 AP expected: 43.7;
small 23.9, medium 47.6, large 60.1.

    python convert_torch_weights.py --backbone resnet50-0676ba61.pth backbone/
    python scripts/train.py --config configs/conditional_detr_r50_dc5.py --workdir run/ \
        --config.data.root=path/to/coco --config.backbone_init=backbone/

50 epochs with one picture on each of 8 GPUs, 739,300 steps. With its file:

    python convert_torch_weights.py ConditionalDETR_r50dc5_epoch50.pth out/ --dilation
    python scripts/evaluate.py --checkpoint out/ --coco path/to/coco --output results.json
"""

from typing import Any

from ml_collections import ConfigDict

from anchor_detr_jax.models.conditional_detr import ConditionalDETRConfig
from anchor_detr_jax.training.config import TrainConfig, train_config_to_dict


def get_config() -> ConfigDict:
    """The authors' recipe."""
    config: Any = ConfigDict(train_config_to_dict(TrainConfig(model=ConditionalDETRConfig())))
    config.model.backbone.dilation = True
    return config
