r"""SMCA with ResNet-50-C5, single scale, as published.

COCO val2017 AP expected: 41.0 (no file is published).

    python convert_torch_weights.py --backbone resnet50-0676ba61.pth backbone/
    python scripts/train.py --config configs/smca_r50_c5.py --workdir run/ \
        --config.data.root=path/to/coco --config.backbone_init=backbone/

50 epochs with two pictures on each of 8 GPUs, 369,650 steps, in 25 hours on V100. It is also type3
of the variants in the authors' notes, for which they have four pictures on each of 4 GPUs.
"""

from typing import Any

from ml_collections import ConfigDict

from anchor_detr_jax.models.smca import SMCAConfig
from anchor_detr_jax.training.config import TrainConfig, train_config_to_dict


def get_config() -> ConfigDict:
    """The authors' recipe."""
    config: Any = ConfigDict(train_config_to_dict(TrainConfig(model=SMCAConfig())))
    config.data.batch_size = 16
    return config
