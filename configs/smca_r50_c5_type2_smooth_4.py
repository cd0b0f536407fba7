r"""SMCA with ResNet-50-C5 and Gaussians of one scale, narrower at first.

No AP is published. It is a variant in the authors' notes.

    python convert_torch_weights.py --backbone resnet50-0676ba61.pth backbone/
    python scripts/train.py --config configs/smca_r50_c5_type2_smooth_4.py --workdir run/ \
        --config.data.root=path/to/coco --config.backbone_init=backbone/

50 epochs with four pictures on each of 4 GPUs, 369,650 steps.
"""

from typing import Any

from ml_collections import ConfigDict

from anchor_detr_jax.models.smca import SMCAConfig
from anchor_detr_jax.training.config import TrainConfig, train_config_to_dict


def get_config() -> ConfigDict:
    """The authors' recipe, with another attention."""
    model = SMCAConfig(dynamic_scale="type2", smooth=4.0)
    config: Any = ConfigDict(train_config_to_dict(TrainConfig(model=model)))
    config.data.batch_size = 16
    return config
