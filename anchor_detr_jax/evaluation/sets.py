"""Data sets to measure AP on, recognised by their layout."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path

from anchor_detr_jax.data.categories import Categories
from anchor_detr_jax.data.formats.annotations import FaultList, columns_of, sound_pictures
from anchor_detr_jax.data.formats.coco import CocoDataset, CocoImage, read_coco_split
from anchor_detr_jax.data.formats.coco_content import coco_content
from anchor_detr_jax.data.formats.layout import data_format, read_records
from anchor_detr_jax.data.formats.records import SplitRecords
from anchor_detr_jax.data.formats.splits import share_of
from anchor_detr_jax.evaluation.truth import CocoTruth, read_truth

__all__ = ["read_evaluation_set"]


def read_evaluation_set(
    root: str | Path, split: str, *, columns: Categories | None = None, on_bad: str = "stop"
) -> tuple[CocoDataset, CocoTruth]:
    """The pictures of a split and what there is to find in them.

    Crowd boxes are among it, boxes that VOC calls difficult, and those without an area.

    Args:
        root: a folder in any layout that `data_format` knows.
        split: one of `split_names`, such as `val2017`, or a share of it as `share_of` reads it.
        columns: the categories of the detector that is measured. Categories of VOC and YOLO
            folders, which have names but no ids of their own, get the ids of these; what the
            detector does not know, an id that it does not have.
        on_bad: "stop" at annotations and pictures with a fault, or "skip" them; a whole split of
            a COCO folder is read as it is, and has to be sound.

    Raises:
        ValueError: if there is no such split, it has no annotations, or for faults.
        OSError: if a file cannot be read.
    """
    root = Path(root)
    if data_format(root) == "coco" and share_of(split)[1] is None:
        dataset = read_coco_split(root, split)
        truth = read_truth(dataset.annotations)
        if columns is not None:
            own = Categories(tuple(truth.categories), tuple(truth.categories.values()))
            columns.check_same_ids(own, str(truth.source))
        return dataset, truth
    records = read_records(root, split)
    column_of, faults = columns_of(records, None), FaultList(records.source, on_bad)
    pictures = sound_pictures(records, faults, known=column_of.__contains__)
    faults.settled()
    if columns is not None and not records.by_name:
        columns.check_same_ids(records.categories, records.source)
    ids = _ids(records, columns)
    content = coco_content(
        pictures,
        {id_: str(name) for id_, name in zip(ids, records.categories.names, strict=True)},
        {category: ids[column] for category, column in column_of.items()},
    )
    if not content["annotations"]:
        raise ValueError(f"{records.source} has no boxes in {split} to find")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "truth.json"
        file.write_text(json.dumps(content), encoding="utf-8")
        truth = dataclasses.replace(read_truth(file), source=Path(records.source))
    images = [CocoImage(p.record.id, p.record.path, p.record.encoded) for p in pictures]
    return CocoDataset(images, annotations=truth.source), truth


def _ids(records: SplitRecords, columns: Categories | None) -> list[int]:
    """The id that each of the data set's categories is scored under."""
    own = records.categories
    if columns is None or not records.by_name:
        return list(own.ids)
    known = {name: id_ for name, id_ in zip(columns.names, columns.ids, strict=True) if name}
    free = max(columns.ids) + 1
    return [known.get(str(name), free + i) for i, name in enumerate(own.names)]
