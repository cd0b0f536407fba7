"""Data sets recognised by their layout, to train on and to measure on."""

import dataclasses

import numpy as np
import pytest
from conftest import DATA
from data_sets import pack_targets

from anchor_detr_jax.data.categories import coco_columns
from anchor_detr_jax.data.formats.sources import read_training_set, with_boxes_only
from anchor_detr_jax.data.formats.tfds_builder import prepare_tfds_folder
from anchor_detr_jax.evaluation.sets import read_evaluation_set


@pytest.fixture(scope="module")
def tfds(tmp_path_factory):
    """The photographs as array_record."""
    return prepare_tfds_folder(DATA / "coco", tmp_path_factory.mktemp("tfds") / "photographs")


def test_both_layouts_train_alike(tfds):
    one, other = (
        read_training_set(root, "val2017", columns=coco_columns()) for root in (DATA / "coco", tfds)
    )
    assert one.fingerprint == other.fingerprint
    assert one.pictures.encoded(3) == other.pictures.encoded(3)


def test_both_layouts_measure_alike(tfds):
    (folder, truth), (records, same_truth) = (
        read_evaluation_set(root, "val2017") for root in (DATA / "coco", tfds)
    )
    assert [image.id for image in folder.images] == [image.id for image in records.images]
    for one, other in zip(folder.images, records.images, strict=True):
        np.testing.assert_array_equal(one.opened(), other.opened())
    assert truth.categories == same_truth.categories
    assert sum(a["iscrowd"] for a in truth.annotations) == 2
    boxes, same_boxes = (
        sorted((a["image_id"], *a["bbox"], a["category_id"], a["iscrowd"], a["area"]) for a in of)
        for of in (truth.annotations, same_truth.annotations)
    )
    np.testing.assert_allclose(boxes, same_boxes, rtol=1e-6)


def test_truth_of_an_image():
    dataset, truth = read_evaluation_set(DATA / "coco", "val2017")
    for image in dataset.images:
        found = truth.of_image(image.id)
        there = [a for a in truth.annotations if a["image_id"] == image.id and not a["iscrowd"]]
        assert found.names == [truth.categories[a["category_id"]] for a in there]
        for box, annotation in zip(found.boxes, there, strict=True):
            x, y, w, h = annotation["bbox"]
            np.testing.assert_allclose(box, [x, y, x + w, y + h], rtol=1e-6)


def test_no_folder_is_said():
    with pytest.raises(ValueError, match="/nowhere"):
        read_training_set("/nowhere", "train2017")


def test_pictures_without_boxes_can_be_left_out():
    whole = read_training_set(DATA / "coco", "val2017", columns=coco_columns())
    empty = 1, 3
    targets = [whole.targets(i) for i in range(len(whole))]
    boxes, labels, starts = pack_targets(
        [b[:0] if i in empty else b for i, (b, _) in enumerate(targets)],
        [x[:0] if i in empty else x for i, (_, x) in enumerate(targets)],
    )
    holed = dataclasses.replace(whole, boxes_xyxy_px=boxes, labels=labels, starts=starts)
    kept = with_boxes_only(holed)
    assert len(kept) == 3
    assert kept.dropped["pictures without boxes"] == 2
    for i, before in enumerate((0, 2, 4)):
        assert kept.pictures.name(i) == whole.pictures.name(before)
        assert kept.pictures.encoded(i) == whole.pictures.encoded(before)
        np.testing.assert_array_equal(kept.hw[i], whole.hw[before])
        np.testing.assert_array_equal(kept.targets(i)[0], whole.targets(before)[0])
    nothing = dataclasses.replace(whole, starts=np.zeros(6, np.int64))
    with pytest.raises(ValueError, match="no picture has a box"):
        with_boxes_only(nothing)
