r"""Anchor DETR with ResNet-50-C5, trained as detrex does.

COCO val2017 AP that detrex reports for its own training: 41.9.

    python convert_torch_weights.py --backbone resnet50-0676ba61.pth backbone/
    python scripts/train.py --config configs/anchor_detr_r50_c5_detrex.py --workdir run/ \
        --config.data.root=path/to/coco --config.backbone_init=backbone/

Batch 16 at the reference's learning rates, norms without weight decay, 375,000 steps (51 epochs),
rates to a tenth after 300,000: roughly 25 hours on 8 V100, reckoned as in the other files.
"""

from typing import Any

from ml_collections import ConfigDict

from anchor_detr_jax.training.config import TrainConfig, train_config_to_dict


def get_config() -> ConfigDict:
    """The reference's recipe, but for batch, length and weight decay."""
    config: Any = ConfigDict(train_config_to_dict(TrainConfig()))
    config.data.batch_size = 16
    config.optimizer.no_decay = r".*norm\d?(_\d+)?/(scale|bias)"
    config.schedule.steps = 375_000
    config.schedule.drop_step = 300_000
    return config
