"""Data sets that others prepared with TensorFlow Datasets, and the index that is kept of them."""

import io
import json
import os
import shutil

import numpy as np
import pytest
from conftest import DATA
from PIL import Image

from anchor_detr_jax.data.categories import COCO_NAMES, Categories, coco_columns
from anchor_detr_jax.data.formats.sources import read_training_set
from anchor_detr_jax.data.formats.tfds_builder import prepare_tfds_folder
from anchor_detr_jax.data.formats.tfds_folder import boxes_xyxy_px, read_tfds_records
from anchor_detr_jax.data.formats.tfds_records import Records

pytestmark = pytest.mark.usefixtures("own_cache")


def write_theirs(folder, examples, features):
    """A data set with a split `train`, made as TFDS wants it; the records are shuffled."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.registered import skip_registration

    with skip_registration():

        class Theirs(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                return tfds.core.DatasetInfo(
                    builder=self, features=tfds.features.FeaturesDict(features)
                )

            def _split_generators(self, dl_manager):
                return {"train": enumerate(examples)}

            def _generate_examples(self):
                raise NotImplementedError

    builder = Theirs(data_dir=folder, file_format="array_record")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )
    return folder / "theirs/1.0.0"


def box(ymin, xmin, ymax, xmax):
    import tensorflow_datasets as tfds

    return tfds.features.BBox(ymin=ymin, xmin=xmin, ymax=ymax, xmax=xmax)


def picture(height, width, kind="PNG"):
    stream = io.BytesIO()
    pixels = np.random.default_rng(height).integers(0, 255, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def simple_features(**more):
    """The least that there must be."""
    import tensorflow_datasets as tfds

    objects = {
        # Without a format: boxes are not checked when they are written.
        "bbox": tfds.features.BBoxFeature(bbox_format=None),
        "label": tfds.features.ClassLabel(names=["kerb", "cone"]),
    }
    return {"image": tfds.features.Image(), "objects": tfds.features.Sequence(objects), **more}


def simple(folder, *boxes, encoded=None, features=None):
    """A data set of one picture of 100x200 pixels with cones in it."""
    objects = [{"bbox": box(*sides), "label": 1} for sides in boxes]
    example = {"image": encoded or picture(100, 200), "objects": objects}
    return write_theirs(folder, [example], features or simple_features())


@pytest.fixture
def never_scan(monkeypatch):
    """From when it is called, records are not looked at any more."""
    return lambda: monkeypatch.delattr(Records, "annotations")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """The photographs as TFDS' own `coco` prepares them."""
    import tensorflow_datasets as tfds

    kinds = tfds.features
    objects = {
        "id": np.int64,
        "area": np.int64,
        "bbox": kinds.BBoxFeature(),
        "label": kinds.ClassLabel(names=list(COCO_NAMES.values())),
        "is_crowd": np.bool_,
    }
    features = {
        "image": kinds.Image(encoding_format="jpeg"),
        "image/filename": kinds.Text(),
        "image/id": np.int64,
        "objects": kinds.Sequence(objects),
    }
    truth = json.loads((DATA / "coco/annotations/instances_val2017.json").read_text())
    examples = []
    for image in truth["images"]:
        found = []
        for one in truth["annotations"]:
            if one["image_id"] == image["id"]:
                (x, y, w, h), (height, width) = one["bbox"], (image["height"], image["width"])
                sides = box(y / height, x / width, (y + h) / height, (x + w) / width)
                label, area = COCO_NAMES[one["category_id"]], int(one["area"])
                crowd = bool(one["iscrowd"])
                row = {"id": one["id"], "area": area, "label": label, "is_crowd": crowd}
                found.append({"bbox": sides, **row})
        examples.append(
            {
                "image": DATA / "coco/val2017" / image["file_name"],
                "image/filename": image["file_name"],
                "image/id": image["id"],
                "objects": found,
            }
        )
    return write_theirs(tmp_path_factory.mktemp("coco"), examples, features)


@pytest.mark.parametrize("columns", [coco_columns(), coco_columns(gaps=False)])
def test_their_coco_is_ours(photographs, columns):
    theirs = read_training_set(photographs, "train", columns=columns)
    ours = read_training_set(DATA / "coco", "val2017", columns=columns)
    assert (len(theirs), theirs.dropped, theirs.categories) == (5, ours.dropped, columns)
    names = [theirs.pictures.name(i).split("/")[-1] for i in range(5)]
    for i in range(5):
        j = names.index(ours.pictures.name(i).split("/")[-1])
        assert theirs.pictures.encoded(j) == ours.pictures.encoded(i)
        np.testing.assert_array_equal(theirs.hw[j], ours.hw[i])
        boxes, labels = theirs.targets(j)
        np.testing.assert_array_equal(labels, ours.targets(i)[1])
        np.testing.assert_allclose(boxes, ours.targets(i)[0], atol=1e-3)


