r"""Fine-tunes a detector on a few hundred pictures of your own.

    python scripts/train.py --config configs/finetune.py --config.data.root=FOLDER \
        --config.init=out/ --workdir run/

FOLDER is in the layout of COCO, Pascal VOC, YOLO or TFDS. Its categories and splits are found in
it; where it has no validation split, 15 % of the training pictures are held out. `init` is any
checkpoint: a folder that convert_torch_weights.py wrote, a training run, or a .pth. The model is
that of the checkpoint; its class head is new, but for the categories that both have.

What to change when:

- The memory is too small: `--config.optimizer.accumulate=2`, the same batch in two parts. There is
  plenty: `--config.data.batch_size=8`, `16 --config.optimizer.lr=2e-4`.
- Fewer than a hundred pictures, or AP still rises at the end: `--config.schedule.epochs=100`.
  Thousands of pictures: 20 epochs.
- Pictures quite unlike those that the checkpoint knows, such as a microscope's:
  `--config.optimizer.backbone_lr=5e-5`.
- What is mirrored is something else, such as letters: `--config.augmentation.flip=0`.
- Small pictures, or no GPU: `--config.augmentation.short_sides="(320, 384, 448)"
  --config.augmentation.long_side=640 --config.evaluation.short_side=384
  --config.evaluation.long_side=640`.
"""

from typing import Any

from ml_collections import ConfigDict

from anchor_detr_jax.training.config import TrainConfig, train_config_to_dict


def get_config() -> ConfigDict:
    """What differs from the reference's recipe, which is for a hundred thousand pictures."""
    config: Any = ConfigDict(train_config_to_dict(TrainConfig(model_from_init=True)))
    config.data.train_split = "auto"
    config.data.val_split = "auto"
    config.data.val_fraction = 0.15
    config.data.categories = "dataset"
    config.data.batch_size = 4
    config.optimizer.ema = 0.998
    config.schedule.kind = "cosine"
    config.schedule.epochs = 50
    config.eval_every = 5
    config.log.every_steps = 10
    return config
