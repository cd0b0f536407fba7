"""Records of COCO's files: whatever is wrong with an entry, the others are read."""

import json

import pytest
from data_sets import coco_content, write_coco
from PIL import Image

from anchor_detr_jax.data.formats.annotations import annotated_dataset, check_box
from anchor_detr_jax.data.formats.coco import coco_splits, read_coco_split
from anchor_detr_jax.data.formats.layout import read_records
from anchor_detr_jax.data.formats.sources import read_training_set


@pytest.fixture
def root(tmp_path):
    return write_coco(tmp_path / "coco")


@pytest.fixture
def scanned(root):
    """Reads the data set with other content for `train`."""

    def scanned(**changes):
        content = {**coco_content("train"), **changes}
        file = root / "annotations/instances_train.json"
        file.write_text(json.dumps(content))
        return read_records(root, "train")

    return scanned


def faults(records):
    source = f"{records.source}: "
    return {(f.kind, f.where.removeprefix(source), f.message) for f in records.faults}


def test_a_sound_file(scanned):
    records = scanned()
    assert records.faults == records.unreferenced == []
    first = records.pictures[0].boxes[0]
    assert first.where == f"{records.source}: annotation 1"
    assert first.xyxy_px == (10, 5, 40, 30)
    assert first.xywh_px == (10, 5, 30, 25)
    assert (first.category, first.id, first.area, first.crowd) == (2, 1, None, False)
    assert [len(picture.boxes) for picture in records.pictures] == [2, 1, 0, 2, 1]


def test_images_with_a_fault(scanned):
    images = coco_content("train")["images"]
    wrong = [
        {"id": 1, "file_name": "b.png"},
        {"id": "7", "file_name": "b.png"},
        "no image",
        {"id": 8},
        {"id": 9, "file_name": "../../secret.png"},
        {"id": 10, "file_name": "/etc/passwd"},
        {"id": 11, "file_name": "a\0.png"},
        {"id": 12, "file_name": "../val/f.png", "width": 1.5, "height": 60},
    ]
    box = {"image_id": 8, "category_id": 1, "bbox": [1, 1, 2, 2]}  # of what is a fault already
    records = scanned(images=[*images, *wrong], annotations=[box])
    assert {(kind, where) for kind, where, _ in faults(records)} == {
        ("image id", "image 1"),
        ("image id", "image number 6"),
        ("image id", "image number 7"),
        ("file name", "image 8"),
        ("file name", "image 9"),
        ("file name", "image 10"),
        ("file name", "image 11"),
    }
    assert [picture.id for picture in records.pictures] == [1, 2, 3, 4, 5, 12]
    assert records.pictures[5].declared_hw is None
    with pytest.raises(ValueError, match="more than one image with id 1"):
        annotated_dataset(records, on_bad="skip")


def test_pictures_outside_the_folder_are_never_read(scanned, root):
    """An annotation file of someone else must not have other files opened."""
    secret = root.parent / "secret.png"
    Image.new("RGB", (8, 8)).save(secret)
    for name in ("../../secret.png", str(secret)):
        scanned(images=[{"id": 1, "file_name": name, "width": 8, "height": 8}], annotations=[])
        with pytest.raises(ValueError, match=r"image 1: its file_name .* is not below"):
            read_training_set(root, "train")
        with pytest.raises(ValueError, match=r"image 1: its file_name .* is not below"):
            read_coco_split(root, "train")


def test_annotations_with_a_fault(scanned):
    good = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2]}
    records = scanned(
        annotations=[
            good,
            good,
            {**good, "id": [2]},
            {**good, "id": 3, "image_id": 99},
            {**good, "id": 4, "category_id": 1.5},
            {**good, "id": 5, "bbox": [1, 1, 1e300, 2]},
            {**good, "id": 6, "bbox": "box"},
            {**good, "id": 7, "bbox": [1, 2, 3]},
            {key: good[key] for key in ("image_id", "category_id", "bbox")},
            {**good, "id": 8, "iscrowd": 1, "area": 3.5},
            None,
        ]
    )
    assert faults(records) == {
        ("annotation id", "annotation 1", "its id occurs twice"),
        ("annotation", "annotation [2]", "its id is no whole number"),
        ("annotation of no image", "annotation 3", "there is no image 99"),
        ("annotation", "annotation 4", "its category is 1.5, expected a whole number"),
        ("annotation", "annotation number 10", "it is 'None', expected an object"),
    }
    boxes = records.pictures[0].boxes
    assert [box.id for box in boxes] == [1, 5, 6, 7, None, 8]
    assert [bool(box.fault) for box in boxes] == [False, False, True, True, False, False]
    assert (boxes[5].crowd, boxes[5].area) == (True, 3.5)
    assert boxes[4].where.endswith("annotation number 8")
    dataset = annotated_dataset(records, on_bad="skip")
    assert len(dataset.labels) == 2
    assert any("annotation 5: its box" in fault and "far outside" in fault
               for fault in dataset.faults)  # fmt: skip


def test_categories_that_cannot_be_told_apart_are_said_and_read_as_far_as_they_go(scanned):
    records = scanned(categories=[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}, {"name": "c"}])
    assert [fault.kind for fault in records.faults] == ["categories"]
    assert records.categories.ids == (1,)
    assert scanned(categories=[None, 3]).categories.ids == ()


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"images": 3}', "[" * 10**5, '{"images": [], "annotations": 1}']
)
def test_what_is_no_annotation_file(root, text):
    (root / "annotations/instances_train.json").write_text(text)
    with pytest.raises(ValueError, match="no COCO annotation file"):
        read_records(root, "train")


def test_which_splits_there_are(root, tmp_path):
    (root / "val").rename(root / "validation")
    assert coco_splits(root) == ["train"]
    (root / "images").mkdir()
    (root / "validation").rename(root / "images/val")
    assert coco_splits(root) == ["train", "val"]
    assert coco_splits(tmp_path) == []


@pytest.mark.parametrize(
    ("xyxy", "says"),
    [
        ((0, 0, 10, 20), ""),
        ((-10, -20, 20, 40), ""),
        ((5, 5, 5, 5), ""),
        ((5, 5, 4, 6), r"\[5, 5, -1, 1\] has a negative"),
        ((-10.5, 0, 1, 1), r"\[-10\.5, 0, 11\.5, 1\] is far outside its picture of 10x20"),
        ((0, 0, 1, 40.5), "is far outside"),
        ((0, 0, float("nan"), 1), "is far outside"),
    ],
)
def test_boxes_that_can_be_meant(xyxy, says):
    if not says:
        check_box(tuple(map(float, xyxy)), (20, 10))
        return
    with pytest.raises(ValueError, match=says):
        check_box(tuple(map(float, xyxy)), (20, 10))
