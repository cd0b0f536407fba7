"""A configuration for tests: a narrow model on the five photographs, for the train command."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from anchor_detr_jax.models.build import config_from_dict
from anchor_detr_jax.training.config import TrainConfig, train_config_to_dict


def get_config(family: str = "anchor_detr") -> ConfigDict:
    """Six steps in two epochs; nothing is evaluated."""
    model = config_from_dict({"family": family})
    config: Any = ConfigDict(train_config_to_dict(TrainConfig(model=model)))
    config.data.root = str(Path(__file__).parent / "data/coco")
    config.data.train_split = "val2017"
    config.data.val_split = ""
    config.data.batch_size = 2
    config.data.buckets = 1
    config.model.backbone.blocks = (1, 1, 1, 1)
    config.model.backbone.width = 8
    config.model.hidden_dim = 32
    config.model.num_heads = 2
    config.model.feedforward_dim = 32
    config.model.encoder_layers = 1
    config.model.decoder_layers = 2
    if family == "anchor_detr":
        config.model.num_anchors = 40
        config.model.num_patterns = 1
    else:
        config.model.num_queries = 40
    config.model.dropout = 0.1
    config.augmentation.short_sides = (64, 96)
    config.augmentation.long_side = 128
    config.augmentation.crop_short_sides = (80, 100)
    config.augmentation.crop_sides = (48, 80)
    config.evaluation.short_side = 96
    config.evaluation.long_side = 128
    config.evaluation.batch_size = 2
    config.schedule.epochs = 2
    config.optimizer.lr = 1e-3
    config.optimizer.ema = 0.9
    config.log.every_steps = 1
    config.log.tensorboard = False
    return config
