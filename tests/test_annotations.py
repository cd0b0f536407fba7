"""Annotations to train on: the reference's targets, and what is wrong said by name."""

import copy
import json
import shutil

import numpy as np
import pytest
from conftest import DATA, golden
from PIL import Image

from anchor_detr_jax.data.annotated import FilePictures
from anchor_detr_jax.data.categories import Categories, coco_columns
from anchor_detr_jax.data.formats.annotations import FaultList
from anchor_detr_jax.data.formats.coco_records import categories_of
from anchor_detr_jax.data.formats.sources import read_training_set

PHOTOGRAPHS = [str(name) for name in golden("transforms")["files"]]

SMALL = {
    "images": [
        {"id": 7, "file_name": "a.png", "height": 20, "width": 30},
        {"id": 3, "file_name": "b.png", "height": 40, "width": 10},
        {"id": 5, "file_name": "c.png", "height": 8, "width": 9},
    ],
    "annotations": [
        {"id": 1, "image_id": 3, "category_id": 40, "bbox": [1, 2, 3, 4], "iscrowd": 0},
        {"id": 2, "image_id": 7, "category_id": 9, "bbox": [-5, 4, 10.5, 20], "iscrowd": 0},
        {"id": 3, "image_id": 3, "category_id": 9, "bbox": [0, 0, 10, 40], "iscrowd": 1},
        {"id": 4, "image_id": 3, "category_id": 9, "bbox": [2, 30, 4, 5.5]},
        {"id": 5, "image_id": 7, "category_id": 40, "bbox": [3, 3, 0, 9]},
        {"id": 6, "image_id": 7, "category_id": 40, "bbox": [30, 3, 4, 9]},
    ],
    "categories": [{"id": 40, "name": "forty"}, {"id": 9, "name": "nine"}],
}
"""Three pictures: of 1 and 2 boxes and of none, beside a crowd and two without an area."""


