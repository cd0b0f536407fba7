"""How much processor time the training pictures take, and for what."""

from __future__ import annotations

import io
import time
from collections.abc import Callable

from anchor_detr_jax.data.categories import coco_columns
from anchor_detr_jax.data.formats.sources import read_training_set
from anchor_detr_jax.data.pipeline import BatchReader
from anchor_detr_jax.data.plan import make_plan
from anchor_detr_jax.data.transforms import open_rgb
from anchor_detr_jax.training.config import TrainConfig

__all__ = ["input_seconds"]

_BATCH, _STEPS = 8, 20


def input_seconds(folder: str, split: str, config: TrainConfig) -> dict[str, float]:
    """Seconds of processor time for each picture, by part.

    Args:
        folder: of a data set in COCO's layout.
        split: of it.
        config: whose augmentation is measured.

    Raises:
        ValueError, OSError: as reading the data set raises.
    """
    dataset = read_training_set(folder, split, columns=coco_columns())
    plan = make_plan(dataset.hw, batch_size=_BATCH, augmentation=config.augmentation)
    reader = BatchReader(dataset, plan, max_targets=512)
    steps = range(min(_STEPS, 3 * plan.steps_per_epoch))
    pictures = [picture for step in steps for picture in plan.batch(step).pictures]

    def per_picture(function: Callable[[], object]) -> float:
        started = time.process_time()
        function()
        return (time.process_time() - started) / len(pictures)

    def decode() -> None:
        for picture in pictures:
            encoded = dataset.pictures.encoded(picture.index)
            open_rgb(io.BytesIO(encoded), apply_exif_rotation=False)

    whole = per_picture(lambda: [reader(step) for step in steps])
    read = per_picture(lambda: [dataset.pictures.encoded(p.index) for p in pictures])
    decoded = per_picture(decode)
    augmented = per_picture(lambda: [reader.augmented(picture) for picture in pictures])
    return {
        "all": whole,
        "reading": read,
        "decoding": decoded - read,
        "augmenting": augmented - decoded,
        "padding and packing": whole - augmented,
    }
