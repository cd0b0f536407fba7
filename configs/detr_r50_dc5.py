r"""DETR with ResNet-50-DC5, as published.

COCO val2017 AP expected: 43.3;
AP50 63.1, AP75 45.9, small 22.5, medium 47.3, large 61.1.

    python convert_torch_weights.py --backbone resnet50-0676ba61.pth backbone/
    python scripts/train.py --config configs/detr_r50_dc5.py --workdir run/ \
        --config.data.root=path/to/coco --config.backbone_init=backbone/

500 epochs with one picture on each of 64 GPUs, 924,500 steps in 99 hours, the authors say; rates to
a tenth after 400. Eight GPUs as in the README hold `--config.data.batch_size=8`, at the same rates.
With its file:

    python convert_torch_weights.py detr-r50-dc5-f0fb7ef5.pth out/ --dilation
    python scripts/evaluate.py --checkpoint out/ --coco path/to/coco --output results.json
"""

from typing import Any

from ml_collections import ConfigDict

from anchor_detr_jax.models.detr import DETRConfig
from anchor_detr_jax.training.config import TrainConfig, train_config_to_dict


def get_config() -> ConfigDict:
    """The authors' recipe for their published files."""
    config: Any = ConfigDict(train_config_to_dict(TrainConfig(model=DETRConfig())))
    config.model.backbone.dilation = True
    config.data.batch_size = 64
    config.schedule.epochs = 500
    config.schedule.drop = 400
    return config
