"""Outputs of the official models: the reference's numbers, whatever an image is batched with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import NARROW, golden

from anchor_detr_jax.data.batching import pad_images
from anchor_detr_jax.models.build import draw_variables, init_variables, make_model
from anchor_detr_jax.models.pixels import normalised
from anchor_detr_jax.postprocess import best_detections
from anchor_detr_jax.structures import Outputs

LOGITS, BOXES = 1e-4, 2e-5

WITH_INTERNALS = pytest.mark.parametrize("official", ["r50_c5", "r50_dc5"], indirect=True)
"""For tests that need more than outputs, which the golden files of these two variants hold."""


def slow(value):
    """Each shape is a program, of ten seconds; the largest stands for the others."""
    return pytest.param(value, marks=pytest.mark.slow)


def golden_cases(file) -> list[str]:
    """The images that a variant's golden file has, each alone."""
    return [f"image{i}" for i in range(3) if f"image{i}/logits" in file]


def assert_close(outputs: Outputs, file, case: str, row: int = 0):
    """All six layers of one image, at the queries that the golden file holds."""
    queries = file["queries"]
    logits = np.asarray(outputs.logits)[:, row][:, queries]
    boxes = np.asarray(outputs.boxes)[:, row][:, queries]
    np.testing.assert_allclose(logits, file[f"{case}/logits"][:, 0], atol=LOGITS, rtol=0)
    np.testing.assert_allclose(boxes, file[f"{case}/boxes"][:, 0], atol=BOXES, rtol=0)


def test_images_alone(official, pictures):
    variant, detector = official
    file = golden(f"forward_{variant}")
    cases = golden_cases(file)
    assert cases
    for case in cases:
        outputs = detector.forward([pictures[case]])
        assert_close(outputs, file, case)
        if f"{case}/post0/scores" in file:
            assert_best_are_the_same(outputs, file, case)


def assert_best_are_the_same(outputs, file, case):
    """The top 100, in pixels of the original image."""
    ranked = best_detections(
        outputs, jnp.asarray(file[f"{case}/target_sizes"]), jnp.ones(91, bool), count=100
    )
    scores, labels, boxes = (file[f"{case}/post0/{x}"] for x in ("scores", "labels", "boxes"))
    np.testing.assert_allclose(ranked.scores[0], scores, atol=1e-5)
    # Each of theirs is among ours; equal scores may change places, the last ones may fall out.
    same = (
        (np.asarray(ranked.labels[0]) == labels[:, None])
        & (np.abs(np.asarray(ranked.scores[0]) - scores[:, None]) < 1e-5)
        & (np.abs(np.asarray(ranked.boxes[0]) - boxes[:, None]).max(-1) < 0.02)
    )
    assert same.any(1)[scores > scores[-1] + 1e-5].all()


@WITH_INTERNALS
def test_backbone_and_encoder(official, pictures):
    """Where a difference would begin: C5 and the encoder's output."""
    variant, detector = official
    file = golden(f"forward_{variant}")
    images = pad_images([pictures["image0"]], (256, 320), 1)

    @jax.jit
    def inside(variables, images):
        model = detector.model.bind(variables)
        return model.backbone(normalised(images))[-1].features, model.encode(images)[0]

    c5, memory = inside(detector.variables, images)
    np.testing.assert_allclose(
        np.asarray(c5)[..., ::64].transpose(0, 3, 1, 2), file["image0/c5"], atol=2e-4
    )
    np.testing.assert_allclose(
        np.asarray(memory)[..., ::16].transpose(0, 3, 1, 2), file["image0/memory"], atol=2e-5
    )


@pytest.mark.parametrize("others", [slow([1]), slow([2]), [1, 2, 2]], ids=str)
def test_images_in_a_batch(official, pictures, others):
    variant, detector = official
    file = golden(f"forward_{variant}")
    cases = golden_cases(file)
    first = int(cases[0][-1])
    group = [first, *(i if i != first else 0 for i in others)]
    outputs = detector.forward([pictures[f"image{i}"] for i in group])
    for row, i in enumerate(group):
        if f"image{i}" in cases:
            assert_close(outputs, file, f"image{i}", row)


