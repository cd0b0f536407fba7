"""Data sets recognised by their layout, to train on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from anchor_detr_jax.data.annotated import AnnotatedDataset, Pictures
from anchor_detr_jax.data.categories import Categories
from anchor_detr_jax.data.formats.annotations import annotated_dataset
from anchor_detr_jax.data.formats.layout import read_records

__all__ = ["read_training_set", "with_boxes_only"]


def read_training_set(
    root: str | Path, split: str, *, columns: Categories | None = None, on_bad: str = "stop"
) -> AnnotatedDataset:
    """A split of a data set in any layout that `data_format` knows.

    Args:
        root: the folder.
        split: one of `split_names`, such as `train2017`, or a share of it as `share_of` reads it.
        columns: what the columns of the logits stand for; None: the data set's categories.
        on_bad: "stop" at faults, or "skip" and list them.

    Raises:
        ValueError: if the folder has no known layout, for faults, and if there is no such split
            or no picture in it.
        OSError: if a file cannot be read.
    """
    return annotated_dataset(read_records(root, split), columns=columns, on_bad=on_bad)


def with_boxes_only(dataset: AnnotatedDataset) -> AnnotatedDataset:
    """The pictures that have at least one box.

    Raises:
        ValueError: if there are none.
    """
    kept = np.flatnonzero(dataset.counts)
    if not len(kept):
        raise ValueError("no picture has a box, and data.keep_empty is False")
    starts = np.concatenate([[0], np.cumsum(dataset.counts[kept])])
    return dataclasses.replace(
        dataset,
        pictures=_Chosen(dataset.pictures, kept),
        hw=dataset.hw[kept],
        starts=starts,
        dropped={**dataset.dropped, "pictures without boxes": len(dataset) - len(kept)},
    )


@dataclasses.dataclass(frozen=True)
class _Chosen:
    """Some of another's pictures."""

    pictures: Pictures
    numbers: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    def name(self, index: int) -> str:
        return self.pictures.name(int(self.numbers[index]))

    def encoded(self, index: int) -> bytes:
        return self.pictures.encoded(int(self.numbers[index]))
