"""Data sets to measure AP on, recognised by their layout."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from anchor_detr_jax.data.coco import (
    CocoDataset,
    CocoImage,
    read_annotation_file,
    read_coco_split,
)
from anchor_detr_jax.data.tfds_folder import TfdsPictures, is_tfds_folder, write_coco_annotations
from anchor_detr_jax.evaluation.truth import CocoTruth, read_truth

__all__ = ["read_evaluation_set"]


def read_evaluation_set(root: str | Path, split: str) -> tuple[CocoDataset, CocoTruth]:
    """The pictures of a split and what there is to find in them, crowd boxes included.

    Args:
        root: a folder in COCO's layout, or one that `scripts/prepare_tfds.py` wrote.
        split: such as `val2017`.

    Raises:
        ValueError: if there is no such split, or it has no annotations.
        OSError: if a file cannot be read.
    """
    root = Path(root)
    if not is_tfds_folder(root):
        dataset = read_coco_split(root, split)
        return dataset, read_truth(dataset.annotations)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"instances_{split}.json"
        write_coco_annotations(root, split, file)
        images, truth = read_annotation_file(file)["images"], read_truth(file)
    names = tuple(image["file_name"] for image in images)
    pictures = TfdsPictures(root, split, names=names, numbers=np.arange(len(images)))
    return CocoDataset(
        [
            CocoImage(image["id"], Path(pictures.name(i)), partial(pictures.encoded, i))
            for i, image in enumerate(images)
        ],
        annotations=truth.source,
    ), truth
