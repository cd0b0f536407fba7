"""A data set looked at from all sides before anything is trained on it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from tqdm import tqdm

from anchor_detr_jax.data.categories import Categories
from anchor_detr_jax.data.formats.layout import data_format, read_records, split_names
from anchor_detr_jax.data.formats.records import SplitRecords
from anchor_detr_jax.data.formats.splits import chosen_splits, share_of
from anchor_detr_jax.data.image_size import ImageSize
from anchor_detr_jax.inspection import figures
from anchor_detr_jax.inspection.box_checks import check_boxes
from anchor_detr_jax.inspection.findings import SEVERITIES, Finding, finding, in_order
from anchor_detr_jax.inspection.picture_checks import check_picture
from anchor_detr_jax.inspection.picture_files import PictureFacts, examined, picture_hw
from anchor_detr_jax.inspection.split_checks import (
    all_categories,
    check_categories,
    check_split,
    check_unreferenced,
)
from anchor_detr_jax.inspection.statistics import SplitStatistics, count_split
from anchor_detr_jax.inspection.training_plan import TrainingPreview, preview_training
from anchor_detr_jax.inspection.twins import Seen, check_twins
from anchor_detr_jax.training.config import DataConfig, TrainConfig

__all__ = ["Inspection", "inspect_data"]

_TOGETHER = ("trainval", "all")
"""What Pascal VOC calls all pictures of other splits together."""


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        root: folder of the data set.
        format: its layout.
        categories: of all splits together.
        splits: the numbers of each.
        findings: all of them, the worst first.
        quick: pixels were not decoded.
        training: what a run would make of it.
    """

    root: Path
    format: str
    categories: Categories
    splits: tuple[SplitStatistics, ...]
    findings: tuple[Finding, ...]
    quick: bool
    training: TrainingPreview

    def count(self, severity: str) -> int:
        """How many findings are as bad as this: "error", "warning" or "info"."""
        return sum(found.severity == severity for found in self.findings)

    def figures(self) -> dict[str, Figure]:
        """Plots by what they show."""
        return {
            "boxes by category": figures.classes_figure(self.splits, self.categories),
            "box sizes": figures.box_sizes_figure(self.splits),
            "box aspects": figures.box_aspects_figure(self.splits),
            "boxes in a picture": figures.boxes_per_picture_figure(self.splits),
            "box shapes": figures.box_shapes_figure(self.splits),
            "picture sizes": figures.picture_sizes_figure(self.splits),
        }

    def to_json(self) -> dict[str, Any]:
        """Everything but pictures, in plain containers."""
        training = self.training
        return {
            "root": str(self.root),
            "format": self.format,
            "quick": self.quick,
            "counts": {severity: self.count(severity) for severity in SEVERITIES},
            "categories": self.categories.to_json(),
            "splits": [split.to_json(self.categories) for split in self.splits],
            "training": {
                "refusal": training.refusal,
                "plan": training.plan and dataclasses.asdict(training.plan),
                "memory": training.memory and dataclasses.asdict(training.memory),
            },
            "findings": [dataclasses.asdict(found) for found in self.findings],
        }


def inspect_data(
    root: str | Path,
    *,
    splits: Sequence[str] = (),
    config: TrainConfig | None = None,
    quick: bool = False,
    memory: bool = False,
) -> Inspection:
    """Check a data set of any format that training reads, and count what is in it.

    Args:
        root: its folder.
        splits: which to look at; (): all.
        config: what training would be done with; None: the defaults, with the data's categories.
        quick: read headers of pictures alone: what is damaged further on, and what is there twice,
            is not found.
        memory: compile a training step to know its memory, which takes minutes on a CPU.

    Raises:
        ValueError: if the folder holds no data set, or not these splits.
        OSError: if annotations cannot be read.
    """
    root, layout = Path(root), data_format(root)
    config = config or TrainConfig(data=DataConfig(categories="dataset"))
    names = tuple(splits) or _usual(split_names(root))
    trained_on = _trained_on(names, config.data)
    learned, _ = share_of(trained_on)
    names = tuple(sorted(names, key=lambda name: name != learned))  # what is learned from is first
    read = [_read(root, name, decode=not quick) for name in names]
    categories, contradictions = all_categories(split.records for split in read)
    found = [*contradictions, *_of_the_whole(read, categories, learned)]
    for split in read:
        found += _of_a_split(split, categories, config)
    training = preview_training(root, config, trained_on, compiled=memory)
    if training.refusal:
        found.append(finding("training would refuse", read[0].records.source, training.refusal))
    return Inspection(
        root=root,
        format=layout,
        categories=categories,
        splits=tuple(split.counted for split in read),
        findings=in_order(_shortened(f, root) for f in found),
        quick=quick,
        training=training,
    )


