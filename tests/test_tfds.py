"""Data sets of TensorFlow Datasets: COCO folders prepared by us, and folders of others."""

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import DATA
from data_sets import write_voc
from PIL import Image

from anchor_detr_jax.data.categories import Categories, coco_columns
from anchor_detr_jax.data.formats.sources import read_training_set
from anchor_detr_jax.data.formats.tfds_builder import prepare_tfds_folder
from anchor_detr_jax.data.formats.tfds_folder import is_tfds_folder, read_tfds_records
from anchor_detr_jax.evaluation.sets import read_evaluation_set

pytestmark = pytest.mark.usefixtures("module_cache")

ROOT = Path(__file__).parents[1]
ARRAYS = ("hw", "boxes_xyxy_px", "labels", "starts")

CATEGORIES = [{"id": 9, "name": "cone", "supercategory": "street"}, {"id": 4, "name": "kerb"}]
ANNOTATIONS = [
    {"id": 7, "image_id": 30, "category_id": 9, "bbox": [0.1, 2.7, 10.3, 4.9], "area": 17.25},
    {"id": 5, "image_id": 10, "category_id": 4, "bbox": [33.33, 5.05, 19.9, 8.1]},  # clipped
    {"id": 6, "image_id": 30, "category_id": 4, "bbox": [1, 1, 0, 5], "iscrowd": 0},  # no area
    {"id": 8, "image_id": 30, "category_id": 9, "bbox": [1, 1, 8, 5], "iscrowd": 1},
    {"id": 2, "image_id": 30, "category_id": 4, "bbox": [-3.3, 1.1, 8.7, 5.4], "iscrowd": 0},
]


