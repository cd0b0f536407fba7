r"""DETR with ResNet-50-C5 on pictures of one size, trained as csm-kr/detr_pytorch does.

COCO val2017 AP that it reports, at 1024x1024: 41.9;
AP50 61.6, AP75 44.2, small 19.7, medium 45.8, large 61.8.

    python convert_torch_weights.py --backbone resnet50-0676ba61.pth backbone/
    python scripts/train.py --config configs/detr_r50_c5_1024.py --workdir run/ \
        --config.data.root=path/to/coco --config.backbone_init=backbone/

500 epochs, 36 pictures in a step, 1,643,000 steps, rates to a tenth after 400. Every training
picture becomes 1024x1024, whatever its aspect is; `--config.augmentation.mosaic=0.5` joins four, as
is an option there. So does every picture that is evaluated; there it was resized twice. With its
file:

    python convert_torch_weights.py detr_pytorch.pth.tar out/ \
        --verify path/to/coco --fixed_hw 1024x1024 --expected_ap 41.9
"""

from typing import Any

from ml_collections import ConfigDict

from anchor_detr_jax.models.detr import DETRConfig
from anchor_detr_jax.training.config import TrainConfig, train_config_to_dict


def get_config() -> ConfigDict:
    """Its recipe, with DETR's crops."""
    config: Any = ConfigDict(train_config_to_dict(TrainConfig(model=DETRConfig())))
    config.augmentation.fixed_hw = (1024, 1024)
    config.evaluation.fixed_hw = (1024, 1024)
    config.data.batch_size = 36
    config.schedule.epochs = 500
    config.schedule.drop = 400
    return config