@dataclass(frozen=True)
class _Split:
    """A split with what its annotations say, what its files say, and its numbers."""

    name: str
    records: SplitRecords
    facts: list[PictureFacts]
    counted: SplitStatistics


def _usual(names: Sequence[str]) -> tuple[str, ...]:
    """All splits but those that are others together."""
    return tuple(name for name in names if "train" not in names or name not in _TOGETHER)


def _trained_on(names: Sequence[str], config: DataConfig) -> str:
    """The split that training learns from, or the share of it that is not held out."""
    with contextlib.suppress(ValueError):
        train, _ = chosen_splits(
            names,
            config.train_split,
            config.val_split,
            fraction=config.val_fraction,
            seed=config.split_seed,
        )
        if share_of(train)[0] in names:
            return train
    return next((name for name in names if name.startswith("train")), names[0])


def _read(root: Path, name: str, *, decode: bool) -> _Split:
    """All of a split, with a bar while its pictures are looked at."""
    records = read_records(root, name)
    facts = list(
        tqdm(
            examined(records.pictures, decode=decode),
            desc=f"{'decoding' if decode else 'reading headers of'} {name}",
            total=len(records.pictures),
            unit=" pictures",
            disable=None,
        )
    )
    return _Split(name, records, facts, count_split(name, records, facts))


def _of_the_whole(
    read: Sequence[_Split], categories: Categories, learned: str
) -> Iterator[Finding]:
    """What is wrong with splits as a whole, with the categories, and among all pictures."""
    for split in read:
        yield from check_split(split.counted, learned=split.name == learned)
    used = {split.name: split.counted.per_class for split in read}
    yield from check_categories(categories, read[0].records.source, used, learned)
    yield from check_unreferenced([split.records for split in read])
    yield from check_twins(
        [
            Seen(split.name, rank, picture, fact)
            for rank, split in enumerate(read)
            for picture, fact in zip(split.records.pictures, split.facts, strict=True)
        ]
    )


def _of_a_split(split: _Split, categories: Categories, config: TrainConfig) -> Iterator[Finding]:
    """What is wrong with its files, its pictures and their boxes."""
    for fault in split.records.faults:
        yield finding(fault.kind, fault.where, fault.message)
    pairs = zip(categories.ids, categories.names, strict=True)
    known = frozenset(key for id_, name in pairs if name is not None for key in (id_, name))
    seen = config.evaluation
    size = ImageSize(seen.short_side, seen.long_side, seen.fixed_hw)
    for picture, fact in zip(split.records.pictures, split.facts, strict=True):
        if not picture.boxes and split.counted.boxes:  # else one finding says it of all
            message = f"{picture.path.name} has no boxes"
            yield finding("picture without boxes", picture.where, message)
        yield from check_picture(picture, fact, queries=config.model.num_queries)
        yield from check_boxes(picture, picture_hw(picture, fact), known, size=size)


def _shortened(found: Finding, root: Path) -> Finding:
    """Paths from the data set's folder on, which is named once."""
    where, message = (t.replace(f"{root}{os.sep}", "") for t in (found.where, found.message))
    return dataclasses.replace(found, where=where.removeprefix(f"{root} "), message=message)
