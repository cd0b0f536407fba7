"""The made-up data set: its boxes against its pixels, and its layout."""

import json

import numpy as np
import pytest
from PIL import Image

from anchor_detr_jax.data.formats.coco import read_annotation_file, read_coco_split
from anchor_detr_jax.data.shapes import SHAPES, make_shapes

SPLITS = {"train2017": 60, "val2017": 9}
COUNTS = {"train": SPLITS["train2017"], "val": SPLITS["val2017"]}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "below" / "shapes"
    make_shapes(folder, **COUNTS)
    return folder


def described(root, split):
    return read_annotation_file(root / "annotations" / f"instances_{split}.json")


def pixels(root, split, name):
    return np.asarray(Image.open(root / split / name))


def by_image(content):
    found = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        found[annotation["image_id"]].append(annotation)
    return found


@pytest.mark.parametrize("split", SPLITS)
def test_it_is_in_cocos_layout(root, split):
    dataset, content = read_coco_split(root, split), described(root, split)
    assert dataset.annotated
    assert len(dataset.images) == len(list((root / split).iterdir())) == SPLITS[split]
    for image, entry in zip(dataset.images, content["images"], strict=True):
        with Image.open(image.path) as picture:
            assert (picture.mode, picture.size) == ("RGB", (entry["width"], entry["height"]))
    annotations = content["annotations"]
    assert [a["id"] for a in annotations] == list(range(1, len(annotations) + 1))
    assert {a["iscrowd"] for a in annotations} == {0}
    assert content["categories"] == [{"id": i + 1, "name": n} for i, n in enumerate(SHAPES)]
    assert {len(of_image) for of_image in by_image(content).values()} <= {1, 2, 3, 4}


def test_every_number_of_shapes_and_every_kind_occurs(root):
    content = described(root, "train2017")
    assert {len(of_image) for of_image in by_image(content).values()} == {1, 2, 3, 4}
    assert {a["category_id"] for a in content["annotations"]} == {1, 2, 3}


@pytest.mark.parametrize("split", SPLITS)
def test_boxes_are_tight_around_what_is_seen(root, split):
    """A shape has one colour, which the noisy ground about it has not: its pixels tell its box."""
    content = described(root, split)
    names = {image["id"]: image["file_name"] for image in content["images"]}
    # Of a box's pixels, the share that each kind covers.
    shares = {"circle": np.pi / 4, "square": 1, "triangle": 1 / 2}
    for a in content["annotations"]:
        picture = pixels(root, split, names[a["image_id"]]).astype(int)
        x, y, w, h = a["bbox"]
        of_shape = (picture == picture[y + h // 2, x + w // 2]).all(-1)
        rows, columns = np.nonzero(of_shape)
        assert [columns.min(), rows.min()] == [x, y]
        assert [columns.max() + 1 - x, rows.max() + 1 - y] == [w, h]
        assert a["area"] == of_shape.sum()
        share = shares[SHAPES[a["category_id"] - 1]]
        assert a["area"] / (w * h) == pytest.approx(share, abs=0.05)


def test_a_shape_stands_out_from_its_ground(root):
    content = described(root, "train2017")
    names = {image["id"]: image["file_name"] for image in content["images"]}
    for image_id, of_image in by_image(content).items():
        picture = pixels(root, "train2017", names[image_id]).astype(int)
        ground = np.ones(picture.shape[:2], bool)
        for a in of_image:
            x, y, w, h = a["bbox"]
            assert ground[y : y + h, x : x + w].all()  # no other box is here
            ground[y : y + h, x : x + w] = False
        for a in of_image:
            x, y, w, h = a["bbox"]
            far = np.abs(picture[ground] - picture[y + h // 2, x + w // 2]).max(-1)
            assert np.median(far) > 50


def contents(root):
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_a_picture_follows_from_seed_split_and_number(root, tmp_path):
    make_shapes(tmp_path / "again", **COUNTS)
    assert contents(tmp_path / "again") == contents(root)
    make_shapes(tmp_path / "shorter", train=5, val=2)
    pictures = {k: v for k, v in contents(tmp_path / "shorter").items() if k.endswith(".png")}
    assert len(pictures) == 7
    assert pictures.items() <= contents(root).items()
    make_shapes(tmp_path / "other", train=5, val=2, seed=1)
    every = [*contents(root).values(), *contents(tmp_path / "other").values()]
    assert len(set(every)) == len(every) == sum(SPLITS.values()) + 2 + 7 + 2


def test_sizes(tmp_path):
    make_shapes(tmp_path / "small", train=20, val=1, size=32)
    content = described(tmp_path / "small", "train2017")
    assert pixels(tmp_path / "small", "train2017", "000001.png").shape == (32, 32, 3)
    boxes = np.array([a["bbox"] for a in content["annotations"]])
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= 32).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"train": 0}, "train is 0, and must be at least 1"),
        ({"val": -1}, "val is -1"),
        ({"size": 20}, "size is 20, and must be at least 32"),
    ],
)
def test_what_cannot_be_is_named(tmp_path, change, says):
    with pytest.raises(ValueError, match=says):
        make_shapes(tmp_path / "none", **{"train": 1, "val": 1, **change})
    assert not list(tmp_path.iterdir())


def test_the_folder_appears_complete_or_not_at_all(tmp_path, monkeypatch):
    folder = tmp_path / "shapes"
    save = Image.Image.save

    def save_two(self, path, **options):
        assert not folder.exists()
        if path.name == "000003.png":
            raise OSError("no space left")
        save(self, path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", save_two)
        with pytest.raises(OSError, match="no space left"):
            make_shapes(folder, train=4, val=1)
    assert not list(tmp_path.iterdir())
    make_shapes(folder, train=4, val=1)
    before = contents(folder)
    with pytest.raises(FileExistsError, match="shapes exists; choose another folder"):
        make_shapes(folder, train=1, val=1)
    assert contents(folder) == before
    assert json.loads(before["annotations/instances_val2017.json"])["images"][0]["id"] == 1
