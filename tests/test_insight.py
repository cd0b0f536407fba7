"""Figures of what a detector does: what they show is what it did, and nothing is cut off."""

import dataclasses
from itertools import combinations

import numpy as np
import pytest
from conftest import NARROW, make_detector
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle
from PIL import Image

import anchor_detr_jax as ad
from anchor_detr_jax.insight.anchors import anchor_figure
from anchor_detr_jax.insight.attention import attention_figure, attention_grid_figure
from anchor_detr_jax.insight.box_sets import BoxSet, collect_boxes
from anchor_detr_jax.insight.observation import observe
from anchor_detr_jax.insight.patterns import layer_figure, pattern_figure
from anchor_detr_jax.insight.query_boxes import query_figure
from anchor_detr_jax.insight.query_points import QueryKind
from anchor_detr_jax.insight.scatter import scatter_figure
from anchor_detr_jax.insight.truth import truth_figure
from anchor_detr_jax.visualize import draw_beside

SIDES = {"short_side": 96, "long_side": 160}


@pytest.fixture(scope="module")
def seen(narrow, pictures):
    """12 detections in a picture of 250 x 333."""
    return observe(narrow, pictures["image2"], threshold=0.0, top_k=12, **SIDES)


@pytest.fixture(scope="module")
def blind(narrow, pictures):
    """The same without any detection."""
    return observe(narrow, pictures["image2"], threshold=1.0, **SIDES)


def test_what_is_observed_is_what_predict_finds(narrow, pictures, seen):
    (found,) = narrow.predict(pictures["image2"], threshold=0.0, top_k=12, **SIDES)
    np.testing.assert_allclose(seen.found.boxes, found.boxes, atol=1e-3)
    np.testing.assert_allclose(seen.found.scores, found.scores, atol=1e-6)
    np.testing.assert_array_equal(seen.found.labels, found.labels)
    assert seen.found.names == found.names
    good = float(found.scores[4])
    some = observe(narrow, pictures["image2"], threshold=good - 1e-6, **SIDES)
    assert len(some.found) == 5


def test_whose_detections_they_are(narrow, seen):
    points = np.asarray(narrow.variables["params"]["anchor_points"])
    np.testing.assert_array_equal(seen.points, points)
    assert seen.kind.patterns == 2
    np.testing.assert_array_equal(seen.pattern * len(points) + seen.point, seen.query)
    assert set(seen.pattern) == {0, 1}
    np.testing.assert_allclose(seen.boxes_in_pixels(-1), seen.found.boxes, atol=1e-4)
    scores = seen.scores[-1, seen.query, seen.column]
    np.testing.assert_array_equal(scores, seen.found.scores)


def test_all_anchor_points_are_drawn(seen):
    (axes,) = anchor_figure(seen).axes
    offsets = axes.collections[0].get_offsets()
    np.testing.assert_allclose(offsets, seen.points * (333, 250), rtol=1e-5)
    assert axes.get_title("left").startswith("7 learned anchor points, 2 patterns each; ")
    # From each point that found something, a line to the middle of its box.
    lines = {tuple(np.round(line.get_xydata().ravel(), 2)) for line in axes.lines}
    for i, box in enumerate(seen.found.boxes):
        ends = [*(seen.points[seen.point[i]] * (333, 250)), *(box[:2] + box[2:]) / 2]
        assert np.abs(np.array(list(lines)) - ends).max(axis=1).min() < 0.02


@pytest.mark.slow
def test_anchor_points_on_a_grid(pictures):
    config = dataclasses.replace(NARROW, anchors="grid", num_anchors=9)
    seen = observe(make_detector(config), pictures["image2"], threshold=0.0, **SIDES)
    thirds = np.array([1, 3, 5]) / 6
    np.testing.assert_allclose(np.unique(seen.points[:, 0]), thirds, atol=1e-6)
    title = anchor_figure(seen).axes[0].get_title("left")
    assert title.startswith("9 anchor points on a grid, 2 patterns each")


