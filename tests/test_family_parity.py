"""DETR, Conditional DETR and SMCA: the references' numbers, whatever an image is batched with."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import golden, random_variables
from families import MAIN, NARROW_SISTERS, family_golden, official_model

from anchor_detr_jax.data.batching import pad_images
from anchor_detr_jax.models.build import make_model
from anchor_detr_jax.models.inference import inference_model, inference_variables
from anchor_detr_jax.models.smca.gaussian import gaussian_bias
from anchor_detr_jax.postprocess import best_detections
from anchor_detr_jax.structures import Images, Outputs

LOGITS, BOXES = 2e-4, 5e-5

_SLOW = {
    "detr": ["r50_dc5", "r101"],
    "conditional_detr": ["r50", "r50_dc5", "r101"],
    "smca": ["type1", "type2", "type3", "type4", "type2_head_mixture", "type2_query_mixture"],
}
VARIANTS = [
    ("detr", "r50"),
    *(
        pytest.param(family, variant, marks=pytest.mark.slow)
        for family, variants in _SLOW.items()
        for variant in variants
    ),
]


def side_by_side(images: list[np.ndarray], hw: tuple[int, int]) -> Images:
    """Different sizes in one batch, with bright padding, which must not be seen."""
    batch = pad_images(images, hw, len(images))
    pixels = batch.pixels.copy()
    for one, (height, width) in zip(pixels, batch.valid_hw, strict=True):
        one[height:] = 200
        one[:, width:] = 200
    return Images(pixels, batch.valid_hw)


@pytest.mark.parametrize(("family", "variant"), VARIANTS)
def test_an_image_in_a_padded_batch_is_the_references_alone(family, variant):
    file = family_golden(family, f"forward_{variant}")
    _, config, variables = official_model(family, variant, int(file["seed"]))
    cases = [case for case in ("image0", "image1", "image2") if f"{case}/logits" in file]
    images = side_by_side([golden("images")[case] for case in cases], (352, 352))
    model = make_model(config)
    outputs = jax.jit(model.apply)(variables, images)
    for i, case in enumerate(cases):
        ours = outputs.logits[:, i, file["queries"]], outputs.boxes[:, i, file["queries"]]
        np.testing.assert_allclose(ours[0], file[f"{case}/logits"][:, 0], atol=LOGITS, rtol=0)
        np.testing.assert_allclose(ours[1], file[f"{case}/boxes"][:, 0], atol=BOXES, rtol=0)
    if variant != MAIN[family]:
        return
    drift = np.abs(file["batch01/logits"][:, 0] - file["image0/logits"][:, 0]).max()
    assert drift > 0.5, "what the reference makes of padding"
    for i, case in enumerate(cases):
        check_ranking(outputs, i, file, case)
    run = inference_model(model, in_parts=True)
    last = jax.jit(run.apply)(inference_variables(run, variables), images)
    np.testing.assert_allclose(last.logits, outputs.logits, atol=LOGITS, rtol=0)
    np.testing.assert_allclose(last.boxes, outputs.boxes, atol=BOXES, rtol=0)


def check_ranking(outputs, image, file, case):
    """The best detections; the references of SMCA and Conditional DETR rank all columns."""
    alone = jax.tree.map(lambda x: x[:, image : image + 1], outputs)
    columns = jnp.ones(outputs.logits.shape[-1] - outputs.no_object, bool)
    size = jnp.asarray(file[f"{case}/target_sizes"])
    best = best_detections(alone, size, columns, count=100)
    scores, labels, boxes = (file[f"{case}/post0/{name}"] for name in ("scores", "labels", "boxes"))
    order = np.argsort(-scores, kind="stable")  # DETR's stand in the queries' order
    np.testing.assert_allclose(best.scores[0], scores[order], atol=1e-4)
    # Where two scores are as near as rounding, either may come first.
    gaps = np.abs(np.diff(scores[order], prepend=9, append=scores.min()))
    clear = np.minimum(gaps[:-1], gaps[1:]) > 2e-5
    assert clear.mean() > 0.5
    np.testing.assert_array_equal(np.asarray(best.labels[0])[clear], labels[order][clear])
    np.testing.assert_allclose(best.boxes[0][clear], boxes[order][clear], atol=0.05)


@pytest.mark.parametrize("variant", ["type3", "type4"])
def test_gaussians_are_the_references(variant):
    """Of the first and, for type3, of the last layer."""
    file = family_golden("smca", f"forward_{variant}")
    _, config, variables = official_model("smca", variant, int(file["seed"]))
    case = "image1"
    hw = golden("images")[case].shape[:2]
    cells = file[f"{case}/gaussian0"].shape[-2:]

    def of_first(model):
        x, where = model.empty_queries(), model.query_places[None]
        size = jnp.asarray(hw[::-1]) / config.backbone.stride
        gaussians = model.decoder[0].gaussians(x, where, size * model.anchor_points()[None])
        return gaussian_bias(gaussians, cells)(), model.anchor_points()

    exponents, points = jax.jit(
        lambda variables: make_model(config).apply(variables, method=of_first)
    )(variables)
    ours = np.moveaxis(np.asarray(exponents)[0][..., [0, 100, 200]], -1, 0)
    expected = file[f"{case}/gaussian0"]
    np.testing.assert_allclose(ours.reshape(expected.shape), expected, rtol=2e-4, atol=1e-4)
    if f"{case}/reference_points" in file:
        known = file[f"{case}/reference_points"][0]
        np.testing.assert_allclose(points[file["queries"]], known, atol=1e-5)


def test_reference_points_are_the_references():
    file = family_golden("conditional_detr", "forward_r50")
    _, config, variables = official_model("conditional_detr", "r50", int(file["seed"]))
    points = jax.jit(
        lambda variables: make_model(config).apply(variables, method="reference_points")
    )(variables)
    expected = file["image0/reference_points"].reshape(-1, 2)
    np.testing.assert_allclose(points[file["queries"]], expected, atol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "detr",
        "conditional_detr",
        "smca_type4_mixed",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("detr_pre_norm", "detr_learned", "smca_type1", "smca_type3")
        ),
    ],
)
def test_batch_and_padding_change_nothing(name):
    """Every option; also in the form that is run, head by head; some with C5, some with DC5."""
    rng, config = np.random.default_rng(0), NARROW_SISTERS[name]
    images = [rng.integers(0, 256, (*hw, 3), np.uint8) for hw in [(96, 65), (128, 128)]]
    model, variables = make_model(config), random_variables(config, 0)
    together = jax.jit(model.apply)(variables, side_by_side(images, (160, 192)))
    assert float(jnp.std(together.logits[-1].mean(-1))) > 100 * 5e-5, "queries differ"
    alone = jax.jit(model.apply)(variables, pad_images(images[:1], (96, 65), 1))
    np.testing.assert_allclose(together.logits[:, :1], alone.logits, atol=5e-5)
    np.testing.assert_allclose(together.boxes[:, :1], alone.boxes, atol=1e-5)
    run = inference_model(model, in_parts=True)
    again = jax.jit(run.apply)(
        inference_variables(run, variables), side_by_side(images, (160, 192))
    )
    np.testing.assert_allclose(again.logits, together.logits, atol=5e-5)
    np.testing.assert_allclose(again.boxes, together.boxes, atol=1e-5)


def test_learned_positions_have_an_end():
    config = NARROW_SISTERS["detr_learned"]
    images = pad_images([np.zeros((1632, 64, 3), np.uint8)], (1632, 64), 1)
    with pytest.raises(ValueError, match="51 rows and 2 columns, and learned positions are for at"):
        jax.eval_shape(make_model(config).apply, random_variables(config, 0), images)


@pytest.mark.parametrize(
    ("family", "wrong", "said"),
    [
        ("detr", {"positions": "rotary"}, "positions is 'rotary', and must be 'sine' or 'learned'"),
        ("detr", {"hidden_dim": 66}, "hidden_dim is 66, and must be a multiple of num_heads"),
        ("conditional_detr", {"num_queries": 0}, "num_queries is 0, and must be at least 1"),
        ("smca_type3", {"dynamic_scale": "type5"}, "dynamic_scale is 'type5', and must be one of"),
        ("smca_type3", {"smooth": 0.0}, "smooth is 0.0, and must be above 0"),
    ],
)
def test_a_wrong_shape_is_refused(family, wrong, said):
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(NARROW_SISTERS[family], **wrong)


def test_a_softmax_ranks_each_query_once():
    """By its best class in use; "no object" and classes out of use are never named."""
    logits = jnp.log(jnp.asarray([[[[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.3, 0.4, 0.3]]]]))
    boxes = jnp.full((1, 1, 3, 4), 0.5)
    outputs = Outputs(logits, boxes, no_object=True)
    size = jnp.array([[10, 20]])
    best = best_detections(outputs, size, jnp.array([True, True]), count=6)
    np.testing.assert_allclose(best.scores[0], [0.5, 0.4, 0.2], rtol=1e-6)
    np.testing.assert_array_equal(best.labels[0], [0, 1, 1])
    best = best_detections(outputs, size, jnp.array([False, True]), count=2)
    np.testing.assert_allclose(best.scores[0], [0.4, 0.3], rtol=1e-6)
    np.testing.assert_array_equal(best.labels[0], [1, 1])
