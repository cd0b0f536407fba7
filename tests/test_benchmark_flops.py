"""The formula of multiply-adds, against what is traced, what XLA says and what was published."""

import dataclasses
import math

import jax
import pytest
from conftest import NARROW
from families import NARROW_SISTERS
from jax.extend import core as jax_core
from jax.interpreters import partial_eval

from anchor_detr_jax.backbones.resnet import BLOCKS, ResNetConfig
from anchor_detr_jax.benchmark.flops import count_detection, count_training_step
from anchor_detr_jax.benchmark.presets import PRESETS
from anchor_detr_jax.benchmark.tasks import Task, made_images
from anchor_detr_jax.insight.query_points import query_kind
from anchor_detr_jax.models.build import make_model, variable_shapes
from anchor_detr_jax.models.conditional_detr import ConditionalDETRConfig
from anchor_detr_jax.models.detr import DETRConfig
from anchor_detr_jax.training.config import TrainConfig

HW = (97, 131)
"""Odd: of an even width the stem takes columns in pairs, with a column of zeros in its kernel."""


def task(config, hw) -> Task:
    return Task("narrow", TrainConfig(model=config), "float32", hw)


def products(jaxpr) -> int:
    """Multiply-adds of all matrix products and convolutions of a program without loops."""
    total = 0
    for one in jaxpr.eqns:
        out = math.prod(one.outvars[0].aval.shape) if one.outvars else 0
        if one.primitive.name == "dot_general":
            (contracted, _), _ = one.params["dimension_numbers"]
            total += out * math.prod(one.invars[0].aval.shape[axis] for axis in contracted)
        elif one.primitive.name == "conv_general_dilated":
            kernel = one.invars[1].aval.shape
            total += out * math.prod(kernel) // kernel[one.params["dimension_numbers"].rhs_spec[0]]
        total += sum(map(products, jax_core.jaxprs_in_params(one.params)))
    return total


def traced_products(config) -> int:
    """Of the forward pass of an image, without what nobody asks for.

    The points of queries are asked for twice, where they look and where their boxes are; XLA
    computes them once.
    """
    model, shapes = make_model(config, rcda_impl="whole"), variable_shapes(config)
    images = made_images(task(config, HW))
    total = traced(lambda variables: model.apply(variables, images, last_layer_only=True), shapes)
    method = query_kind(config).method
    if method:
        total -= traced(lambda variables: model.apply(variables, method=method), shapes)
    return total


def traced(function, shapes) -> int:
    closed = jax.make_jaxpr(function)(shapes)
    jaxpr, _ = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
    return products(jaxpr)


def changed(**how):
    backbone = dataclasses.replace(NARROW.backbone, **how.pop("backbone", {}))
    return dataclasses.replace(NARROW, backbone=backbone, **how)


SHAPES = {
    "c5": NARROW,
    "dc5": changed(backbone={"dilation": True}),
    "more blocks": changed(backbone={"blocks": (2, 1, 3, 2), "dilation": True}),
    "multi-head": changed(attention="multi_head"),
    "levels": changed(backbone={"dilation": True}, num_levels=3, level_layers=1),
    "two levels": changed(backbone={"dilation": True}, num_levels=2, attention="multi_head"),
    "small pictures": changed(
        backbone={"block": "basic", "norm": "group", "stem_stride": 2},
        anchors="grid",
        num_anchors=9,
    ),
    **NARROW_SISTERS,
    "conditional_detr, three layers": dataclasses.replace(
        NARROW_SISTERS["conditional_detr"], encoder_layers=1, decoder_layers=3
    ),
    "smca_type2": dataclasses.replace(NARROW_SISTERS["smca_type1"], dynamic_scale="type2"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_formula_counts_what_is_computed(shape):
    assert count_detection(SHAPES[shape], HW).total == traced_products(SHAPES[shape])


def test_the_formula_agrees_with_xla():
    """Nearly: XLA adds what is no product, and leaves out zeros beyond the border."""
    config = changed(backbone={"width": 16, "dilation": True})
    model, hw = make_model(config, rcda_impl="whole"), (256, 320)
    images = made_images(task(config, hw))
    lowered = jax.jit(lambda v, x: model.apply(v, x, last_layer_only=True)).lower(
        variable_shapes(config), images
    )
    counted = count_detection(config, hw).total
    assert lowered.cost_analysis()["flops"] / 2 == pytest.approx(counted, rel=0.05)


# What torch.utils.flop_counter counts of the reference (eager, 2.13.0), halved.
REFERENCE = {
    ("c5", 800, 1216): 99_805_966_336,
    ("c5", 800, 1333): 109_091_226_624,
    ("dc5", 800, 1066): 163_904_794_624,
    ("dc5", 800, 1216): 187_204_790_272,
}


@pytest.mark.parametrize("shape", REFERENCE)
def test_the_reference_is_counted_to_the_last_one(shape):
    """But for what it does more.

    Its keys are projected before they are averaged, its heads look at all six layers, and each
    layer embeds the queries' positions again.
    """
    maps, height, width = shape
    model = PRESETS[f"anchor_detr_r50_{maps}"].model
    stride = 16 if maps == "dc5" else 32
    h, w = math.ceil(height / stride), math.ceil(width / stride)
    keys = 12 * (2 * h * w - h - w) * 256 * 256
    positions = 5 * 900 * 3 * 2 * 256 * 256
    counted = count_detection(model, (height, width))
    assert REFERENCE[shape] == counted.total + keys + positions + 5 * counted.heads


def test_published():
    """The paper's 151 G for R50-DC5, at a size that COCO's pictures have about."""
    counted = count_detection(PRESETS["anchor_detr_r50_dc5"].model, (800, 1033))
    assert round(counted.total / 1e9) == 151


PUBLISHED = {
    (DETRConfig, 50, False): 86,
    (DETRConfig, 50, True): 187,
    (DETRConfig, 101, False): 152,
    (DETRConfig, 101, True): 253,
    (ConditionalDETRConfig, 50, False): 90,
    (ConditionalDETRConfig, 50, True): 195,
    (ConditionalDETRConfig, 101, False): 156,
    (ConditionalDETRConfig, 101, True): 262,
}
"""GFLOPs of the papers' tables: means over the first 100 pictures of COCO's val2017."""


@pytest.mark.parametrize(("family", "depth", "dilation"), PUBLISHED)
def test_one_size_explains_all_that_is_published(family, depth, dilation):
    """The mean size of those pictures is not published; one near 800x1136 gives all eight."""
    config = family(ResNetConfig(blocks=BLOCKS[depth], dilation=dilation))
    counted = count_detection(config, (800, 1136)).total / 1e9
    assert counted == pytest.approx(PUBLISHED[family, depth, dilation], rel=0.01)


def test_a_step_costs_three_times_what_is_trained():
    """Twice as much backwards as forwards, but for the stem and the first stage."""
    forward = count_detection(NARROW, HW)
    step = count_training_step(NARROW, HW)
    all_layers = forward.total + forward.heads * (NARROW.decoder_layers - 1)
    frozen = (3 * all_layers - step) / 2
    rest = changed(backbone={"blocks": (2, 1, 1, 1)})
    more = count_detection(rest, HW).total - forward.total
    assert 0 < frozen < forward.backbone
    assert count_training_step(rest, HW) - step == more  # forwards alone
