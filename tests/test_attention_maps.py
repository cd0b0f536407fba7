"""Where queries looked: against the reference, against the model's own arithmetic, and padded."""

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest
from conftest import NARROW, make_detector
from test_rcda import ATTENTION, INPUTS, apply, as_the_reference_averages, case  # noqa: F401

from anchor_detr_jax.data.transforms import resize
from anchor_detr_jax.insight.attention_maps import RcdaLooks
from anchor_detr_jax.insight.observation import observe
from anchor_detr_jax.structures import Images

SIDES = {"short_side": 96, "long_side": 160}
DILATED = dataclasses.replace(NARROW.backbone, dilation=True)
VARIANTS = {
    "rcda": NARROW,
    "multi_head": dataclasses.replace(NARROW, attention="multi_head"),
    "3 levels": dataclasses.replace(NARROW, backbone=DILATED, num_levels=3, level_layers=1),
    "3 levels, multi_head": dataclasses.replace(
        NARROW, backbone=DILATED, num_levels=3, attention="multi_head"
    ),
}
SLOW = ("3 levels", "3 levels, multi_head")


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in VARIANTS],
)
def seen(request, pictures):
    """A narrow detector of each kind, and what it did with a picture that needs padding."""
    detector = make_detector(VARIANTS[request.param])
    return detector, observe(detector, pictures["image2"], threshold=0.0, **SIDES)


def test_the_mean_of_the_products_is_the_references(case):  # noqa: F811
    inputs = as_the_reference_averages([case[name] for name in INPUTS])
    _, notes = apply(case, case["variables"], *inputs, mutable=["intermediates"])
    rows = notes["intermediates"]["row_weights"][0]
    columns = notes["intermediates"]["column_weights"][0]
    for image, valid_hw in enumerate(case["valid_hw"].tolist()):
        looks = RcdaLooks(row=rows[image][None, None], column=columns[image][None, None])
        for query in range(rows.shape[2]):
            maps = looks.maps(query, 0, tuple(valid_hw))
            mean = maps.of(0, None).product[0, 0]
            np.testing.assert_allclose(mean, case["weights"][query, image], atol=1e-6)
            assert_weights(maps)
    assert case["mask"].any()


def assert_weights(maps):
    """Each adds to one, there is nothing in the padding, and the sums of the product agree."""
    height, width = maps.valid_hw
    assert (maps.row[..., width:] == 0).all()
    assert (maps.column[..., height:] == 0).all()
    assert (maps.product[..., height:, :] == 0).all()
    assert (maps.product[..., width:] == 0).all()
    for weights, axes in ((maps.row, -1), (maps.column, -1), (maps.product, (-2, -1))):
        assert (weights >= 0).all()
        np.testing.assert_allclose(weights.sum(axes), 1, atol=1e-5)
    np.testing.assert_allclose(maps.product.sum(-2), maps.row, atol=1e-5)
    np.testing.assert_allclose(maps.product.sum(-1), maps.column, atol=1e-5)


def test_weights_add_to_one_and_are_nothing_in_the_padding(seen):
    detector, observation = seen
    stride = 16 if detector.config.backbone.dilation else 32
    height, width = (-(-side // stride) for side in (96, 127))  # of 250 x 333
    for level in range(detector.config.num_levels):
        maps = observation.attention(3, level=level)
        layers, heads = detector.config.decoder_layers, detector.config.num_heads
        assert maps.valid_hw == (height, width)
        assert maps.product.shape == (layers, heads, maps.column.shape[-1], maps.row.shape[-1])
        assert maps.product.shape[-1] > width  # padded
        assert_weights(maps)
        real = maps.without_padding
        assert real.product.shape == (layers, heads, height, width)
        assert_weights(real)
        mean = maps.of(-1, None)
        np.testing.assert_allclose(mean.product[0, 0], maps.product[-1].mean(0), atol=1e-7)
        assert_weights(mean)
        np.testing.assert_array_equal(maps.of(1, 2).product, maps.product[1:2, 2:3])


def test_they_are_what_the_model_mixes_its_values_by(seen):
    """Values of the map, mixed by the weights that are shown, go through `out` to the result."""
    detector, observation = seen
    config = detector.config
    hw = 96, 127
    images = Images(resize(observation.picture, hw)[None], np.array([hw]))
    run = partial(detector.model.apply, mutable=["intermediates"], capture_intermediates=True)
    _, notes = jax.jit(run)(detector.variables, images)
    for detection in (0, 7):
        query = int(observation.query[detection])
        for layer in range(config.decoder_layers):
            noted = notes["intermediates"][f"decoder_{layer}"]["cross_attn"]
            out = detector.variables["params"][f"decoder_{layer}"]["cross_attn"]["out"]
            for level in range(config.num_levels):
                maps = observation.attention(detection, level=level).without_padding
                value = np.asarray(noted["value"]["__call__"][0][level])
                value = value.reshape(*maps.valid_hw, config.num_heads, -1)
                mixed = np.einsum("nhw,hwnd->nd", maps.product[layer], value).ravel()
                expected = noted["__call__"][0][level, query]
                np.testing.assert_allclose(mixed @ out["kernel"] + out["bias"], expected, atol=1e-4)