def test_their_categories_are_the_class_labels(photographs):
    dataset = read_training_set(photographs, "train")
    assert dataset.categories == Categories(tuple(range(80)), tuple(COCO_NAMES.values()))
    other = Categories((3, 1), ("person", "unicorn"))
    with pytest.raises(ValueError, match=r"no column stands for category '[a-z ]+'"):
        read_training_set(photographs, "train", columns=other)
    people = read_training_set(photographs, "train", columns=other, on_bad="skip")
    assert set(people.labels) == {0}
    assert len(people.labels) == (dataset.labels == 0).sum()


def test_the_least_that_there_must_be(tmp_path):
    boxes = [(0.1, 0.25, 0.5, 0.75), (0.5, 0.5, 0.5, 0.9), (-0.5, 0.5, 1.5, 1.25)]
    dataset = read_training_set(simple(tmp_path, *boxes), "train")
    assert dataset.hw.tolist() == [[100, 200]]
    np.testing.assert_allclose(
        dataset.boxes_xyxy_px, [[50, 10, 150, 50], [100, 0, 200, 100]], rtol=1e-6
    )
    assert dataset.labels.tolist() == [1, 1]
    assert dataset.dropped == {"no area": 1}
    assert dataset.pictures.name(0).endswith("theirs/1.0.0/train/record 0")
    assert dataset.pictures.encoded(0) == picture(100, 200)


@pytest.mark.parametrize(
    ("sides", "says"),
    [
        ((0.1, 0.25, float("nan"), 0.75), "expected four finite numbers"),
        ((0.1, float("-inf"), 0.5, 0.75), "expected four finite numbers"),
        ((0.5, 0.25, 0.1, 0.75), "negative width or height"),
        ((0.5, 0.25, 2.5, 0.75), "far outside its picture of 200x100"),
    ],
)
def test_boxes_with_a_fault(tmp_path, sides, says):
    folder = simple(tmp_path, (0.1, 0.25, 0.5, 0.75), sides)
    with pytest.raises(ValueError, match=f"has 1 fault.*annotation 2: its box .*{says}"):
        read_training_set(folder, "train")
    dataset = read_training_set(folder, "train", on_bad="skip")
    assert dataset.starts.tolist() == [0, 1]
    assert len(dataset.faults) == 1


def test_what_is_no_picture_is_a_fault(tmp_path):
    good = {"image": picture(100, 200), "objects": [{"bbox": box(0, 0, 1, 1), "label": 1}]}
    bad = {"image": b"no picture", "objects": [{"bbox": box(0, 0, 1, 1), "label": 0}]}
    folder = write_theirs(tmp_path, [good, bad, good], simple_features())
    with pytest.raises(ValueError, match=r"record \d is no readable picture"):
        read_training_set(folder, "train")
    dataset = read_training_set(folder, "train", on_bad="skip")
    assert (len(dataset), dataset.labels.tolist()) == (2, [1, 1])
    assert [dataset.pictures.encoded(i) for i in range(2)] == [good["image"]] * 2
    nothing = write_theirs(tmp_path / "nothing", [bad], simple_features())
    with pytest.raises(ValueError, match=r"no picture to train on; .*record 0 is no"):
        read_training_set(nothing, "train", on_bad="skip")


def test_sizes_that_are_stored_are_taken(tmp_path):
    features = simple_features(height=np.int64, width=np.int64)
    example = {"image": b"unseen", "objects": [], "height": 7, "width": 9}
    dataset = read_training_set(write_theirs(tmp_path, [example], features), "train")
    assert dataset.hw.tolist() == [[7, 9]]


def test_what_is_not_needed_is_not_decoded(tmp_path):
    """Records as those of Pascal VOC, and with masks."""
    import tensorflow_datasets as tfds

    kinds = tfds.features
    objects = {
        "bbox": kinds.BBoxFeature(),
        "label": kinds.ClassLabel(names=["kerb", "cone"]),
        "pose": kinds.ClassLabel(num_classes=4),
        "is_difficult": np.bool_,
        "mask": kinds.Image(),
    }
    features = {
        "image": kinds.Image(shape=(None, None, 3), encoding_format="jpeg"),
        "image/filename": kinds.Text(),
        "objects": kinds.Sequence(objects),
        "labels": kinds.Sequence(objects["label"]),
        "segmentation": kinds.Image(),
    }
    other = {"pose": 2, "is_difficult": True, "mask": b"no picture"}
    one = {"bbox": box(0.1, 0.25, 0.5, 0.75), "label": "kerb", **other}
    example = {"image": picture(100, 200, "JPEG"), "image/filename": "2007_1.jpg", "labels": [0]}
    example |= {"objects": [one], "segmentation": b"no picture"}
    dataset = read_training_set(write_theirs(tmp_path, [example], features), "train")
    assert dataset.labels.tolist() == [0]
    np.testing.assert_allclose(dataset.boxes_xyxy_px, [[50, 10, 150, 50]], rtol=1e-6)
    assert dataset.pictures.name(0).endswith("/train/2007_1.jpg")
    assert dataset.pictures.encoded(0) == example["image"]
    (record,) = read_tfds_records(tmp_path / "theirs/1.0.0", "train").pictures
    assert record.boxes[0].difficult