@pytest.fixture
def write(tmp_path):
    """Writes a data set's description beside its pictures; its folder."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "train").mkdir()
    for image in SMALL["images"]:
        size = (image["width"], image["height"])
        Image.new("RGB", size).save(tmp_path / "train" / image["file_name"])

    def write(content):
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "annotations/instances_train.json").write_text(text)
        return tmp_path

    return write


@pytest.fixture
def small():
    return copy.deepcopy(SMALL)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_targets_are_the_references(name):
    dataset = read_training_set(DATA / "coco", "val2017", columns=coco_columns())
    file = golden("transforms")
    index = dataset.pictures.files.index(name)
    boxes, labels = dataset.targets(index)
    assert boxes.dtype == np.float32
    np.testing.assert_array_equal(boxes, file[f"{name}/prepared/boxes"])
    np.testing.assert_array_equal(labels, file[f"{name}/prepared/labels"])
    np.testing.assert_array_equal(dataset.hw[index], file[f"{name}/prepared/orig_size"])


def test_boxes_are_clipped_and_what_has_no_area_is_dropped_and_counted(write, small):
    dataset = read_training_set(write(small), "train")
    assert len(dataset) == len(dataset.pictures) == 3
    np.testing.assert_array_equal(dataset.hw, [[20, 30], [40, 10], [8, 9]])
    np.testing.assert_array_equal(dataset.counts, [1, 2, 0])
    np.testing.assert_array_equal(dataset.targets(0)[0], [[0, 4, 5.5, 20]])
    np.testing.assert_array_equal(dataset.targets(1)[0], [[1, 2, 4, 6], [2, 30, 6, 35.5]])
    assert dataset.targets(2)[0].shape == (0, 4)
    assert dataset.dropped == {"crowd": 1, "no area": 2}
    assert dataset.faults == ()
    assert dataset.pictures.name(1).endswith("train/b.png")
    assert dataset.pictures.encoded(1).startswith(b"\x89PNG")


def test_columns_are_the_files_categories_in_ascending_order_or_as_asked_for(write, small):
    root = write(small)
    dataset = read_training_set(root, "train")
    assert dataset.categories == Categories((9, 40), ("nine", "forty"))
    np.testing.assert_array_equal(dataset.labels, [0, 1, 0])
    by_id = read_training_set(root, "train", columns=coco_columns())
    np.testing.assert_array_equal(by_id.labels, [9, 40, 9])
    without_gaps = read_training_set(root, "train", columns=coco_columns(gaps=False))
    np.testing.assert_array_equal(without_gaps.labels, [8, 35, 8])


def _annotation(**changes):
    return {"id": 9, "image_id": 3, "category_id": 9, "bbox": [1, 1, 2, 2], **changes}


@pytest.mark.parametrize(
    ("annotation", "says"),
    [
        (_annotation(bbox=[1, float("nan"), 2, 2]), "annotation 9: its box is .* four finite"),
        (_annotation(bbox=[1, 1, float("inf"), 2]), "annotation 9: its box is .* four finite"),
        (_annotation(bbox=[1, 1, 2]), "annotation 9: its box is .* four finite"),
        (_annotation(bbox=[1, 1, 2, "2"]), "annotation 9: its box is .* four finite"),
        (_annotation(bbox=[1, 1, 2, 10**400]), "annotation 9: its box is .* four finite"),
        (_annotation(bbox=None), "annotation 9: its box is None, .* four finite"),
        (_annotation(bbox=[1, 1, -2, 2]), r"annotation 9: its box \[1, 1, -2, 2\] has a negative"),
        (_annotation(bbox=[1, 85, 2, 2]), "annotation 9: .* far outside its picture of 10x40"),
        (_annotation(bbox=[-11, 1, 2, 2]), "annotation 9: .* far outside its picture of 10x40"),
        (_annotation(category_id=10), "annotation 9: no column stands for category 10"),
        (_annotation(category_id=[9]), "annotation 9: its category is .9., expected a whole"),
        (_annotation(image_id=4), "annotation 9: there is no image 4"),
        (_annotation(id=4), "annotation 4: its id occurs twice"),
        ({"id": 9, "image_id": 3, "bbox": [1, 1, 2, 2]}, "annotation 9: no 'category_id'"),
        ("nothing", "annotation number 6: it is .nothing., expected an object"),
    ],
)
def test_an_annotation_with_a_fault_stops_or_is_skipped(write, small, annotation, says):
    good = read_training_set(write(small), "train")
    small["annotations"].append(annotation)
    root = write(small)
    with pytest.raises(ValueError, match=f"instances_train.json has 1 fault: {says}"):
        read_training_set(root, "train")
    with pytest.raises(ValueError, match="on_bad='skip'"):
        read_training_set(root, "train")
    skipping = read_training_set(root, "train", on_bad="skip")
    assert len(skipping.faults) == 1
    assert skipping.fingerprint == good.fingerprint


def test_a_picture_that_is_missing_goes_with_its_annotations(write, small):
    root = write(small)
    (root / "train/b.png").unlink()
    with pytest.raises(ValueError, match=r"1 fault: picture .*b\.png is not there"):
        read_training_set(root, "train")
    dataset = read_training_set(root, "train", on_bad="skip")
    assert dataset.pictures.files == ("a.png", "c.png")
    np.testing.assert_array_equal(dataset.counts, [1, 0])
    assert len(dataset.faults) == 1
    small["images"][0].pop("file_name")
    small["images"][2]["file_name"] = ""  # the folder itself is no picture
    with pytest.raises(ValueError, match="no picture to train on; image 7: no file_name"):
        read_training_set(write(small), "train", on_bad="skip")


def test_sizes_that_are_not_given_are_read_off_the_pictures(write, small):
    del small["images"][0]["height"]
    small["images"][1]["width"] = None
    root = write(small)
    np.testing.assert_array_equal(read_training_set(root, "train").hw, [[20, 30], [40, 10], [8, 9]])
    (root / "train/a.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"picture .*a\.png has no size in the file"):
        read_training_set(root, "train")
    skipping = read_training_set(root, "train", on_bad="skip")
    np.testing.assert_array_equal(skipping.hw, [[40, 10], [8, 9]])


def test_all_that_is_wrong_is_said_at_once(write, small):
    small["annotations"] += [_annotation(id=i, bbox=[0, 0, -1, 1]) for i in range(20, 28)]
    with pytest.raises(ValueError, match=r"has 8 faults: annotation 20: .*; and 3 more\. Mend"):
        read_training_set(write(small), "train")
    assert len(read_training_set(write(small), "train", on_bad="skip").faults) == 8


@pytest.mark.parametrize("on_bad", ["stop", "skip"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"images": []}, "instances_train.json has no picture to train on$"),
        ({"images": [SMALL["images"][0]] * 2}, "more than one image with id 7"),
        ({"categories": [{"id": 9, "name": "x"}] * 2}, "has 2 categories with ids .9., .* once"),
        ({"categories": []}, "has 0 categories"),
        ({"categories": [{"id": "9", "name": "x"}]}, "whole numbers as ids"),
        ({"categories": [{"name": "x"}]}, r"needs categories with id and name \('id'\)"),
    ],
)
def test_what_cannot_be_skipped(write, small, change, says, on_bad):
    with pytest.raises(ValueError, match=says):
        read_training_set(write({**small, **change}), "train", on_bad=on_bad)


def test_an_unknown_split_and_an_unknown_way(write, small):
    root = write(small)
    with pytest.raises(ValueError, match=r"no pictures of 'test': neither test/.*instances_test"):
        read_training_set(root, "test")
    with pytest.raises(ValueError, match="on_bad is 'ignore', and must be 'stop' or 'skip'"):
        read_training_set(root, "train", on_bad="ignore")
    with pytest.raises(ValueError, match="no COCO annotation file"):
        read_training_set(write("{"), "train")


def test_a_file_without_annotations_has_pictures_without_boxes(write, small):
    del small["annotations"]
    dataset = read_training_set(write(small), "train")
    np.testing.assert_array_equal(dataset.counts, [0, 0, 0])
    assert dataset.boxes_xyxy_px.shape == (0, 4)


def test_fingerprint_is_of_the_content(write, small, tmp_path):
    root = write(small)
    first = read_training_set(root, "train").fingerprint
    assert read_training_set(root, "train").fingerprint == first
    moved = tmp_path / "moved"
    shutil.copytree(root / "train", moved / "images/train")
    shutil.copytree(root / "annotations", moved / "annotations")
    assert read_training_set(moved, "train").fingerprint == first
    prints = {first}
    for change in (
        lambda d: d["annotations"][0]["bbox"].__setitem__(0, 1.5),
        lambda d: d["annotations"][0].__setitem__("category_id", 9),
        lambda d: d["annotations"][0].__setitem__("image_id", 7),
        lambda d: d["images"].reverse(),
        lambda d: d["categories"][0].__setitem__("name", "four"),
        lambda d: d["images"][2].__setitem__("file_name", "a.png"),
        lambda d: d["images"][2].__setitem__("height", 7),
    ):
        changed = copy.deepcopy(small)
        change(changed)
        prints.add(read_training_set(write(changed), "train").fingerprint)
    assert len(prints) == 8


def test_faults_of_any_source_are_told_alike():
    faults = FaultList("here", "stop")
    assert faults.settled() == ()
    faults.add("x is not y")
    with pytest.raises(ValueError, match=r"here has 1 fault: x is not y\. Mend them, or"):
        faults.settled()
    assert categories_of([{"id": 2, "name": "b"}, {"id": 0, "name": 5}], "f").names == ("5", "b")


def test_a_picture_whose_file_is_gone_is_named(tmp_path):
    with pytest.raises(OSError, match=r"gone\.jpg"):
        FilePictures(tmp_path, ("gone.jpg",)).encoded(0)
