"""Backbones other than the published ones: group norms, small stems, basic blocks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import NARROW, make_detector, random_variables

from anchor_detr_jax.backbones.resnet import ResNet, ResNetConfig
from anchor_detr_jax.layers.padding import FeatureMap
from anchor_detr_jax.models.build import (
    backbone_from_dict,
    backbone_shapes,
    config_from_dict,
    config_to_dict,
)
from anchor_detr_jax.variable_names import flatten

PLAIN = NARROW.backbone
SMALL = dataclasses.replace(PLAIN, norm="group", block="basic", stem_stride=2)
BACKBONES = {
    "group": dataclasses.replace(PLAIN, norm="group"),
    "small": SMALL,
    "small_dilated": dataclasses.replace(SMALL, dilation=True, blocks=(1, 1, 1, 2)),
    "stem_1": dataclasses.replace(SMALL, stem_stride=1, norm="frozen_batch"),
}


def variables_of(config):
    every = random_variables(dataclasses.replace(NARROW, backbone=config), seed=0)
    return {kind: tree["backbone"] for kind, tree in every.items() if "backbone" in tree}


def maps(config, variables, pixels, valid_hw):
    return ResNet(config).apply(variables, FeatureMap(jnp.asarray(pixels), jnp.asarray(valid_hw)))


def shapes_of_maps(config, pixels, dtype=None):
    images = FeatureMap(pixels, jnp.array([pixels.shape[1:3]]))

    def features(key):
        found, _ = ResNet(config, dtype).init_with_output(key, images)
        return [one.features for one in found]

    return jax.eval_shape(features, jax.random.key(0))


SOME_SLOW = [
    pytest.param(name, marks=[] if name == "small_dilated" else pytest.mark.slow)
    for name in BACKBONES
]


@pytest.mark.parametrize("name", SOME_SLOW)
def test_padding_and_batch_change_nothing(name):
    detector = make_detector(dataclasses.replace(NARROW, backbone=BACKBONES[name]))
    rng = np.random.default_rng(0)
    image, other = (rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in [(61, 45), (70, 101)])
    alone = detector.forward([image])
    together = detector.forward([other, image])
    np.testing.assert_allclose(together.logits[:, 1], alone.logits[:, 0], atol=1e-5)
    np.testing.assert_allclose(together.boxes[:, 1], alone.boxes[:, 0], atol=1e-5)
    # And the model does look: the other image is another.
    assert np.abs(together.logits[:, 0] - together.logits[:, 1]).max() > 1e-3


@pytest.mark.parametrize("stem_stride", [1, 2, 4])
@pytest.mark.parametrize("block", ["bottleneck", "basic"])
@pytest.mark.parametrize("dilation", [False, True])
def test_sizes_of_the_maps(stem_stride, block, dilation):
    config = ResNetConfig((1, 1, 1, 1), 8, dilation, block, "group", stem_stride)
    found = shapes_of_maps(config, jnp.zeros((1, 96, 64, 3)))
    strides = [stem_stride * share for share in (2, 4, 4 if dilation else 8)]
    channels = [8 * share * (4 if block == "bottleneck" else 1) for share in (2, 4, 8)]
    for one, stride, features in zip(found, strides, channels, strict=True):
        assert one.shape == (1, -(-96 // stride), -(-64 // stride), features)


def test_valid_sizes_follow_the_stem():
    for stem_stride, expected in [(1, [[17, 3], [9, 2], [5, 1]]), (4, [[5, 1], [3, 1], [2, 1]])]:
        config = dataclasses.replace(SMALL, stem_stride=stem_stride)
        variables, pixels = variables_of(config), np.zeros((1, 40, 64, 3))

        @jax.jit
        def sizes(variables, pixels, config=config):
            return [one.valid_hw for one in maps(config, variables, pixels, [[33, 5]])]

        found = sizes(variables, pixels)
        assert [size.tolist() for size in found] == [[size] for size in expected]


def test_a_group_norm_keeps_features_at_their_size_and_learns():
    """What frozen norms cannot: features neither grow nor vanish, whatever the weights' size."""
    variables = variables_of(SMALL)
    assert set(variables) == {"params"}
    rng = np.random.default_rng(0)
    pixels, weight = rng.normal(size=(2, 48, 32, 3)), rng.normal(size=64)

    @jax.jit
    @jax.value_and_grad
    def objective(variables, factor):
        scaled = jax.tree_util.tree_map_with_path(
            lambda path, leaf: leaf * factor if path[-1].key == "kernel" else leaf, variables
        )
        *_, last = maps(SMALL, scaled, pixels, [[48, 32], [20, 31]])
        return jnp.sum(last.features * weight)

    value, gradients = objective(variables, 1.0)
    larger, _ = objective(variables, 7.0)
    assert abs(value) > 1
    np.testing.assert_allclose(larger, value, rtol=1e-2)
    gradients = flatten(gradients["params"])
    assert all(np.abs(gradient).max() > 0 for gradient in gradients.values())


def test_half_precision_keeps_its_type():
    found = shapes_of_maps(SMALL, jnp.zeros((1, 40, 56, 3)), jnp.bfloat16)
    assert {one.dtype for one in found} == {jnp.dtype(jnp.bfloat16)}


def test_the_published_backbones_have_the_parameters_they_had():
    """As torchvision counts them: 23.5 million without the classifier, norms in 53 places."""
    shapes = backbone_shapes(ResNetConfig())
    params, frozen = (flatten(shapes[kind]["backbone"]) for kind in ("params", "frozen"))
    norms = sum(leaf.size for leaf in frozen.values())
    assert sum(leaf.size for leaf in params.values()) + norms // 2 == 23_508_032
    assert len(params) == 53
    assert {name.rpartition("/")[0].replace("conv", "bn") for name in params} == {
        name.rpartition("/")[0] for name in frozen
    }
    block = {name.partition("/")[2] for name in params if name.startswith("layer1_0/")}
    assert block == {f"{conv}/kernel" for conv in ("conv1", "conv2", "conv3", "downsample_conv")}


@pytest.mark.parametrize("name", BACKBONES)
def test_a_configuration_survives_json(name):
    config = BACKBONES[name]
    as_read = {**dataclasses.asdict(config), "blocks": list(config.blocks)}
    assert backbone_from_dict(as_read) == config
    model = dataclasses.replace(NARROW, backbone=config)
    assert config_from_dict(config_to_dict(model)) == model


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"norm": "batch"}, r"backbone.norm is 'batch', and must be one of \('frozen_batch', "),
        ({"block": "plain"}, "backbone.block is 'plain', and must be one of"),
        ({"stem_stride": 3}, "backbone.stem_stride is 3, and must be 1, 2 or 4"),
        ({"norm": "group", "width": 12}, "backbone.width is 12, and must be a multiple of 8"),
        ({"width": 0}, "backbone.width is 0, and must be at least 1"),
        ({"blocks": (3, 4, 6)}, r"backbone.blocks is \(3, 4, 6\), and must be four numbers"),
        ({"blocks": (3, 4, 6, 0)}, r"backbone.blocks is \(3, 4, 6, 0\)"),
    ],
)
def test_what_cannot_be_is_named(change, says):
    with pytest.raises(ValueError, match=says):
        backbone_from_dict(change)
