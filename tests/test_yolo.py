"""YOLO's folders: what they say, what in them is refused, and sizes that are read once."""

import os
from pathlib import Path

import pytest
from data_sets import NAMES, PICTURES, write_pictures, write_yolo
from PIL import Image

from anchor_detr_jax.data.formats import picture_sizes as sizes_module
from anchor_detr_jax.data.formats.layout import read_records, split_names
from anchor_detr_jax.data.formats.picture_sizes import picture_sizes
from anchor_detr_jax.data.formats.sources import read_training_set
from anchor_detr_jax.data.formats.yolo_yaml import find_yaml

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def root(tmp_path):
    return write_yolo(tmp_path / "yolo")


def say(root, text):
    (root / "data.yaml").write_text(text)
    return root


def first_boxes(root):
    return read_records(root, "train").pictures[0].boxes


def test_lines(root):
    """Of a picture of 80x60; three corners, a box, and what is neither."""
    lines = ["1 0.5 0.25 0.9 0.75 0.1 0.5", "2 0.5 0.5 0.25 0.5", "", "0.0 0.5 0.5 1 1"]
    lines += [
        "1 0.5 0.5",
        "1 0.5 0.5 0.1 0.1 0.9",
        "1 0.5 0.5 nan 1",
        "cone 1 1 1 1",
        "0.5 1 1 1 1",
    ]
    (root / "labels/train/a.txt").write_text("\n".join(lines))
    boxes = first_boxes(root)
    assert [box.category for box in boxes[:3]] == [1, 2, 0]
    assert boxes[0].xyxy_px == pytest.approx((8, 15, 72, 45))
    assert boxes[1].xyxy_px == pytest.approx((30, 15, 50, 45))
    assert boxes[2].xyxy_px == pytest.approx((0, 0, 80, 60))
    assert all(box.fault for box in boxes[3:])
    assert boxes[3].where == f"{root}/labels/train/a.txt:5"
    assert len(boxes) == 8
    with pytest.raises(ValueError, match=r"has 5 faults: .*labels/train/a\.txt:5: 2 numbers after"):
        read_training_set(root, "train")


def test_classes_that_there_are_not(root):
    with (root / "labels/train/a.txt").open("a") as stream:
        stream.write("3 0.5 0.5 0.1 0.1\n-1 0.5 0.5 0.1 0.1\n")
    with pytest.raises(ValueError, match=r"2 faults: .*a\.txt:3: no column .* 3; .*a\.txt:4: no"):
        read_training_set(root, "train")


def test_names_by_number_may_have_gaps(root):
    say(root, "train: images/train\nval: images/val\nnames: {0: cone, 1: kerb, 2: 5, 7: seven}\n")
    categories = read_records(root, "train").categories
    assert categories.ids == (0, 1, 2, 7)
    assert categories.names == ("cone", "kerb", "5", "seven")


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ("nc: 3", "it has no names"),
        ("nc: 4\nnames: [a, b, c]", "nc is 4, but there are 3 names"),
        ("names: cone", "names must be a list"),
        ("names: [a, [b]]", "names must be a list"),
        ("names: {a: b}", "names must be a list"),
        ("names: []", "names must be a list"),
    ],
)
def test_names_with_a_fault(root, names, says):
    say(root, f"train: images/train\n{names}\n")
    records = read_records(root, "train")
    assert [(f.kind, f.message) for f in records.faults] == [
        ("categories", records.faults[0].message)
    ]
    assert says in records.faults[0].message
    with pytest.raises(ValueError, match=says):
        read_training_set(root, "train", on_bad="skip")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("!!python/object/apply:os.system ['touch owned']", "ConstructorError"),
        ("names: &a [x]\nmore: [*a, *a]\ntrain: images/train", "aliases are refused"),
        ("[" * 1000, "cannot be read"),
        ("names: {", "cannot be read"),
        ("- a\n- b", "holds no names with values"),
        ("names: [a]", "names no pictures"),
        ("names: [a]\ntrain: {a: b}", "train must be a folder"),
        ("names: [a]\ntrain: nowhere", "train is .*nowhere, which is no folder"),
        ("names: [2001-99-99]", "cannot be read"),
        ('names: [a]\ntrain: !!int ""', "cannot be read"),
        ("names: [a]\ntrain: images/train\nkpt_shape: [12, 2]", "is of key points"),
    ],
)
def test_yaml_that_is_refused(root, text, says):
    say(root, text)
    with pytest.raises(ValueError, match=f"data.yaml.*{says}"):
        read_records(root, "train")
    assert not Path("owned").exists()


