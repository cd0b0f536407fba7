"""The public face: load, predict, forward, draw."""

import jax
import numpy as np
import pytest
from conftest import DATA, NARROW, make_detector
from PIL import Image

import anchor_detr_jax as ad
from anchor_detr_jax.data.categories import Categories
from anchor_detr_jax.data.transforms import resize

SIDES = {"short_side": 96, "long_side": 160}


def test_predict_takes_files_and_arrays_in_any_order(narrow, tmp_path):
    rng = np.random.default_rng(0)
    arrays = [
        rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in [(40, 60), (60, 40), (50, 50)] * 2
    ]
    path = tmp_path / "one.png"
    Image.fromarray(arrays[1]).save(path)
    found = narrow.predict([arrays[0], path, *arrays[2:]], threshold=0.0, top_k=8, **SIDES)
    assert [len(f) for f in found] == [8] * 6
    for i, array in enumerate(arrays):
        (alone,) = narrow.predict(array, threshold=0.0, top_k=8, batch_size=2, **SIDES)
        np.testing.assert_allclose(found[i].scores, alone.scores, atol=1e-5)
        np.testing.assert_allclose(found[i].boxes, alone.boxes, atol=1e-2)
    assert (np.diff(found[0].scores) <= 0).all()
    assert found[0].names[0] == f"kind {found[0].labels[0] - 10}"


def test_threshold_and_unused_columns():
    detector = make_detector()
    ids, names = detector.categories.ids, list(detector.categories.names)
    image = np.full((40, 60, 3), 99, np.uint8)
    (everything,) = detector.predict(image, threshold=0.0, top_k=1000, **SIDES)
    assert len(everything) == NARROW.num_queries * NARROW.num_classes
    middle = float(np.median(everything.scores))
    (some,) = detector.predict(image, threshold=middle, top_k=1000, **SIDES)
    assert 0 < len(some) < len(everything)
    assert some.scores.min() >= middle
    names[2] = None
    detector.categories = Categories(ids, tuple(names))
    (used,) = detector.predict(image, threshold=0.0, top_k=1000, **SIDES)
    assert len(used) == NARROW.num_queries * (NARROW.num_classes - 1)
    assert ids[2] not in used.labels
    (nothing,) = detector.predict(image, threshold=1.0, **SIDES)
    assert (len(nothing), nothing.boxes.shape, nothing.names) == (0, (0, 4), [])