def test_each_pattern_has_its_own_detections(seen):
    first, second = pattern_figure(seen).axes
    counts = [int((seen.pattern == i).sum()) for i in (0, 1)]
    assert first.get_title("left") == f"pattern 0: {counts[0]} of 12 detections"
    assert second.get_title("left") == f"pattern 1: {counts[1]} of 12 detections"
    none = dataclasses.replace(seen, query=seen.query % 7)  # all of them of pattern 0
    first, second = pattern_figure(none).axes
    plain = Image.fromarray(second.images[0].get_array())
    expected = seen.picture.resize(plain.size, Image.Resampling.LANCZOS)
    assert plain == expected
    assert Image.fromarray(first.images[0].get_array()) != expected


def test_layers_refine_what_is_found_in_the_end(seen):
    *_, last = layer_figure(seen).axes
    assert last.get_title("left") == ("layer 1: 12 of 12 reach 0; mean IoU with the last 1.00")
    moved = dataclasses.replace(seen, boxes=seen.boxes.copy(), threshold=2.0)
    moved.boxes[0] = moved.boxes[1] + np.float32([5, 5, 0, 0])
    first, _ = layer_figure(moved).axes
    assert first.get_title("left").startswith(
        "layer 0: 0 of 12 reach 2; mean IoU with the last 0.00"
    )


@pytest.mark.parametrize("head", [None, 3])
def test_attention_over_the_picture(seen, head):
    maps = seen.attention(4).without_padding
    (axes,) = attention_figure(seen, detection=4, layer=0, head=head).axes
    product = maps.product[0].mean(0) if head is None else maps.product[0, head]
    heat = axes.images[1]
    np.testing.assert_allclose(heat.get_array(), product / product.max(), atol=1e-6)
    assert heat.get_extent() == [0, 333, 250, 0]
    (frame,) = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    box = seen.boxes_in_pixels(0)[4].clip(0, (333, 250, 333, 250))
    np.testing.assert_allclose(frame.get_bbox().extents, box, atol=1e-3)
    words = " ".join(text.get_text() for text in axes.texts)
    row = maps.row[0].mean(0) if head is None else maps.row[0, head]
    assert f"row attention below, at most {row.max():.3f}" in words
    # The profiles are as long as the weights: the longest reaches its strip's end, none the other.
    below, beside = axes.collections
    for weights, profile, axis, side in ((row, below, 0, 333), (None, beside, 1, 250)):
        points = profile.get_paths()[0].vertices
        assert (points[:, axis].min(), points[:, axis].max()) == (0, side)
        lengths = np.ptp(points[:, 1 - axis])
        if weights is not None:
            middles = (np.arange(len(weights)) + 0.5) * side / len(weights)
            outline = points[np.isclose(points[:, 1 - axis], points[:, 1 - axis].min(), atol=1e-6)]
            assert len(outline) >= 2
            assert profile.get_paths()[0].contains_point(
                (middles[weights.argmax()], points[:, 1].min() + 0.98 * lengths)
            )
            assert not profile.get_paths()[0].contains_point(
                (middles[weights.argmin()], points[:, 1].min() + 0.98 * lengths)
            )


def test_attention_of_all_layers_and_heads(seen):
    axes = attention_grid_figure(seen, detection=4).axes
    assert len(axes) == 2 * (1 + 4)
    product = seen.attention(4).without_padding.product[1, 2]
    heat = axes[5 + 1 + 2].images[1].get_array()
    np.testing.assert_allclose(heat, product / product.max(), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            {"detection": 12},
            "detection is 12, and must be from 0 to 11: 12 reach the threshold of 0",
        ),
        ({"detection": -1}, "detection is -1"),
        ({"layer": 2}, "layer is 2, and must be from 0 to 1, or -1 for the last"),
        ({"head": 4}, "head is 4, and must be from 0 to 3"),
        ({"level": 1}, "level is 1, and must be from 0 to 0"),
    ],
)
def test_what_there_is_not_is_answered_with_what_there_is(seen, arguments, says):
    with pytest.raises(ValueError, match=says):
        attention_figure(seen, **arguments)


