"""Pictures, sizes, batches and annotation files."""

import json
import threading
import time

import numpy as np
import pytest
from conftest import DATA, golden
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from anchor_detr_jax.data.batching import bucketed_batches, in_threads, prepare
from anchor_detr_jax.data.buckets import inference_buckets, padded_to, smallest_bucket
from anchor_detr_jax.data.categories import COCO_NAMES, Categories, coco_columns
from anchor_detr_jax.data.formats.coco import read_coco, read_coco_split
from anchor_detr_jax.data.image_size import ImageSize
from anchor_detr_jax.data.transforms import open_rgb, resize, resized_hw
from anchor_detr_jax.models.pixels import normalised
from anchor_detr_jax.structures import Images

PHOTOGRAPHS = [str(name) for name in golden("transforms")["files"]]


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_evaluation_transform_is_the_references(name):
    file = golden("transforms")
    image = open_rgb(DATA / "coco/val2017" / name, apply_exif_rotation=False)
    np.testing.assert_array_equal((image.height, image.width), file[f"{name}/prepared/orig_size"])
    hw = resized_hw((image.height, image.width), 800, 1333)
    assert hw == tuple(file[f"{name}/val/shape"][1:])
    pixels = resize(image, hw)
    ours = normalised(Images(pixels[None], np.array([hw]))).features[0]
    ours = np.asarray(ours).transpose(2, 0, 1)
    np.testing.assert_allclose(ours[:, ::37, ::41], file[f"{name}/val/pixels"], atol=2e-6)
    np.testing.assert_allclose(
        ours.mean((1, 2), dtype=np.float64), file[f"{name}/val/mean"], atol=1e-5
    )


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize("short_side", [480, 600])
def test_resized_pixels_are_the_references(name, short_side):
    file = golden("transforms")
    image = open_rgb(DATA / "coco/val2017" / name, apply_exif_rotation=False)
    hw = resized_hw((image.height, image.width), short_side, 10_000)
    expected = file[f"{name}/resize{short_side}/pixels"]
    np.testing.assert_array_equal(resize(image, hw).transpose(2, 0, 1)[:, ::37, ::41], expected)


@pytest.mark.parametrize(
    ("hw", "expected"),
    [
        ((480, 640), (800, 1066)),
        ((640, 480), (1066, 800)),
        ((800, 1200), (800, 1200)),
        ((500, 500), (800, 800)),
        ((300, 900), (444, 1332)),
        ((1, 1), (800, 800)),
        ((100, 290), (460, 1334)),  # the reference's rounding
        ((2, 5000), (1, 1343)),
        ((5000, 2), (1343, 1)),
        ((1, 5000), (1, 1343)),
        ((1, 2000), (1, 1343)),  # its short side would fit as it is
    ],
)
def test_sizes(hw, expected):
    assert resized_hw(hw, 800, 1333) == expected


def test_buckets_are_few_and_hold_what_they_should():
    buckets = inference_buckets(800, 1333)
    assert len(buckets) == 6
    waste = []
    for height in [1, 2, 9, 50, *range(200, 1000, 7), 4000]:
        for width in [1, 3, 11, 70, *range(200, 1000, 11), 5000]:
            hw = resized_hw((height, width), 800, 1333)
            bucket = smallest_bucket(hw, buckets)
            assert bucket in buckets
            assert all(b % 32 == 0 for b in bucket)
            assert bucket[0] >= hw[0]
            assert bucket[1] >= hw[1]
    for height, width in [(480, 640), (427, 640), (640, 480), (640, 427)]:  # COCO's commonest
        hw = resized_hw((height, width), 800, 1333)
        bucket = smallest_bucket(hw, buckets)
        waste.append(1 - hw[0] * hw[1] / (bucket[0] * bucket[1]))
    assert max(waste) < 0.03
    with pytest.raises(ValueError, match=r"no bucket .* 9x3000"):
        smallest_bucket((9, 3000), buckets)
    assert padded_to([(31, 65), (33, 1)]) == (64, 96)


@given(
    hw=st.tuples(st.integers(1, 20_000), st.integers(1, 20_000)),
    sides=st.tuples(st.integers(16, 1400), st.floats(1, 3)).map(lambda s: (s[0], int(s[0] * s[1]))),
)
def test_a_bucket_holds_every_resized_image(hw, sides):
    short_side, long_side = sides
    new = resized_hw(hw, short_side, long_side)
    assert min(new) >= 1
    assert len(inference_buckets(short_side, long_side)) <= 6
    smallest_bucket(new, inference_buckets(short_side, long_side))


