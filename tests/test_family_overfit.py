"""Each sister model learns: from nothing, four photographs by heart."""

import json

import numpy as np
import pytest
from conftest import DATA

from anchor_detr_jax.backbones.resnet import ResNetConfig
from anchor_detr_jax.data.augmentation import AugmentationConfig
from anchor_detr_jax.models.build import config_from_dict
from anchor_detr_jax.training.config import (
    CheckpointConfig,
    DataConfig,
    LogConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
)
from anchor_detr_jax.training.loop import train
from anchor_detr_jax.training.run import prepare_run
from anchor_detr_jax.training.run_log import read_rows

pytestmark = pytest.mark.slow

STEPS = {"detr": 600, "conditional_detr": 300, "smca": 300}
SHAPE = {
    "hidden_dim": 64,
    "num_heads": 4,
    "feedforward_dim": 128,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "num_queries": 40,
    "dropout": 0.0,
}


def four_photographs(root):
    content = json.loads((DATA / "coco/annotations/instances_val2017.json").read_text())
    kept = sorted(image["id"] for image in content["images"])[:4]
    for name, key in {"images": "id", "annotations": "image_id"}.items():
        content[name] = [entry for entry in content[name] if entry[key] in kept]
    (root / "annotations").mkdir()
    (root / "annotations/instances_train2017.json").write_text(json.dumps(content))
    (root / "train2017").symlink_to(DATA / "coco/val2017")
    return root


@pytest.mark.parametrize("family", ["detr", "conditional_detr", "smca"])
def test_four_photographs_are_learned_by_heart(family, tmp_path):
    """A small model, until its loss is a tenth of what it was."""
    backbone = ResNetConfig((1, 1, 1, 1), 16, block="basic", norm="group", stem_stride=2)
    shape = config_from_dict({"family": family, **SHAPE, "backbone": vars(backbone)})
    config = TrainConfig(
        model=shape,
        data=DataConfig(str(four_photographs(tmp_path)), val_split="", batch_size=4),
        augmentation=AugmentationConfig(flip=0.0, crop=0.0, fixed_hw=(128, 128)),
        optimizer=OptimizerConfig(lr=1e-3, backbone_lr=1e-3, clip=1.0, frozen="(?!)"),
        schedule=ScheduleConfig(kind="cosine", steps=STEPS[family], warmup_steps=50),
        checkpoint=CheckpointConfig(every_epochs=0),
        log=LogConfig(every_steps=1, tensorboard=False),
    )
    run = prepare_run(config, tmp_path / "run")
    train(run)
    losses = [row["loss/total"] for row in read_rows(run.folder / "train.jsonl")]
    first, last = losses[0], np.mean(losses[-4:])
    assert last < first / 10, f"the loss fell from {first:.1f} to {last:.1f} only"