def test_nothing_found(blind, seen):
    best = float(seen.found.scores[0])
    for figure in (pattern_figure, layer_figure, attention_figure, attention_grid_figure):
        with pytest.raises(ValueError, match=rf"threshold of 1; the best has {best:.3f}"):
            figure(blind)
    assert len(anchor_figure(blind).axes) == 1
    with pytest.raises(ValueError, match="nothing was found in 2 pictures"):
        scatter_figure(collect_boxes([blind, blind]))


def test_boxes_of_a_set_by_pattern(seen, blind):
    boxes = collect_boxes(iter([seen, blind, seen]))
    assert (len(boxes.boxes), boxes.kind.patterns, boxes.pictures) == (24, 2, 3)
    figure = scatter_figure(boxes)
    assert figure.get_suptitle() == "24 boxes in 3 pictures, by the pattern that found them"
    for pattern in (0, 1):
        mine = boxes.boxes[boxes.pattern == pattern]
        places, shapes, sizes = (
            figure.axes[pattern],
            figure.axes[2 + pattern],
            figure.axes[4 + pattern],
        )
        np.testing.assert_allclose(places.collections[0].get_offsets(), mine[:, :2], rtol=1e-5)
        np.testing.assert_allclose(shapes.collections[0].get_offsets(), mine[:, 2:], rtol=1e-5)
        colours = places.collections[0].get_array()
        np.testing.assert_allclose(colours, np.sqrt(mine[:, 2] * mine[:, 3]), rtol=1e-5)
        assert sum(bar.get_height() for bar in sizes.patches) == pytest.approx(1)
        assert places.yaxis_inverted()  # as in a picture
        assert not shapes.yaxis_inverted()
        assert places.get_title("left") == f"pattern {pattern}: {len(mine)} boxes"


def test_a_pattern_without_boxes():
    found = BoxSet(
        boxes=np.full((3, 4), 0.5, np.float32),
        query=np.zeros(3, int),
        all_boxes=np.full((1, 6, 4), 0.5, np.float32),
        points=np.full((2, 2), 0.5, np.float32),
        kind=QueryKind("anchor points", patterns=3),
    )
    figure = scatter_figure(found)
    titles = [axes.get_title("left") for axes in figure.axes[:3]]
    assert titles == ["pattern 0: 3 boxes", "pattern 1: 0 boxes", "pattern 2: 0 boxes"]


def test_the_truth_beside(seen):
    truth = ad.Detections(
        boxes=np.float32([[20, 30, 200, 180]]),
        scores=np.ones(1, np.float32),
        labels=np.array([11]),
        names=["kind 1"],
    )
    (axes,) = truth_figure(seen, truth).axes
    shown = Image.fromarray(axes.images[0].get_array())
    assert shown == draw_beside(seen.picture, truth, seen.found)


@pytest.mark.parametrize("size", [(333, 250), (250, 400), (900, 120)])
def test_no_words_are_cut_off_or_lie_on_others(seen, size):
    names = ["a category with a name that is long $3"] * 12
    other = dataclasses.replace(
        seen,
        picture=seen.picture.resize(size),
        found=dataclasses.replace(seen.found, names=names),
    )
    for figure in (
        anchor_figure(other),
        pattern_figure(other),
        layer_figure(other),
        attention_figure(other),
        attention_grid_figure(other),
        scatter_figure(collect_boxes([other])),
        query_figure(collect_boxes([other])),
        truth_figure(other, other.found),
    ):
        canvas = figure.canvas
        assert isinstance(canvas, FigureCanvasAgg)
        canvas.draw()
        width, height = canvas.get_width_height()
        places = {
            text.get_text(): text.get_window_extent(canvas.get_renderer())
            for text in words_of(figure)
        }
        assert places or len(figure.axes) == 1
        for text, place in places.items():
            inside = place.x0 >= 0 and place.y0 >= 0 and place.x1 <= width and place.y1 <= height
            assert inside, text
        for (some, place), (others, there) in combinations(places.items(), 2):
            assert not place.overlaps(there), (some, others)


def words_of(figure):
    """All texts but those of ticks."""
    yield from figure.texts
    for axes in figure.axes:
        yield from axes.texts
        titles = [axes.title, axes._left_title]
        labels = [axes.xaxis.label, axes.yaxis.label] if axes.axison else []
        yield from (text for text in titles + labels if text.get_text())