def test_where_pictures_are(tmp_path):
    """Lists, folders of folders, other places, and Roboflow's `..`."""
    root = write_yolo(tmp_path / "yolo")
    deep = root / "images/train/deep"
    write_pictures(deep, "val")
    (root / "labels/train/deep").mkdir()
    (root / "labels/train/deep/f.txt").write_text("0 0.5 0.5 1 1\n")
    listed = root / "lists/some.txt"
    listed.parent.mkdir()
    (listed.parent / "g.png").write_bytes((root / "images/val/g.png").read_bytes())
    (listed.parent / "g.txt").write_text("1 0.5 0.5 1 1\n")
    listed.write_text("images/train/b.png\n./g.png\n")
    text = (
        "names: [cone, kerb, lamp]\ntrain: ../images/train\nvalid: [images/val, lists/some.txt]\n"
    )
    say(root, text + "path: /of/another/machine\ntest:\n")
    assert split_names(root) == ["train", "val"]
    train, val = (read_records(root, split) for split in ("train", "val"))
    assert [p.path.name for p in train.pictures] == [f"{x}.png" for x in "abcdfge"]
    assert len(train.pictures[4].boxes) == 1
    assert [p.path.name for p in val.pictures] == ["f.png", "g.png", "b.png", "g.png"]
    assert [len(p.boxes) for p in val.pictures] == [2, 1, 1, 1]
    assert len(read_training_set(root, "val")) == 4
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (root / "data.yaml").rename(elsewhere / "mine.yaml")
    file = elsewhere / "mine.yaml"
    file.write_text(text + "path: ../yolo\n")
    assert find_yaml(elsewhere) == file
    assert len(read_records(elsewhere, "train").pictures) == 7


def test_a_folder_beside_anothers_pictures_keeps_its_own(tmp_path):
    """Roboflow writes `../train/images` for its own, also where there is one above."""
    root = write_yolo(tmp_path / "yolo")
    write_pictures(tmp_path / "images/train", "val")
    say(root, "names: [cone, kerb, lamp]\ntrain: ../images/train\nval: ../nowhere/images\n")
    names = [picture.path.name for picture in read_records(root, "train").pictures]
    assert names == [f"{letter}.png" for letter in "abcde"]
    assert split_names(root) == ["train"]  # `val` is named, but not there


def test_a_class_count_without_names(root):
    say(root, "nc: 3\ntrain: images/train\n")
    with pytest.raises(ValueError, match=r"data\.yaml: it has no names"):
        read_training_set(root, "train")


def test_labels_beside_pictures_below_a_folder_called_images(tmp_path):
    root = tmp_path / "images/mine"
    write_pictures(root / "train", "train")
    (root / "train/a.txt").write_text("0 0.5 0.5 1 1\n")
    records = read_records(say(root, "train: train\nnames: [cone]\n"), "train")
    assert [len(picture.boxes) for picture in records.pictures] == [1, 0, 0, 0, 0]
    assert records.faults == []


def test_label_files(root):
    (root / "labels/train/b.txt").write_bytes(b"\xff\xfe\xff")
    (root / "labels/train/gone.txt").write_text("0 0.5 0.5 1 1\n")
    (root / "labels/train/classes.txt").write_text("cone\n")
    (root / "images/train/d.png").unlink()
    faults = {(f.kind, Path(f.where).name) for f in read_records(root, "train").faults}
    assert faults == {
        ("label file", "b.txt"),
        ("label file without picture", "gone.txt"),
        ("label file without picture", "d.txt"),
    }


def test_a_picture_that_is_none(root):
    (root / "images/train/a.png").write_text("no picture")
    picture = read_records(root, "train").pictures[0]
    assert picture.header_hw is None
    assert all(box.fault for box in picture.boxes)
    with pytest.raises(ValueError, match=r"1 fault: picture .*a\.png has no size"):
        read_training_set(root, "train")
    assert len(read_training_set(root, "train", on_bad="skip")) == 4


def test_a_picture_that_has_changed_since(root):
    dataset = read_training_set(root, "train")
    assert dataset.categories.names == NAMES
    Image.new("RGB", (9, 8)).save(root / "images/train/a.png")
    assert read_training_set(root, "train").hw[0].tolist() == [8, 9]


@pytest.fixture
def asked(monkeypatch):
    """The pictures whose headers were read."""
    asked: list[str] = []
    read = sizes_module.header_hw

    def counting(file):
        asked.append(Path(file).name)
        return read(file)

    monkeypatch.setattr(sizes_module, "header_hw", counting)
    return asked


def test_headers_are_read_once(root, asked, own_cache):
    for _ in range(2):
        read_records(root, "train")
    assert sorted(asked) == sorted(PICTURES["train"])
    read_records(root, "train:held_out:0.5:1")
    assert len(asked) == 5
    os.utime(root / "images/train/b.png", (1, 1))
    write_pictures(root / "images/train", "val")
    asked.clear()
    read_records(root, "train")
    assert sorted(asked) == ["b.png", "f.png", "g.png"]
    (kept,) = (own_cache / "anchor_detr_jax").iterdir()
    kept.write_bytes(b"PK damaged")
    read_records(root, "train")
    assert len(asked) == 3 + 7


def test_where_nothing_can_be_kept(root, asked, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(root / "data.yaml"))  # no folder
    for _ in range(2):
        read_records(root, "train")
    assert len(asked) == 10


def test_sizes_are_of_stored_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    files = [tmp_path / "a.jpg", tmp_path / "gone.jpg"]
    assert picture_sizes(files, title="") == [(20, 30), None]
