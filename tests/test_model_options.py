"""The model's options: each keeps its promises in a small model."""

import dataclasses
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import NARROW, make_detector

from anchor_detr_jax.backbones.resnet import ResNetConfig
from anchor_detr_jax.data.batching import pad_images
from anchor_detr_jax.evaluation.published import published_ap
from anchor_detr_jax.models.anchor_detr.config import AnchorDETRConfig
from anchor_detr_jax.models.anchor_detr.model import grid_points
from anchor_detr_jax.models.build import (
    config_from_dict,
    config_to_dict,
    make_model,
    variable_shapes,
)

DILATED = dataclasses.replace(NARROW.backbone, dilation=True)
OPTIONS = {
    "dc5": {"backbone": DILATED},
    "grid": {"anchors": "grid", "num_anchors": 9},
    "multi_head": {"attention": "multi_head"},
    "two_levels": {"backbone": DILATED, "num_levels": 2, "level_layers": 1},
    "three_levels": {"backbone": DILATED, "num_levels": 3, "level_layers": 1},
    "three_levels_multi_head": {
        **{"backbone": DILATED, "num_levels": 3, "level_layers": 2},
        "attention": "multi_head",
    },
}


SOME_SLOW = [
    pytest.param(name, marks=[] if name in ("grid", "three_levels") else pytest.mark.slow)
    for name in OPTIONS
]


@pytest.mark.parametrize("option", SOME_SLOW)
def test_padding_and_batch_change_nothing(option):
    detector = make_detector(dataclasses.replace(NARROW, **OPTIONS[option]))
    rng = np.random.default_rng(0)
    image, other = (rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in [(60, 45), (70, 101)])
    alone = detector.forward([image])
    together = detector.forward([other, image])
    np.testing.assert_allclose(together.logits[:, 1], alone.logits[:, 0], atol=1e-5)
    np.testing.assert_allclose(together.boxes[:, 1], alone.boxes[:, 0], atol=1e-5)
    # And the model does look: the other image is another.
    assert np.abs(together.logits[:, 0] - together.logits[:, 1]).max() > 1e-3


def test_a_grid_is_of_cell_centres_with_y_fastest():
    expected = [[x, y] for x in (1 / 6, 3 / 6, 5 / 6) for y in (1 / 6, 3 / 6, 5 / 6)]
    np.testing.assert_allclose(grid_points(9), expected, rtol=1e-6)


@pytest.mark.parametrize("option", OPTIONS)
def test_a_configuration_survives_json(option):
    config = dataclasses.replace(NARROW, **OPTIONS[option], dropout=0.1)
    assert config_from_dict(config_to_dict(config)) == config
    variable_shapes(config)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"hidden_dim": 100}, "hidden_dim is 100, and must be a multiple of num_heads"),
        ({"num_levels": 3}, r"num_levels is 3, and must be one of \(1,\) with .*dilation=False"),
        ({"num_levels": 4, "backbone": ResNetConfig(dilation=True)}, r"one of \(1, 2, 3\)"),
        ({"level_layers": 1}, "level_layers is 1, and must be from 0 to 0"),
        ({"anchors": "grid"}, "num_anchors is 300, and must be a square number"),
        ({"anchors": "random"}, "anchors is 'random'"),
        ({"attention": "RCDA"}, "attention is 'RCDA', and must be 'rcda' or 'multi_head'"),
        ({"num_patterns": 0}, "num_patterns is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_what_cannot_be_is_named(change, says):
    values = config_to_dict(AnchorDETRConfig()) | {
        name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value
        for name, value in change.items()
    }
    with pytest.raises((ValueError, TypeError), match=says):
        config_from_dict(values)


def losses_and_gradients(model, variables, images, **options):
    def objective(params):
        outputs = model.apply({**variables, "params": params}, images, **options)
        return jnp.sum(outputs.logits**2) + jnp.sum(outputs.boxes**2)

    return jax.jit(jax.value_and_grad(objective))(variables["params"])


@pytest.fixture(scope="module")
def images():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 48, 3), np.uint8)
    return pad_images(list(pixels), (64, 64), 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "remat"), [("dc5", "cheap"), ("three_levels", "cheap"), ("three_levels", "layers")]
)
def test_remat_changes_no_gradient(images, option, remat):
    config = dataclasses.replace(NARROW, **OPTIONS[option])
    variables = make_detector(config).variables
    plain = losses_and_gradients(make_model(config), variables, images)
    again = losses_and_gradients(make_model(config, remat=remat), variables, images)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * (1 + np.abs(a).max())),
        *(plain, again),
    )


def test_dropout_is_for_training_alone(images):
    config = dataclasses.replace(NARROW, dropout=0.5)
    variables = make_detector(config).variables
    apply = jax.jit(make_model(config).apply, static_argnames="train")
    still = jax.jit(make_model(NARROW).apply)(variables, images)
    np.testing.assert_array_equal(apply(variables, images).logits, still.logits)
    one, two, again = (
        apply(variables, images, train=True, rngs={"dropout": jax.random.key(seed)}).logits
        for seed in (1, 2, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - two).max() > 1e-3
    assert np.abs(one - still.logits).max() > 1e-3


def test_every_part_gets_a_gradient(images):
    """Nothing is cut off, and nothing but what a single image level cannot reach stays zero."""
    config = dataclasses.replace(NARROW, **OPTIONS["three_levels"])
    variables = make_detector(config).variables
    _, gradients = losses_and_gradients(make_model(config), variables, images)
    silent = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradients)
        if not np.abs(leaf).max() > 0
    ]
    assert silent == [] or all("key" in path and "bias" in path for path in silent), silent


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("anchor_detr_r50_c5", 37_038_711),
        ("anchor_detr_r50_dc5", 37_038_711),
        ("anchor_detr_r101_c5", 55_978_615),
        ("anchor_detr_r101_dc5", 55_978_615),
    ],
)
def test_the_published_configs(name, parameters):
    """Each builds the model whose AP it promises."""
    module = importlib.import_module(f"configs.{name}")
    config = config_from_dict(module.get_config().model.to_dict())
    shapes = variable_shapes(config)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == parameters
    figures = published_ap(config)
    assert figures is not None
    assert f"expected: {figures[0]}" in module.__doc__
    assert all(str(figure) in module.__doc__ for figure in figures)
    assert published_ap(dataclasses.replace(config, num_patterns=1)) is None
