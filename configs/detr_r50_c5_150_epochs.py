r"""DETR with ResNet-50-C5, trained for 150 epochs, as in the README.

COCO val2017 AP expected: 39.5; AP50 60.3 (no file is published).

    python convert_torch_weights.py --backbone resnet50-0676ba61.pth backbone/
    python scripts/train.py --config configs/detr_r50_c5_150_epochs.py --workdir run/ \
        --config.data.root=path/to/coco --config.backbone_init=backbone/

Two pictures on each of 8 GPUs, 1,108,950 steps, in three days on V100. Rates to a tenth after 100
epochs: the README does not say when, but others who train so do (iRPE, MMDetection).
"""

from typing import Any

from ml_collections import ConfigDict

from anchor_detr_jax.models.detr import DETRConfig
from anchor_detr_jax.training.config import TrainConfig, train_config_to_dict


def get_config() -> ConfigDict:
    """The authors' shorter recipe."""
    config: Any = ConfigDict(train_config_to_dict(TrainConfig(model=DETRConfig())))
    config.data.batch_size = 16
    config.schedule.epochs = 150
    config.schedule.drop = 100
    return config
