"""It learns: the whole R50-C5 architecture takes four photographs to heart."""

import json

import numpy as np
import pytest

from anchor_detr_jax.data.augmentation import AugmentationConfig
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

STEPS, DROP = 180, 120


def four_photographs(shared, root):
    """A data set of the first four photographs that the detector was not trained on."""
    known = json.loads((shared / "checkpoints/overfit/instances.json").read_text())["images"]
    content = json.loads((shared / "coco_by/annotations/instances_val2017.json").read_text())
    labelled = {a["image_id"] for a in content["annotations"] if not a["iscrowd"]}
    wanted = sorted(labelled - {image["id"] for image in known})[:4]
    for name, key in {"images": "id", "annotations": "image_id"}.items():
        content[name] = [entry for entry in content[name] if entry[key] in wanted]
    (root / "annotations").mkdir()
    (root / "annotations/instances_train2017.json").write_text(json.dumps(content))
    (root / "train2017").symlink_to(shared / "coco_by/val2017")
    return root


@pytest.mark.slow
def test_four_photographs_are_learned_by_heart(shared, tmp_path):
    """A detector that knows other photographs goes on with these, until the loss is a fifth."""
    config = TrainConfig(
        init=str(shared / "checkpoints/overfit/anchor_detr_r50_c5_overfit.pth"),
        data=DataConfig(str(four_photographs(shared, tmp_path)), val_split="", batch_size=1),
        augmentation=AugmentationConfig(flip=0.0, crop=0.0, fixed_hw=(160, 160)),
        optimizer=OptimizerConfig(lr=1e-4, backbone_lr=1e-5),
        schedule=ScheduleConfig(steps=STEPS, drop_step=DROP),
        checkpoint=CheckpointConfig(every_epochs=0),
        log=LogConfig(every_steps=1, tensorboard=False),
    )
    run = prepare_run(config, tmp_path / "run")
    train(run)
    losses = [row["loss/total"] for row in read_rows(run.folder / "train.jsonl")]
    first, last = np.mean(losses[:4]), np.mean(losses[-4:])  # each of the four photographs once
    assert last < first / 5, f"the loss fell from {first:.1f} to {last:.1f} only"
