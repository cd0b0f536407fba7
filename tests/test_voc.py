"""Pascal VOC's folders: what they say, and what in them is refused."""

import re
from collections import Counter

import pytest
from data_sets import NAMES, voc_xml, write_voc

from anchor_detr_jax.data.formats.annotations import annotated_dataset
from anchor_detr_jax.data.formats.sources import read_training_set
from anchor_detr_jax.data.formats.voc import read_voc_records, voc_splits
from anchor_detr_jax.data.formats.xml_tree import read_xml


@pytest.fixture
def root(tmp_path):
    return write_voc(tmp_path / "voc")


def kinds(records):
    return Counter(fault.kind for fault in records.faults)


def test_blood_cells(shared):
    """364 photographs of a microscope; two of their boxes are points."""
    root = shared / "bccd"
    assert voc_splits(root) == ["train", "val", "trainval", "test"]
    splits = {name: read_voc_records(root, name) for name in ("trainval", "test")}
    pictures = [picture for records in splits.values() for picture in records.pictures]
    assert len(pictures) == 364
    assert {picture.declared_hw for picture in pictures} == {(480, 640)}
    counts = Counter(box.category for picture in pictures for box in picture.boxes)
    assert counts == {"RBC": 4155, "WBC": 372, "Platelets": 361}
    for records in splits.values():
        assert (records.faults, records.unreferenced) == ([], [])
        assert records.categories.to_json() == [
            {"id": 1, "name": "Platelets"},
            {"id": 2, "name": "RBC"},
            {"id": 3, "name": "WBC"},
        ]
    whole = annotated_dataset(splits["trainval"])
    assert whole.dropped == {"no area": 2}
    assert (len(whole), len(whole.labels)) == (292, 3941)
    assert annotated_dataset(splits["test"]).dropped == {}


def test_corners_count_from_one_and_are_inside(root):
    xml = voc_xml("a.png", (60, 80), [("cone", 0, 0, 80, 60), ("cone", 3, 7, 4, 8)])
    assert "<xmin>1</xmin><ymin>1</ymin><xmax>80</xmax><ymax>60</ymax>" in xml
    (root / "Annotations/a.xml").write_text(xml)
    whole, point = read_voc_records(root, "train").pictures[0].boxes
    assert whole.xyxy_px == (0, 0, 80, 60)
    assert point.xyxy_px == (3, 7, 3, 7)
    assert point.where == f"{root}/Annotations/a.xml: object 2"
    assert read_training_set(root, "train").dropped == {"no area": 1}


def test_difficult_objects_are_marked_and_parts_are_no_objects(root):
    part = "<difficult>1</difficult><part><name>tip</name><bndbox/></part>"
    xml = voc_xml("a.png", (60, 80), [("cone", 0, 0, 80, 60)], more=part)
    (root / "Annotations/a.xml").write_text(xml)
    records = read_voc_records(root, "train")
    (box,) = records.pictures[0].boxes
    assert box.difficult
    assert records.categories.names == NAMES
    assert len(read_training_set(root, "train").labels) == 5


