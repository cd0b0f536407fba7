"""Data sets recognised by their layout: whatever it is, training sees the same."""

import numpy as np
import pytest
from conftest import DATA
from data_sets import NAMES, PICTURES, write_coco, write_roboflow, write_voc, write_yolo

from anchor_detr_jax.data.annotated import AnnotatedDataset
from anchor_detr_jax.data.augmentation import AugmentationConfig
from anchor_detr_jax.data.categories import Categories
from anchor_detr_jax.data.formats.layout import data_format, read_records, split_names
from anchor_detr_jax.data.formats.sources import read_training_set
from anchor_detr_jax.data.formats.tfds_builder import prepare_tfds_folder
from anchor_detr_jax.data.pipeline import BatchReader
from anchor_detr_jax.data.plan import make_plan
from anchor_detr_jax.evaluation.sets import read_evaluation_set

pytestmark = pytest.mark.usefixtures("module_cache")

AUGMENTATION = AugmentationConfig(
    short_sides=(32, 48, 64), long_side=96, crop_short_sides=(40, 60), crop_sides=(24, 48)
)
EXACT = ["coco", "roboflow", "voc", "tfds of coco", "tfds of voc"]


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """The same data set in every layout."""
    folder = tmp_path_factory.mktemp("layouts")
    roots = {
        "coco": write_coco(folder / "coco"),
        "roboflow": write_roboflow(folder / "roboflow"),
        "voc": write_voc(folder / "voc"),
        "yolo": write_yolo(folder / "yolo"),
    }
    for name in ("coco", "voc", "yolo"):
        target = folder / f"tfds_of_{name}"
        roots[f"tfds of {name}"] = prepare_tfds_folder(roots[name], target)
    return roots


def batches(dataset: AnnotatedDataset):
    """All batches of two epochs, augmented."""
    plan = make_plan(dataset.hw, batch_size=2, augmentation=AUGMENTATION, seed=3, buckets=2)
    reader = BatchReader(dataset, plan, 4)
    return [reader(step) for step in range(2 * plan.steps_per_epoch)]


@pytest.mark.parametrize("name", EXACT)
def test_the_same_batches_to_the_bit(roots, name):
    expected = read_training_set(roots["coco"], "train")
    split = "train"
    dataset = read_training_set(roots[name], split)
    assert dataset.fingerprint == expected.fingerprint
    for one, other in zip(batches(dataset), batches(expected), strict=True):
        for part in ("images", "targets"):
            for key, array in vars(getattr(other, part)).items():
                np.testing.assert_array_equal(vars(getattr(one, part))[key], array)


@pytest.mark.parametrize("name", ["yolo", "tfds of yolo"])
def test_yolo_is_as_near_as_its_decimals(roots, name):
    expected, dataset = (read_training_set(roots[n], "train") for n in ("coco", name))
    assert dataset.categories == Categories((0, 1, 2), NAMES)
    np.testing.assert_allclose(dataset.boxes_xyxy_px, expected.boxes_xyxy_px, atol=1e-4)
    for array in ("hw", "labels", "starts"):
        np.testing.assert_array_equal(getattr(dataset, array), getattr(expected, array))
    for one, other in zip(batches(dataset), batches(expected), strict=True):
        np.testing.assert_array_equal(one.images.pixels, other.images.pixels)
        np.testing.assert_allclose(one.targets.boxes, other.targets.boxes, atol=1e-4)


@pytest.mark.parametrize("name", [*EXACT, "yolo", "tfds of yolo"])
def test_the_same_is_there_to_find(roots, name):
    split = "valid" if name == "roboflow" else "val"
    columns = read_training_set(roots["coco"], "train").categories
    dataset, truth = read_evaluation_set(roots[name], split, columns=columns)
    assert [image.path.name for image in dataset.images] == ["f.png", "g.png"]
    assert [image.id for image in dataset.images] == truth.image_ids == [1, 2]
    assert truth.categories == dict(enumerate(NAMES, start=1))
    expected = [
        (i, NAMES.index(category) + 1, x1, y1, x2 - x1, y2 - y1)
        for i, (_, boxes) in enumerate(PICTURES["val"].values(), start=1)
        for category, x1, y1, x2, y2 in boxes
    ]
    found = [(a["image_id"], a["category_id"], *a["bbox"]) for a in truth.annotations]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert dataset.images[1].opened().size == (75, 55)


def test_formats_and_splits(roots):
    formats = {name: data_format(root) for name, root in roots.items()}
    assert formats == {name: name.split()[0].replace("roboflow", "coco") for name in roots}
    splits = {name: split_names(root) for name, root in roots.items()}
    assert splits.pop("roboflow") == ["train", "valid"]
    assert all(names == ["train", "val"] for names in splits.values())
    for root in roots.values():
        with pytest.raises(ValueError, match="night"):
            read_records(root, "night")


def test_what_is_no_data_set(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(
        ValueError, match=r"holds notes\.txt, pictures/\.(.|\n)*Annotations/\*\.xml"
    ):
        data_format(tmp_path)
    with pytest.raises(ValueError, match="there is no folder"):
        data_format(tmp_path / "nowhere")


def test_splits_that_number_their_categories_differently_are_refused(roots):
    """What one file calls 1 is 2 in the other: cones would count as kerbs."""
    columns = Categories((2, 1, 3), tuple(NAMES))
    for read in (read_evaluation_set, read_training_set):
        with pytest.raises(ValueError, match=rf"gives '{NAMES[0]}' the id 1, where 2 is expected"):
            read(roots["coco"], "val", columns=columns)


def test_a_detectors_columns_are_found_by_name_where_ids_are_only_counted(roots):
    columns = Categories((7, 8, 1, 2), ("lamp", None, "cone", "dog"))
    for name in ("voc", "yolo", "tfds of voc"):
        with pytest.raises(ValueError, match="no column stands for category"):
            read_training_set(roots[name], "train", columns=columns)
        dataset = read_training_set(roots[name], "train", columns=columns, on_bad="skip")
        assert dataset.labels.tolist() == [2, 0, 2]  # cone, lamp, cone; kerbs are left out
        _, truth = read_evaluation_set(roots[name], "val", columns=columns)
        assert [a["category_id"] for a in truth.annotations] == [1, 7, 7]
        assert sorted(truth.categories.values()) == sorted(NAMES)
        kerb = next(id_ for id_, kind in truth.categories.items() if kind == "kerb")
        assert kerb not in columns.ids


def test_a_picture_of_another_size_is_named_with_both(roots, tmp_path):
    root = write_voc(tmp_path / "voc")
    file = root / "Annotations/a.xml"
    file.write_text(file.read_text().replace("<width>80<", "<width>88<"))
    dataset = read_training_set(root, "train")
    with pytest.raises(ValueError, match=r"a\.png is 80x60, but .* of 88x60"):
        batches(dataset)


def test_pictures_that_nothing_speaks_of(roots, tmp_path):
    for write, folder in (
        (write_coco, "train"),
        (write_voc, "JPEGImages"),
        (write_yolo, "images/train"),
    ):
        root = write(tmp_path / write.__name__)
        assert read_records(root, "train").unreferenced == []
        file = root / folder / "stray.jpg"
        file.write_bytes(b"")
        unreferenced = read_records(root, "train").unreferenced
        # A folder that a data.yaml names has no strays: all in it is meant.
        assert unreferenced == ([] if write is write_yolo else [file])


def test_cocos_own_names():
    assert split_names(DATA / "coco") == ["val2017"]
    assert len(read_records(DATA / "coco", "val2017").pictures) == 5
