r"""Anchor DETR with ResNet-50-C5, as published.

COCO val2017 AP expected: 42.1;
AP50 63.1, AP75 44.9, small 22.3, medium 46.2, large 60.0.

    python convert_torch_weights.py --backbone resnet50-0676ba61.pth backbone/
    python scripts/train.py --config configs/anchor_detr_r50_c5.py --workdir run/ \
        --config.data.root=path/to/coco --config.backbone_init=backbone/

50 epochs with one picture on each of 8 GPUs, 739,300 steps. The reference names no hours; reckoned
from its 16 pictures/s on a V100 (inference, R50-DC5), 8 of these take roughly 24. With its file:

    python convert_torch_weights.py AnchorDETR_r50_c5.pth out/
    python scripts/evaluate.py --checkpoint out/ --coco path/to/coco --output results.json
"""

from ml_collections import ConfigDict

from anchor_detr_jax.training.config import TrainConfig, train_config_to_dict


def get_config() -> ConfigDict:
    """The reference's recipe, whose model is R50-C5."""
    return ConfigDict(train_config_to_dict(TrainConfig()))