def test_lists(root):
    lists = root / "ImageSets/Main"
    (lists / "cone_train.txt").write_text("a  1\nb -1\n")
    (lists / "night.txt").write_text("a.png\n\nb -1\nc  1\n")
    assert voc_splits(root) == ["train", "val", "night"]
    assert [p.path.name for p in read_voc_records(root, "night").pictures] == [
        *("a.png", "b.png", "c.png")
    ]
    (lists / "val.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"val\.txt is no text"):
        read_voc_records(root, "val")
    strays = [root / "JPEGImages/f.png", root / "JPEGImages/g.png"]
    assert read_voc_records(root, "train").unreferenced == strays


def test_lists_of_ones_own_are_splits(root):
    for name in ("train", "val"):
        lists = root / "ImageSets/Main"
        (lists / f"{name}.txt").rename(lists / f"fold1_{name}.txt")
    assert voc_splits(root) == ["fold1_train", "fold1_val"]


def test_a_size_beyond_all_pictures_is_read_off_the_picture(root):
    file = root / "Annotations/a.xml"
    file.write_text(re.sub("<height>.*?</height>", "<height>1e300</height>", file.read_text()))
    assert read_training_set(root, "train").hw[0].max() < 1000


def test_without_lists_all_is_one_split(tmp_path):
    root = write_voc(tmp_path / "voc", lists=False)
    assert voc_splits(root) == ["all"]
    assert [p.path.name for p in read_voc_records(root, "all").pictures] == [
        f"{letter}.png" for letter in "abcdefg"
    ]


def test_names_agree_where_a_split_lacks_some(root):
    """Columns mean the same in training and in validation."""
    assert read_voc_records(root, "val").categories.names == NAMES


def test_a_picture_of_another_ending_or_name(root):
    (root / "JPEGImages/a.png").rename(root / "JPEGImages/other.png")
    file = root / "Annotations/a.xml"
    assert "picture" in _fault(root)
    file.write_text(file.read_text().replace("a.png", "other.png"))
    assert read_training_set(root, "train").pictures.name(0).endswith("JPEGImages/other.png")


def _fault(root):
    with pytest.raises(ValueError, match="fault") as caught:
        read_training_set(root, "train")
    return str(caught.value)


SCRAPS = {
    "no XML": ("<annotation><object>", "no well-formed XML"),
    "laughs": (
        '<!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
        "<annotation><filename>&b;</filename></annotation>",
        "line 1: it declares a document type, which is refused",
    ),
    "another file": (
        '<?xml version="1.0"?>\n<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        "<annotation><filename>&x;</filename></annotation>",
        "line 2: it declares a document type",
    ),
    "another document type": (
        '<!DOCTYPE a SYSTEM "http://example.org/a.dtd"><annotation/>',
        "it declares a document type",
    ),
    "deep": ("<a>" * 10**4, "no well-formed XML"),
    "no encoding": ('<?xml version="1.0" encoding="klingon"?><a/>', "no well-formed XML"),
    "entity": ("<annotation><filename>&x;</filename></annotation>", "undefined entity"),
}


@pytest.mark.parametrize("name", SCRAPS)
def test_xml_that_is_refused(root, name):
    text, says = SCRAPS[name]
    (root / "Annotations/a.xml").write_text(text)
    with pytest.raises(ValueError, match=says):
        read_xml(root / "Annotations/a.xml")
    records = read_voc_records(root, "train")
    assert [picture.path.name for picture in records.pictures] == [f"{x}.png" for x in "bcde"]
    assert kinds(records) == {"annotation file": 1}
    assert says in records.faults[0].message
    assert f"Annotations has 1 fault: {root}/Annotations/a.xml: " in _fault(root)
    assert len(read_training_set(root, "train", on_bad="skip")) == 4


def test_an_annotation_that_is_too_large(root, monkeypatch):
    monkeypatch.setattr("anchor_detr_jax.data.formats.xml_tree._LARGEST", 100)
    with pytest.raises(ValueError, match="too much for an annotation"):
        read_xml(root / "Annotations/a.xml")


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "nothing"])
def test_names_are_never_followed(root, name):
    (root.parent / "secret.xml").write_text(voc_xml("b.png", (50, 90), []))
    (root.parent / "secret.png").write_bytes((root / "JPEGImages/b.png").read_bytes())
    with (root / "ImageSets/Main/train.txt").open("a") as stream:
        stream.write(f"{name}\n")
    records = read_voc_records(root, "train")
    (fault,) = records.faults
    assert (fault.kind, fault.where) == (
        "no annotation file",
        f"{root}/ImageSets/Main/train.txt:6",
    )
    file = root / "Annotations/a.xml"
    (root / "JPEGImages/a.png").unlink()
    file.write_text(file.read_text().replace("a.png", f"{name}.png"))
    assert read_voc_records(root, "train").pictures[0].path == root / "JPEGImages/a.jpg"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("<xmax>40<", "<xmax>forty<", "object 1: its box is .*'xmax': 'forty'"),
        ("<xmax>40<", "<xmax>nan<", "object 1: its box is .*'xmax': 'nan'"),
        ("<xmax>40</xmax>", "", "object 1: its box is .*'xmax': None"),
        ("<xmax>40<", "<xmax>4<", "object 1: its box .* has a negative width or height"),
        ("<xmax>40<", "<xmax>400<", "object 1: its box .* is far outside its picture of 80x60"),
        ("<name>kerb</name>", "", "object 1: it has no name"),
    ],
)
def test_boxes_with_a_fault(root, old, new, says):
    file = root / "Annotations/a.xml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=f"1 fault: {root}/Annotations/a.xml: {says}"):
        read_training_set(root, "train")
    assert len(read_training_set(root, "train", on_bad="skip").labels) == 5


@pytest.mark.usefixtures("own_cache")
def test_a_size_that_is_not_given_is_read_off_the_picture(root):
    file = root / "Annotations/a.xml"
    file.write_text(file.read_text().replace("<width>80<", "<width>0<"))
    assert read_voc_records(root, "train").pictures[0].declared_hw is None
    assert read_training_set(root, "train").hw[0].tolist() == [60, 80]


def test_what_is_listed_twice_counts_once(root):
    (root / "ImageSets/Main/train.txt").write_text("a\nb\na\n")
    records = read_voc_records(root, "train")
    assert len(records.pictures) == 2
    assert kinds(records) == {"listed twice": 1}
    assert records.faults[0].where.endswith("train.txt:3")