@pytest.mark.parametrize("further", [slow((32, 0)), slow((0, 128)), (160, 64)], ids=str)
def test_an_image_in_a_bucket_with_dummies(official, pictures, further):
    variant, detector = official
    file = golden(f"forward_{variant}")
    case = golden_cases(file)[0]
    height, width, _ = pictures[case].shape
    images = pad_images([pictures[case]], (height + further[0], width + further[1]), 3)
    images.pixels[0, height:] = 201  # padding may hold anything
    images.pixels[0, :, width:] = 99
    outputs = detector._forward(detector.variables, images)
    assert_close(outputs, file, case)
    assert np.isfinite(outputs.logits).all()


@WITH_INTERNALS
def test_the_reference_itself_drifts(official):
    """What our rule is for: in the reference, the same image padded gives other logits."""
    file = golden(f"forward_{official[0]}")
    drift = np.abs(file["batch01/logits"][:, 0] - file["image0/logits"][:, 0]).max()
    assert drift > 0.1


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (33, 64), (64, 33)], ids=str)
def test_any_size_padded_anyhow(narrow, size):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*size, 3), np.uint8)
    other = rng.integers(0, 256, (90, 70, 3), np.uint8)
    alone = narrow.forward([image])
    together = narrow.forward([other, image])
    np.testing.assert_allclose(together.logits[:, 1], alone.logits[:, 0], atol=1e-5)
    np.testing.assert_allclose(together.boxes[:, 1], alone.boxes[:, 0], atol=1e-5)


def test_images_differ(narrow, pictures):
    """The tests above could not fail for a model that ignores its input."""
    outputs = narrow.forward([pictures["image0"], pictures["image1"]])
    assert np.abs(outputs.logits[:, 0] - outputs.logits[:, 1]).max() > 0.01


@pytest.fixture(scope="module")
def fresh():
    return init_variables(make_model(NARROW), jax.random.key(3))


def test_the_start_of_training(fresh):
    """Fresh weights: every class at a probability near 0.01, boxes around their anchor points."""
    images = pad_images([np.zeros((64, 64, 3), np.uint8)], (64, 64), 1)
    outputs = jax.jit(make_model(NARROW).apply)(fresh, images)
    probability = jax.nn.sigmoid(outputs.logits)
    assert 0.001 < probability.min() < probability.max() < 0.1
    anchors = np.tile(fresh["params"]["anchor_points"], (2, 1))
    np.testing.assert_allclose(outputs.boxes[-1, 0, :, :2], anchors, atol=1e-4)
    size = jax.nn.sigmoid(jnp.full(outputs.boxes[-1, 0, :, 2:].shape, -2.0))
    np.testing.assert_allclose(outputs.boxes[-1, 0, :, 2:], size, atol=1e-6)


def test_a_part_of_new_weights_is_drawn_alone(fresh):
    part = jax.jit(lambda key: draw_variables(make_model(NARROW), key)["params"]["class_head"])
    for name, leaf in part(jax.random.key(3)).items():
        np.testing.assert_array_equal(leaf, fresh["params"]["class_head"][name])


def test_bfloat16_is_close(narrow):
    images = pad_images([np.full((64, 48, 3), 120, np.uint8)], (64, 64), 1)
    half = make_model(NARROW, jnp.bfloat16)
    ours = jax.jit(half.apply)(narrow.variables, images)
    expected = jax.jit(narrow.model.apply)(narrow.variables, images)
    assert ours.logits.dtype == ours.boxes.dtype == jnp.float32
    np.testing.assert_allclose(ours.boxes, expected.boxes, atol=0.05)
    assert 0 < np.abs(ours.logits - expected.logits).max() < 0.5