def test_boxes_are_in_the_frame_of_the_upright_picture(narrow, tmp_path):
    """A picture with an EXIF rotation gives what its rotated pixels give."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (30, 50, 3), np.uint8)
    stored = Image.fromarray(pixels)
    exif = stored.getexif()
    exif[0x0112] = 6  # turn clockwise by 90 degrees to see it upright
    stored.save(tmp_path / "turned.png", exif=exif)
    upright = np.rot90(pixels, k=-1).copy()
    with Image.open(tmp_path / "turned.png") as opened:
        (from_pillow,) = narrow.predict(opened, threshold=0.0, top_k=5, **SIDES)
    options = {"threshold": 0.0, "top_k": 5, **SIDES}
    (from_file,) = narrow.predict(tmp_path / "turned.png", **options)
    (from_array,) = narrow.predict(upright, **options)
    np.testing.assert_allclose(from_file.boxes, from_array.boxes, atol=1e-3)
    np.testing.assert_allclose(from_pillow.boxes, from_array.boxes, atol=1e-3)


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (np.zeros((4, 4), np.uint8), r"uint8\[4, 4\]"),
        (np.zeros((4, 4, 3), np.float32), r"float32\[4, 4, 3\]"),
        (np.zeros((0, 4, 3), np.uint8), r"uint8\[0, 4, 3\]"),
    ],
)
def test_what_is_no_image_is_named(narrow, image, says):
    with pytest.raises(ValueError, match=says):
        narrow.forward([image])


def test_no_images(narrow):
    assert narrow.predict([], **SIDES) == []
    with pytest.raises(ValueError, match="are no images"):
        narrow.forward([])


def test_a_folder_knows_its_dilation(narrow, tmp_path):
    narrow.save(tmp_path / "out")
    with pytest.raises(ValueError, match="leave dilation=True away"):
        ad.load(tmp_path / "out", dilation=True)


@pytest.mark.parametrize("name", ["manifest.ocdbt", "_METADATA"])
def test_a_damaged_folder_is_named(narrow, tmp_path, capfd, name):
    narrow.save(tmp_path / "out")
    file = tmp_path / "out/variables" / name
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(ValueError, match="/out/variables cannot be read"):
        ad.load(tmp_path / "out")
    assert capfd.readouterr().err == ""


def test_half_precision_on_demand(narrow, tmp_path):
    narrow.save(tmp_path / "out")
    half = ad.load(tmp_path / "out", dtype="bfloat16")
    image = np.full((40, 60, 3), 99, np.uint8)
    difference = np.abs(half.forward([image]).logits - narrow.forward([image]).logits).max()
    assert 0 < difference < 0.5


def test_new_weights_need_no_new_programs(caplog):
    """As in training: from one evaluation to the next, weights come from a compiled function."""
    detector, image = make_detector(), np.full((40, 60, 3), 99, np.uint8)
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    step = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf * 1.01, tree), out_shardings=whole)

    def scores(state) -> tuple[np.ndarray, str]:
        detector.variables = jax.tree.map(lambda leaf: leaf.addressable_data(0), state)
        caplog.clear()
        with jax.log_compiles(), caplog.at_level("WARNING", logger="jax"):
            (found,) = detector.predict(image, threshold=0.0, top_k=5, **SIDES)
        return found.scores, caplog.text

    state = step(detector.variables)
    first, log = scores(state)
    assert "Compiling" in log
    second, log = scores(step(state))
    assert log == ""
    assert np.abs(first - second).max() > 1e-6
    again, log = scores(state)
    assert log == ""
    np.testing.assert_array_equal(first, again)


def test_the_face_of_the_package():
    assert set(ad.__all__) <= set(dir(ad))
    assert all(hasattr(ad, name) for name in ad.__all__)
    with pytest.raises(AttributeError, match="lod"):
        ad.lod  # noqa: B018


def test_drawing():
    found = ad.Detections(
        boxes=np.array([[10, 10, 60, 40], [-5, -5, 30, 20], [90, 70, 300, 200]], np.float32),
        scores=np.array([0.9, 0.8, 0.7], np.float32),
        labels=np.array([1, 2, 1]),
        names=["cat", "dog", "cat"],
    )
    before = np.full((80, 100, 3), 255, np.uint8)
    drawn = np.asarray(ad.draw_detections(before, found))
    assert drawn.shape == before.shape
    assert (before == 255).all()
    from anchor_detr_jax.visualize import category_colour

    cat, dog = category_colour(1), category_colour(2)
    assert cat != dog
    np.testing.assert_array_equal(drawn[40, 30], cat)  # the lower edge of the first box
    assert (drawn[60:75, 60:] == np.array(cat)).all(-1).any()  # a label inside, its box outside


def test_photographs_of_any_shape(narrow):
    files = sorted((DATA / "coco/val2017").glob("*.jpg"))
    found = narrow.predict(files, threshold=0.0, top_k=3, **SIDES)
    assert [len(f) for f in found] == [3] * 5


def test_pictures_of_one_size_whatever_their_aspect(narrow):
    pixels = np.random.default_rng(2).integers(0, 256, (70, 41, 3), np.uint8)
    (found,) = narrow.predict(pixels, threshold=0.0, top_k=9, fixed_hw=(72, 100))
    small = resize(Image.fromarray(pixels), (72, 100))
    (expected,) = narrow.predict(small, threshold=0.0, top_k=9, short_side=72, long_side=100)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    there = expected.boxes * np.tile([41 / 100, 70 / 72], 2)
    np.testing.assert_allclose(found.boxes, there, atol=1e-2)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"threshold": 50.0}, "threshold is 50.0, expected a score from 0 to 1"),
        ({"top_k": 0}, "top_k is 0"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"long_side": 0}, "long_side is 0, expected at least 1"),
        ({"fixed_hw": (0, 640)}, r"fixed_hw is \(0, 640\), expected \(height, width\) in pixels"),
    ],
)
def test_numbers_that_cannot_be_meant(narrow, wrong, says):
    with pytest.raises(ValueError, match=says):
        narrow.predict(np.zeros((20, 20, 3), np.uint8), **{**SIDES, **wrong})