def test_other_records(tmp_path):
    import tensorflow_datasets as tfds

    example = {"image": picture(9, 9), "label": 3}
    folder = write_theirs(tmp_path, [example], {"image": tfds.features.Image(), "label": np.int64})
    with pytest.raises(ValueError, match=r"expected at least image .* bbox .* and label"):
        read_training_set(folder, "train")


@pytest.mark.parametrize(
    ("box_format", "sides"),
    [
        ("XYXY", [50, 10, 150, 50]),
        ("YXYX", [10, 50, 50, 150]),
        ("XYWH", [50, 10, 100, 40]),
        ("REL_XYXY", [0.25, 0.1, 0.75, 0.5]),
        ("REL_YXYX", [0.1, 0.25, 0.5, 0.75]),
    ],
)
def test_box_formats(box_format, sides):
    boxes = np.array([sides], np.float32)
    boxes = boxes_xyxy_px(boxes, np.array([[100, 200]]), box_format=box_format)
    assert boxes.dtype == np.float32
    np.testing.assert_allclose(boxes, [[50, 10, 150, 50]], rtol=1e-6)
    with pytest.raises(ValueError, match="box format 'CXCYWH'"):
        boxes_xyxy_px(boxes, np.array([[100, 200]]), box_format="CXCYWH")


def test_records_are_read_once(photographs, never_scan):
    first = read_training_set(photographs, "train")
    never_scan()
    assert read_training_set(photographs, "train").fingerprint == first.fingerprint


def test_an_index_of_other_records_is_not_used(tmp_path):
    """Of records that were written again with other numbers, though in as many bytes."""
    old = simple(tmp_path / "old", (0.1, 0.25, 0.5, 0.75))
    new = simple(tmp_path / "new", (0.2, 0.25, 0.5, 0.75))
    shards = [next(folder.glob("*.array_record*")) for folder in (old, new)]
    assert shards[0].stat().st_size == shards[1].stat().st_size
    assert read_training_set(old, "train").boxes_xyxy_px[0, 1] == pytest.approx(10)
    shutil.copy(old / "anchor_detr_jax-train.npz", new)
    assert read_training_set(new, "train").boxes_xyxy_px[0, 1] == pytest.approx(20)


@pytest.mark.parametrize("content", [b"", b"PK no zip", None])
def test_a_damaged_index_is_made_again(tmp_path, content, never_scan):
    folder = simple(tmp_path, (0.1, 0.25, 0.5, 0.75))
    first = read_training_set(folder, "train")
    kept = folder / "anchor_detr_jax-train.npz"
    kept.write_bytes(kept.read_bytes()[:-100] if content is None else content)
    assert read_training_set(folder, "train").fingerprint == first.fingerprint
    never_scan()
    assert read_training_set(folder, "train").fingerprint == first.fingerprint


def test_beside_records_that_are_not_ones_own(tmp_path, own_cache, never_scan):
    """The index goes to the user's cache."""
    folder = simple(tmp_path, (0.1, 0.25, 0.5, 0.75))
    (folder / "anchor_detr_jax-train.npz").mkdir()  # cannot be written, even by root
    first = read_training_set(folder, "train")
    assert len(list((own_cache / "anchor_detr_jax").iterdir())) == 1
    never_scan()
    assert read_training_set(folder, "train").fingerprint == first.fingerprint


def test_a_copy_of_a_folder_of_ours_keeps_its_index(tmp_path, never_scan):
    prepared = prepare_tfds_folder(DATA / "coco", tmp_path / "prepared")
    never_scan()
    expected = read_training_set(prepared, "val2017").fingerprint
    copy = shutil.copytree(prepared, tmp_path / "copy", copy_function=shutil.copyfile)
    for path in copy.iterdir():
        os.utime(path, (1, 1))
    assert read_training_set(copy, "val2017").fingerprint == expected
