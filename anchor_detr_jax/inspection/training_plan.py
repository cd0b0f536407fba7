"""What training would make of a data set: its batches, and a look at some of them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from anchor_detr_jax.data.annotated import AnnotatedDataset
from anchor_detr_jax.data.batching import pad_images
from anchor_detr_jax.data.pipeline import BatchReader
from anchor_detr_jax.data.plan import Plan
from anchor_detr_jax.data.steps import Resize, Sample
from anchor_detr_jax.inspection.memory import MemoryNeed, memory_estimate, memory_plan
from anchor_detr_jax.structures import Detections
from anchor_detr_jax.training.config import TrainConfig
from anchor_detr_jax.training.run import Run, prepare_run
from anchor_detr_jax.visualize import contact_sheet, draw_detections

__all__ = ["BucketUse", "TrainingPlan", "TrainingPreview", "preview_training"]

_COLUMNS, _SHEET_WIDTH = 3, 1100
"""Of the contact sheet; its width is the report's, so that labels are seen as they are drawn."""

_EACH = 2
"""Pictures that are shown of a batch."""

_INK, _GROUND = (230, 230, 230), (38, 38, 38)


@dataclass(frozen=True)
class BucketUse:
    """A shape of batches.

    Attributes:
        hw: height and width that pictures are padded to.
        steps: of an epoch that have this shape.
        waste: share of their pixels that are padding.
    """

    hw: tuple[int, int]
    steps: int
    waste: float


@dataclass(frozen=True)
class TrainingPlan:
    """The first epoch.

    Attributes:
        pictures: that are trained on.
        batch_size: pictures in a step.
        steps: of the epoch.
        max_targets: boxes that each picture's are padded to.
        buckets: the shapes that come, from the smallest up.
        waste: share of all pixels that are padding.
        largest_hw: the largest shape that may come in any epoch.
    """

    pictures: int
    batch_size: int
    steps: int
    max_targets: int
    buckets: tuple[BucketUse, ...]
    waste: float
    largest_hw: tuple[int, int]


@dataclass(frozen=True)
class TrainingPreview:
    """What training would make of the data.

    Attributes:
        plan: its batches; None where training would refuse.
        memory: that a step on the largest of them needs.
        refusal: why there would be no training; "" if there would be.
        sheet: augmented pictures with boxes as the model will see them.
    """

    plan: TrainingPlan | None = None
    memory: MemoryNeed | None = None
    refusal: str = ""
    sheet: Image.Image | None = None


def preview_training(
    root: Path, config: TrainConfig, split: str, *, compiled: bool
) -> TrainingPreview:
    """What a run with these settings would make of a split, whose faults it leaves out.

    Args:
        root: folder of the data set.
        config: of the run; where the model is to come from a checkpoint and none is named, it is
            the default one.
        split: what is learned from.
        compiled: have XLA plan the memory, and do not estimate it.
    """
    data = dataclasses.replace(
        config.data,
        root=str(root),
        train_split=split,
        val_split="",
        val_fraction=0.0,  # what is held out is not in the split
        on_bad="skip",
        cache_gb=0.0,
    )
    config = dataclasses.replace(
        config,
        data=data,
        checkpoint=dataclasses.replace(config.checkpoint, early_stop=0),  # needs a val_split
        model_from_init=config.model_from_init and bool(config.init),
    )
    try:
        with TemporaryDirectory() as folder:  # of a run that has not begun
            run = prepare_run(config, Path(folder))
        plan = _first_epoch(run)
        need = (memory_plan if compiled else memory_estimate)(run, plan.largest_hw)
        return TrainingPreview(plan, need, sheet=_augmented_sheet(run.reader))
    except (ValueError, OSError) as error:
        return TrainingPreview(refusal=str(error))


