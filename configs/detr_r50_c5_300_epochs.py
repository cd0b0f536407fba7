r"""DETR with ResNet-50-C5, trained for 300 epochs, as for the paper's comparisons.

COCO val2017 AP expected: 40.6 (no file is published).

    python convert_torch_weights.py --backbone resnet50-0676ba61.pth backbone/
    python scripts/train.py --config configs/detr_r50_c5_300_epochs.py --workdir run/ \
        --config.data.root=path/to/coco --config.backbone_init=backbone/

Rates to a tenth after 200 epochs, as by the code's default. The paper's models have 64 pictures in
a step, 554,700 steps.
"""

from typing import Any

from ml_collections import ConfigDict

from anchor_detr_jax.models.detr import DETRConfig
from anchor_detr_jax.training.config import TrainConfig, train_config_to_dict


def get_config() -> ConfigDict:
    """The authors' recipe for the paper's ablations."""
    config: Any = ConfigDict(train_config_to_dict(TrainConfig(model=DETRConfig())))
    config.data.batch_size = 64
    config.schedule.epochs = 300
    config.schedule.drop = 200
    return config