def test_images_of_one_size_have_one_bucket():
    size = ImageSize(fixed_hw=(500, 640))
    assert {size.of(hw) for hw in [(1, 9), (480, 640), (3000, 20)]} == {(500, 640)}
    assert size.buckets() == [(512, 640)]
    assert ImageSize(32, 64).buckets() == inference_buckets(32, 64)


def test_every_image_is_in_one_batch():
    rng = np.random.default_rng(0)
    sizes = rng.integers(10, 90, (23, 2))
    images = [Image.new("RGB", (int(w), int(h)), (i, 0, 0)) for i, (h, w) in enumerate(sizes)]
    prepared = [prepare(i, image, ImageSize(32, 64)) for i, image in enumerate(images)]
    batches = list(bucketed_batches(prepared, inference_buckets(32, 64), 4))
    assert sorted(i for batch in batches for i in batch.indices) == list(range(23))
    for batch in batches:
        assert len(batch.images.pixels) == 4
        assert (batch.images.valid_hw >= 1).all()
        for row, i in enumerate(batch.indices):
            height, width = batch.images.valid_hw[row]
            np.testing.assert_array_equal(batch.original_hw[row], sizes[i])
            assert (batch.images.pixels[row, :height, :width, 0] == i).all()
            assert batch.images.pixels[row, height:].sum() == 0


def test_threads_keep_the_order_and_do_not_run_ahead():
    begun = []
    lock = threading.Lock()

    def slow(i):
        with lock:
            begun.append(i)
        time.sleep(0.002 * (5 - i % 5))
        return i

    results = in_threads(slow, range(100), threads=4, ahead=8)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    time.sleep(0.1)
    assert len(begun) <= 3 + 9
    assert list(results) == list(range(3, 100))


def test_an_error_in_a_thread_is_seen():
    with pytest.raises(ZeroDivisionError):
        list(in_threads(lambda i: 1 / (3 - i), range(10)))


def test_coco_categories():
    assert len(COCO_NAMES) == 80
    assert (COCO_NAMES[1], COCO_NAMES[90], COCO_NAMES[13]) == ("person", "toothbrush", "stop sign")
    listed = json.loads((DATA / "coco/annotations/instances_val2017.json").read_text())
    assert {c["id"]: c["name"] for c in listed["categories"]} == COCO_NAMES
    columns = coco_columns()
    assert (len(columns), columns.in_use.sum()) == (91, 80)
    assert Categories.from_json(columns.to_json()) == columns


def test_a_split_with_and_without_images_folder(tmp_path):
    plain = read_coco_split(DATA / "coco", "val2017")
    assert len(plain.images) == 5
    assert plain.images[0].path.name == "000000005001.jpg"
    (tmp_path / "images").mkdir()
    (tmp_path / "images/val2017").symlink_to(DATA / "coco/val2017")
    (tmp_path / "annotations").symlink_to(DATA / "coco/annotations")
    assert len(read_coco_split(tmp_path, "val2017").images) == 5
    with pytest.raises(ValueError, match="neither test2017/ nor images/test2017/"):
        read_coco_split(DATA / "coco", "test2017")


@pytest.mark.parametrize(
    ("text", "says"),
    [("{", "no COCO annotation file"), ("[]", "no COCO"), ('{"images": [{"id": 1}]}', "file_name")],
)
def test_broken_annotation_files(tmp_path, text, says):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=says):
        read_coco(tmp_path / "a.json", tmp_path)


def test_missing_pictures_are_named(tmp_path):
    (tmp_path / "a.json").write_text('{"images": [{"id": 1, "file_name": "x.jpg"}]}')
    with pytest.raises(ValueError, match=r"1 of 1 pictures that are not there, first .*x\.jpg"):
        read_coco(tmp_path / "a.json", tmp_path)


def test_exif_rotation_only_when_asked_for(tmp_path):
    image = Image.new("RGB", (40, 20))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert open_rgb(tmp_path / "turned.jpg", apply_exif_rotation=False).size == (40, 20)
    assert open_rgb(tmp_path / "turned.jpg", apply_exif_rotation=True).size == (20, 40)


def test_a_file_that_is_no_image(tmp_path):
    (tmp_path / "x.jpg").write_text("no picture")
    with pytest.raises(ValueError, match=r"x\.jpg: not a readable image"):
        open_rgb(tmp_path / "x.jpg", apply_exif_rotation=True)
