r"""SMCA with ResNet-50-C5, single scale, trained for 250 epochs.

COCO val2017 AP expected: 43.5 (no file is published).

    python convert_torch_weights.py --backbone resnet50-0676ba61.pth backbone/
    python scripts/train.py --config configs/smca_r50_c5_250_epochs.py --workdir run/ \
        --config.data.root=path/to/coco --config.backbone_init=backbone/

Two pictures on each of 8 GPUs, 1,848,250 steps. The authors do not say when rates drop; here it is
after four fifths, epoch 200, as in their recipe of 50 epochs.
"""

from typing import Any

from ml_collections import ConfigDict

from anchor_detr_jax.models.smca import SMCAConfig
from anchor_detr_jax.training.config import TrainConfig, train_config_to_dict


def get_config() -> ConfigDict:
    """The authors' recipe, for longer."""
    config: Any = ConfigDict(train_config_to_dict(TrainConfig(model=SMCAConfig())))
    config.data.batch_size = 16
    config.schedule.epochs = 250
    config.schedule.drop = 200
    return config
