"""The form of a model that is run: the numbers of the one that is trained."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import NARROW, make_detector, random_variables

import anchor_detr_jax as ad
from anchor_detr_jax.backbones import resnet
from anchor_detr_jax.backbones.resnet import ResNet
from anchor_detr_jax.layers.convolution import convolved
from anchor_detr_jax.layers.padding import FeatureMap
from anchor_detr_jax.layers.pooling import max_pool
from anchor_detr_jax.models.build import make_model
from anchor_detr_jax.models.inference import inference_model, inference_variables
from anchor_detr_jax.structures import Images

PLAIN = NARROW.backbone
BACKBONES = {
    "bottleneck": PLAIN,
    "basic": dataclasses.replace(PLAIN, block="basic", stem_stride=2, blocks=(2, 2, 1, 1)),
    "stem_1": dataclasses.replace(PLAIN, stem_stride=1, dilation=True),
}


def images_of(height, width, *, valid):
    pixels = np.random.default_rng(0).integers(0, 256, (len(valid), height, width, 3), np.uint8)
    return Images(pixels, np.array(valid, np.int32))


def variables_of(backbone):
    every = random_variables(dataclasses.replace(NARROW, backbone=backbone), seed=0)
    every = jax.tree.map(jnp.asarray, every)
    return {kind: tree["backbone"] for kind, tree in every.items() if "backbone" in tree}


def outputs_of(model, variables, images):
    return jax.jit(lambda v, i: model.apply(v, i, last_layer_only=True))(variables, images)


@pytest.mark.parametrize("in_parts", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize(
    "options",
    [{}, {"anchors": "grid", "num_anchors": 9, "attention": "multi_head"}],
    ids=["rcda", "grid, multi_head"],
)
def test_what_is_run_gives_what_was_trained(options, in_parts, monkeypatch):
    monkeypatch.setattr(resnet, "_BAND_ROWS", 64)
    config = dataclasses.replace(NARROW, **options)
    variables = random_variables(config, seed=1)
    images = images_of(256, 96, valid=[(256, 96), (131, 77)])
    model = make_model(config)
    expected = outputs_of(model, variables, images)
    before = jax.tree.map(np.array, variables)
    run = inference_model(model, in_parts=in_parts)
    prepared = inference_variables(run, variables)
    found = outputs_of(run, prepared, images)
    np.testing.assert_allclose(found.logits, expected.logits, atol=2e-5)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=5e-6)
    jax.tree.map(np.testing.assert_array_equal, variables, before)
    assert run.folded is not in_parts
    assert ("frozen" in prepared) is in_parts


def test_what_is_not_folded_is_not_copied():
    model = make_model(NARROW)
    variables = jax.tree.map(jnp.asarray, random_variables(NARROW, seed=1))
    in_parts = inference_variables(inference_model(model, in_parts=True), variables)
    folded = inference_variables(inference_model(model, in_parts=False), variables)
    for name, part in variables["params"].items():
        for leaf, kept in zip(*map(jax.tree.leaves, (part, in_parts["params"][name])), strict=True):
            assert kept is leaf
        assert (folded["params"][name] is part) is (name != "backbone")


@pytest.mark.parametrize(
    ("name", "height"),
    [("bottleneck", 192), ("basic", 221), pytest.param("stem_1", 192, marks=pytest.mark.slow)],
)
def test_bands_change_no_map(name, height, monkeypatch):
    """Every number, in the padding and out of it, whatever the rows of a band."""
    config = BACKBONES[name]
    variables = variables_of(config)
    features = jax.random.normal(jax.random.key(0), (2, height, 40, 3))
    pixels = FeatureMap(features, jnp.array([[height, 40], [101, 29]]))
    whole = ResNet(config).apply(variables, pixels)
    for rows in (16, 50):
        monkeypatch.setattr(resnet, "_BAND_ROWS", rows)
        in_bands = jax.jit(ResNet(config, in_parts=True).apply)(variables, pixels)
        for one, other in zip(whole, in_bands, strict=True):
            np.testing.assert_array_equal(one.valid_hw, other.valid_hw)
            for i, (h, w) in enumerate(np.asarray(one.valid_hw)):
                expected, found = one.features[i, :h, :w], other.features[i, :h, :w]
                np.testing.assert_allclose(found, expected, atol=2e-5)


def test_bands_hold_less_in_memory():
    config = dataclasses.replace(NARROW.backbone, width=16)
    variables = variables_of(config)
    pixels = FeatureMap(jnp.zeros((1, 1088, 256, 3)), jnp.array([[1088, 256]]))

    def planned(in_parts):
        def run(features):
            return ResNet(config, in_parts=in_parts).apply(
                variables, FeatureMap(features, pixels.valid_hw)
            )

        program = jax.jit(run).lower(pixels.features).compile()
        return program.memory_analysis().temp_size_in_bytes

    assert planned(True) < 0.6 * planned(False)


@pytest.mark.parametrize("size", [3, 5, 7])
@pytest.mark.parametrize("width", [13, 14])
def test_few_channels_are_convolved_as_many_are(size, width):
    x = jax.random.normal(jax.random.key(0), (2, 9, width, 3))
    kernel = jax.random.normal(jax.random.key(1), (size, size, 3, 4))
    wide = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, 2)))  # channels of zeros: no longer few
    wide_kernel = jnp.pad(kernel, ((0, 0), (0, 0), (0, 2), (0, 0)))
    expected = convolved(wide, wide_kernel, 2, 1)
    np.testing.assert_allclose(convolved(x, kernel, 2, 1), expected, atol=1e-5)


@pytest.mark.parametrize("hw", [(8, 8), (7, 9), (10, 7), (1, 1), (1, 6)])
def test_pooling_takes_the_greatest_of_nine(hw):
    x = jax.random.uniform(jax.random.key(0), (2, *hw, 3))  # not negative, as after a ReLU
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    pooled = max_pool(FeatureMap(x, jnp.array([hw, hw])))
    np.testing.assert_array_equal(pooled.features, nn.max_pool(padded, (3, 3), (2, 2)))
    np.testing.assert_array_equal(pooled.valid_hw[0], [-(-side // 2) for side in hw])


def test_other_variables_take_effect_at_once():
    detector = make_detector()
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    sides = {"short_side": 64, "long_side": 96, "threshold": 0.0}
    (before,) = detector.predict(image, **sides)
    first = detector.variables
    detector.variables = make_detector(seed=5).variables
    (other,) = detector.predict(image, **sides)
    assert not np.allclose(before.scores, other.scores)
    detector.variables = first
    (again,) = detector.predict(image, **sides)
    np.testing.assert_array_equal(before.scores, again.scores)


def test_after_warm_up_nothing_is_compiled(tmp_path):
    detector = make_detector()
    made = detector.warm_up(short_side=64, long_side=96)
    assert made.programs == 4
    assert made.seconds > 0
    assert str(made).startswith("4 programs ready in ")
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    )
    try:
        sizes = [(40, 60), (60, 40), (64, 66), (33, 99)]
        images = [np.zeros((*hw, 3), np.uint8) for hw in sizes]
        detector.predict(images, short_side=64, long_side=96)
    finally:
        jax.monitoring.clear_event_listeners()
    assert not compiled

    detector.save(tmp_path / "saved")
    again = ad.load(tmp_path / "saved", compile=(64, 96))
    assert again._programs._detect._cache_size() == 4
    with pytest.raises(ValueError, match="long_side"):
        ad.load(tmp_path / "saved", compile=(64, 0))