def _first_epoch(run: Run) -> TrainingPlan:
    """The first epoch of a run."""
    plan = run.plan
    return TrainingPlan(
        pictures=len(run.dataset),
        batch_size=plan.batch_size,
        steps=plan.steps_per_epoch,
        max_targets=run.reader.max_targets,
        buckets=_uses(plan),
        waste=plan.waste(0, plan.steps_per_epoch),
        largest_hw=max(plan.buckets, key=lambda hw: hw[0] * hw[1]),
    )


def _uses(plan: Plan) -> tuple[BucketUse, ...]:
    steps: Counter[tuple[int, int]] = Counter()
    real: Counter[tuple[int, int]] = Counter()
    for step in range(plan.steps_per_epoch):
        planned = plan.batch(step)
        steps[planned.bucket] += 1
        real[planned.bucket] += sum(p.hw[0] * p.hw[1] for p in planned.pictures)
    return tuple(
        BucketUse(hw, steps[hw], 1 - real[hw] / (steps[hw] * plan.batch_size * hw[0] * hw[1]))
        for hw in sorted(steps, key=lambda hw: (hw[0] * hw[1], hw))
    )


def _augmented_sheet(reader: BatchReader, *, pictures: int = 12) -> Image.Image | None:
    """Some training pictures with their boxes as the model will see them, padding included.

    They are of the first steps, a few of each. Those that cannot be read are passed over.

    Returns:
        None if no picture can be read.
    """
    cells: list[Image.Image] = []
    for step in range(min(reader.plan.steps_per_epoch, 4 * pictures)):
        planned = reader.plan.batch(step)
        for picture in planned.pictures[:_EACH]:
            try:
                sample = reader.augmented(picture)
            except (ValueError, OSError):  # found and reported by the checks
                continue
            cells.append(_cell(sample, planned.bucket, reader.dataset, picture.index))
        if len(cells) >= pictures:
            break
    if not cells:
        return None
    return contact_sheet(cells[:pictures], columns=_COLUMNS, width=_SHEET_WIDTH)


def _cell(
    sample: Sample, bucket: tuple[int, int], dataset: AnnotatedDataset, index: int
) -> Image.Image:
    """One picture of the sheet, with its name and size above it.

    It is made small before it is drawn on, so that lines and letters are not.
    """
    scale = _SHEET_WIDTH / _COLUMNS / bucket[1]
    hw = sample.image.height, sample.image.width
    small = Resize((max(1, round(hw[0] * scale)), max(1, round(hw[1] * scale))))(sample)
    ground = max(1, round(bucket[0] * scale)), max(1, round(bucket[1] * scale))
    ground = max(ground[0], small.image.height), max(ground[1], small.image.width)
    pixels = np.asarray(pad_images([np.asarray(small.image)], ground, 1).pixels)[0]
    drawn = draw_detections(pixels, _as_detections(small, dataset), with_scores=False)
    name = dataset.pictures.name(index).replace("\\", "/").rsplit("/", 1)[-1]
    size = f"{hw[1]}x{hw[0]} in {bucket[1]}x{bucket[0]}"
    return _captioned(drawn, name, size)


def _as_detections(sample: Sample, dataset: AnnotatedDataset) -> Detections:
    names = [dataset.categories.names[label] or "?" for label in sample.labels.tolist()]
    return Detections(
        boxes=sample.boxes_xyxy_px.astype(np.float32),
        scores=np.ones(len(names), np.float32),
        labels=sample.labels.astype(np.int32),
        names=names,
    )


def _captioned(picture: Image.Image, *lines: str) -> Image.Image:
    font, step = ImageFont.load_default(12), 16
    band = step * len(lines) + 4
    whole = Image.new("RGB", (picture.width, picture.height + band), _GROUND)
    whole.paste(picture, (0, band))
    draw = ImageDraw.Draw(whole)
    for i, line in enumerate(lines):
        while len(line) > 1 and draw.textlength(line, font=font) > picture.width:
            line = line[:-2] + "…"
        draw.text((2, 1 + step * i), line, fill=_INK, font=font)
    return whole
