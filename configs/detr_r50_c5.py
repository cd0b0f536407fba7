r"""DETR with ResNet-50-C5, as published.

COCO val2017 AP expected: 42.0;
AP50 62.4, AP75 44.2, small 20.5, medium 45.8, large 61.1.

    python convert_torch_weights.py --backbone resnet50-0676ba61.pth backbone/
    python scripts/train.py --config configs/detr_r50_c5.py --workdir run/ \
        --config.data.root=path/to/coco --config.backbone_init=backbone/

500 epochs with two pictures on each of 32 GPUs, 924,500 steps in 85 hours, the authors say; rates
to a tenth after 400. Eight GPUs as in the README hold `--config.data.batch_size=16`, at the same
rates. With its file:

    python convert_torch_weights.py detr-r50-e632da11.pth out/
    python scripts/evaluate.py --checkpoint out/ --coco path/to/coco --output results.json
"""

from typing import Any

from ml_collections import ConfigDict

from anchor_detr_jax.models.detr import DETRConfig
from anchor_detr_jax.training.config import TrainConfig, train_config_to_dict


def get_config() -> ConfigDict:
    """The authors' recipe for their published files."""
    config: Any = ConfigDict(train_config_to_dict(TrainConfig(model=DETRConfig())))
    config.data.batch_size = 64
    config.schedule.epochs = 500
    config.schedule.drop = 400
    return config
