"""Data sets to train on, recognised by their layout."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from anchor_detr_jax.data.annotated import AnnotatedDataset, Pictures
from anchor_detr_jax.data.annotations import read_coco_training
from anchor_detr_jax.data.categories import Categories
from anchor_detr_jax.data.tfds_folder import is_tfds_folder, read_tfds_training

__all__ = ["read_training_set", "with_boxes_only"]


def read_training_set(
    root: str | Path, split: str, *, columns: Categories | None = None, on_bad: str = "stop"
) -> AnnotatedDataset:
    """A split of a folder in COCO's layout, or of one that TFDS prepared.

    Args:
        root: the folder.
        split: such as `train2017`.
        columns: what the columns of the logits stand for; None: the data set's categories.
        on_bad: "stop" at faults, or "skip" and list them.

    Raises:
        ValueError: if the folder is neither, or for what its reader refuses.
        OSError: if a file cannot be read.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"there is no folder {root}")
    read = read_tfds_training if is_tfds_folder(root) else read_coco_training
    return read(root, split, columns=columns, on_bad=on_bad)


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