def write_coco(root, split="train2017", *, annotations=ANNOTATIONS, images=(), folder=None):
    """A COCO folder: image 30 in a subfolder, image 20 empty, image 10 of unsaid size."""
    rng = np.random.default_rng(len(split))
    entries = [
        {"id": 30, "file_name": "deep/c.png", "height": 40, "width": 60},
        {"id": 20, "file_name": "b.jpg", "height": 25, "width": 35},
        {"id": 10, "file_name": "a.jpg"},
    ]
    for entry, hw in zip(entries, [(40, 60), (25, 35), (50, 45)], strict=True):
        path = root / (folder or split) / entry["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (*hw, 3), np.uint8)).save(path)
    content = {"images": [*entries, *images], "annotations": annotations, "categories": CATEGORIES}
    (root / "annotations").mkdir(exist_ok=True)
    (root / f"annotations/instances_{split}.json").write_text(json.dumps(content))
    return root


def assert_same(one, other):
    """To the bit, pictures included."""
    for name in ARRAYS:
        mine, yours = getattr(one, name), getattr(other, name)
        assert mine.dtype == yours.dtype
        np.testing.assert_array_equal(mine, yours)
    assert one.fingerprint == other.fingerprint
    assert (one.categories, one.dropped) == (other.categories, other.dropped)
    for i in range(len(one)):
        assert one.pictures.encoded(i) == other.pictures.encoded(i)


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    root = write_coco(tmp_path_factory.mktemp("coco"))
    return write_coco(root, "my-val", folder="images/my-val", annotations=ANNOTATIONS[:2])


@pytest.fixture(scope="module")
def prepared(coco, tmp_path_factory):
    return prepare_tfds_folder(coco, tmp_path_factory.mktemp("tfds") / "prepared")


@pytest.mark.parametrize("split", ["train2017", "my-val"])
@pytest.mark.parametrize("columns", [None, Categories((4, 1, 9), ("kerb", None, "cone"))])
def test_a_prepared_folder_reads_as_the_coco_folder(coco, prepared, split, columns):
    expected = read_training_set(coco, split, columns=columns)
    assert_same(read_training_set(prepared, split, columns=columns), expected)


def test_what_is_in_a_prepared_folder(prepared):
    dataset = read_training_set(prepared, "train2017")
    assert dataset.categories == Categories((4, 9), ("kerb", "cone"))
    assert dataset.hw.tolist() == [[40, 60], [25, 35], [50, 45]]
    assert dataset.labels.tolist() == [1, 0, 0]
    assert dataset.starts.tolist() == [0, 2, 2, 3]
    assert dataset.dropped == {"crowd": 1, "no area": 1}
    expected = [[0.1, 2.7, 10.4, 7.6], [0, 1.1, 5.4, 6.5], [33.33, 5.05, 45, 13.15]]
    np.testing.assert_allclose(dataset.boxes_xyxy_px, expected, rtol=1e-6)
    assert Path(dataset.pictures.name(0)) == prepared / "train2017/deep/c.png"


def test_photographs(tmp_path):
    prepared = prepare_tfds_folder(DATA / "coco", tmp_path / "prepared")
    assert is_tfds_folder(prepared)
    for columns in (None, coco_columns(), coco_columns(gaps=False)):
        ours = read_training_set(prepared, "val2017", columns=columns)
        assert_same(ours, read_training_set(DATA / "coco", "val2017", columns=columns))
    dataset, back = read_evaluation_set(prepared, "val2017")
    truth = json.loads((DATA / "coco/annotations/instances_val2017.json").read_text())
    by_box = {(a["image_id"], *a["bbox"]): a for a in truth["annotations"]}
    assert len(by_box) == len(back.annotations) == len(truth["annotations"])
    for annotation in back.annotations:
        original = by_box[annotation["image_id"], *annotation["bbox"]]
        assert annotation["area"] == pytest.approx(original["area"], rel=1e-7)
        for key in ("category_id", "iscrowd"):
            assert annotation[key] == original[key]
    assert [image.id for image in dataset.images] == [image["id"] for image in truth["images"]]
    assert back.image_ids == [image["id"] for image in truth["images"]]
    assert back.categories == {entry["id"]: entry["name"] for entry in truth["categories"]}


def test_other_processes_and_threads_read_pictures(coco, prepared):
    pictures = read_training_set(prepared, "train2017").pictures
    files = read_training_set(coco, "train2017").pictures
    expected = [files.encoded(i) for i in range(3)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(pictures.encoded, [0, 1, 2] * 100)) == expected * 100
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # sent with an open folder
        assert pool.map(pictures.encoded, range(3)) == expected


WITHOUT_TENSORFLOW = """
import sys
from anchor_detr_jax.data.formats import sources, tfds_builder
assert "tensorflow_datasets" not in sys.modules
tfds_builder.prepare_tfds_folder(sys.argv[1], sys.argv[2])
for split in ("train2017", "my-val"):
    dataset = sources.read_training_set(sys.argv[2], split)
    assert dataset.pictures.encoded(1)
assert "tensorflow_datasets" in sys.modules
assert not {"tensorflow", "apache_beam", "jax"} & set(sys.modules)
"""


def test_tensorflow_is_never_imported(coco, tmp_path):
    """Not even where it is installed."""
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow/__init__.py").write_text("raise SystemExit('imported')")
    command = [sys.executable, "-W", "error", "-c", WITHOUT_TENSORFLOW, coco, tmp_path / "new"]
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


KILLED = """
import os, pathlib, sys
from anchor_detr_jax.data.formats.tfds_builder import prepare_tfds_folder
read = pathlib.Path.read_bytes
def killed(path):
    if path.name == "a.jpg":
        os._exit(9)
    return read(path)
pathlib.Path.read_bytes = killed
prepare_tfds_folder(sys.argv[1], sys.argv[2])
"""


def test_what_a_kill_leaves_is_no_data_set(coco, tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, coco, tmp_path / "new"], check=False)
    assert done.returncode == 9
    assert [path.name for path in tmp_path.iterdir()] == [".new.unfinished"]
    assert not any(is_tfds_folder(path) for path in tmp_path.rglob("*"))
    prepare_tfds_folder(coco, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    with pytest.raises(FileExistsError, match="choose another folder"):
        prepare_tfds_folder(coco, tmp_path / "new")


def test_a_failure_leaves_nothing(coco, tmp_path, monkeypatch):
    builder = "anchor_detr_jax.data.formats.tfds_builder"
    monkeypatch.setattr(f"{builder}.read_index", None)  # when all is written
    with pytest.raises(TypeError):
        prepare_tfds_folder(coco, tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_faults_stop_the_preparation_or_are_left_out(tmp_path):
    bad = [
        {"id": 7, "image_id": 30, "category_id": 9, "bbox": [1, 1, 2, 2]},
        {"id": 20, "image_id": 99, "category_id": 9, "bbox": [1, 1, 2, 2]},
        {"id": 21, "image_id": 10, "category_id": 9, "bbox": [1, 1, float("nan"), 2]},
        {"id": 22, "image_id": 10, "category_id": 9, "bbox": [1, 1, 2]},
        {"id": 23, "image_id": 10, "category_id": 9},
        {"id": 24, "image_id": 10, "category_id": "cone", "bbox": [1, 1, 2, 2]},
        {"id": 25, "image_id": 11, "category_id": 9, "bbox": [1, 1, 2, 2]},  # picture is missing
        "cone",
    ]
    images = [{"id": 11, "file_name": "gone.jpg"}, {"id": 12}]
    root = write_coco(tmp_path, annotations=[*ANNOTATIONS, *bad], images=images)
    with pytest.raises(ValueError, match=r"instances_train2017.json has 9 faults: image 12: no fi"):
        prepare_tfds_folder(root, tmp_path / "prepared")
    assert not (tmp_path / "prepared").exists()
    prepared = prepare_tfds_folder(root, tmp_path / "prepared", on_bad="skip")
    expected = read_training_set(root, "train2017", on_bad="skip")
    assert len(expected.faults) == 9
    assert f"picture {root}/train2017/gone.jpg is not there" in expected.faults
    assert_same(read_training_set(prepared, "train2017"), expected)


def test_categories_without_a_column_are_faults(prepared):
    columns = Categories((4,), ("kerb",))
    with pytest.raises(ValueError, match="annotation 7: no column stands for category 9"):
        read_training_set(prepared, "train2017", columns=columns)
    dataset = read_training_set(prepared, "train2017", columns=columns, on_bad="skip")
    assert dataset.labels.tolist() == [0, 0]
    assert [fault.split(":")[0] for fault in dataset.faults] == ["annotation 7", "annotation 8"]


def test_which_splits_there_are(coco, prepared, tmp_path):
    with pytest.raises(ValueError, match="no split 'val2017'; there are my-val, train2017"):
        read_training_set(prepared, "val2017")
    with pytest.raises(ValueError, match="no pictures of 'test2017'"):
        prepare_tfds_folder(coco, tmp_path / "new", splits=["my-val", "test2017"])
    with pytest.raises(ValueError, match=r"split 'a\.b'"):
        prepare_tfds_folder(coco, tmp_path / "new", splits=["a.b"])
    with pytest.raises(ValueError, match="is a data set of TFDS already"):
        prepare_tfds_folder(prepared, tmp_path / "new")


def test_folders_that_cannot_be_read(coco, prepared, tmp_path):
    assert not is_tfds_folder(coco)
    assert not is_tfds_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no folder that TFDS prepared"):
        read_tfds_records(coco, "train2017")
    shutil.copytree(prepared, tmp_path / "other")
    metadata = json.loads((prepared / "metadata.json").read_text())
    metadata["anchor_detr_jax"]["version"] += 1
    (tmp_path / "other/metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(ValueError, match=r"another version.*prepare_tfds\.py"):
        read_training_set(tmp_path / "other", "train2017")
    shutil.copy(prepared / "metadata.json", tmp_path / "other")
    info = (tmp_path / "other/dataset_info.json").read_text()
    (tmp_path / "other/dataset_info.json").write_text(info.replace("array_record", "tfrecord"))
    with pytest.raises(
        ValueError, match=r"in format tfrecord, and array_record is needed.*convert"
    ):
        read_training_set(tmp_path / "other", "train2017")
    (tmp_path / "other/dataset_info.json").write_text(info)
    shard = next((tmp_path / "other").glob("*train2017.array_record*"))
    content = shard.read_bytes()
    pictures = read_training_set(tmp_path / "other", "train2017").pictures
    shard.write_bytes(content[:100] + bytes(5000) + content[5100:])
    with pytest.raises(OSError, match="train2017: record 0 cannot be read"):
        pictures.encoded(0)
    shard.unlink()
    with pytest.raises(ValueError, match="lacks 1 of 1 files of train2017, first prepared_folder"):
        read_training_set(tmp_path / "other", "train2017")


def test_a_split_that_tfds_cannot_have(tmp_path):
    root = write_voc(tmp_path / "voc", lists=False)
    prepared = prepare_tfds_folder(root, tmp_path / "new")
    expected, dataset = read_training_set(root, "all"), read_training_set(prepared, "train")
    assert dataset.fingerprint == expected.fingerprint


def test_many_shards_keep_the_order(coco, tmp_path, monkeypatch):
    monkeypatch.setattr("anchor_detr_jax.data.formats.tfds_builder._SHARD_BYTES", 1000)
    prepared = prepare_tfds_folder(coco, tmp_path / "prepared", splits=["train2017"])
    assert len(list(prepared.glob("*.array_record*"))) == 3
    expected = read_training_set(coco, "train2017")
    assert_same(read_training_set(prepared, "train2017"), expected)


def test_the_command(coco, tmp_path):
    command = [sys.executable, "scripts/prepare_tfds.py", "--data", coco, "--output"]
    run = {"capture_output": True, "text": True, "check": False, "cwd": ROOT}
    done = subprocess.run([*command, tmp_path / "new", "--splits=my-val,train2017"], **run)
    assert (done.returncode, done.stdout) == (0, f"0.3 MB in {tmp_path}/new\n"), done.stderr
    assert_same(read_training_set(tmp_path / "new", "my-val"), read_training_set(coco, "my-val"))
    done = subprocess.run([*command, tmp_path / "new"], **run)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path}/new exists")
