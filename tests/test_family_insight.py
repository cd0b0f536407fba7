"""What is drawn of the sister families: where their queries start, and where they look."""

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest
from conftest import DATA, make_detector
from families import NARROW_SISTERS
from test_commands import one_error, run
from test_insight import words_of

from anchor_detr_jax.data.categories import coco_columns
from anchor_detr_jax.data.transforms import resize
from anchor_detr_jax.insight.anchors import anchor_figure
from anchor_detr_jax.insight.attention import attention_figure, attention_grid_figure
from anchor_detr_jax.insight.box_sets import BoxSet, collect_boxes
from anchor_detr_jax.insight.gaussians import gaussian_figure
from anchor_detr_jax.insight.observation import Observation, observe
from anchor_detr_jax.insight.patterns import layer_figure, pattern_figure
from anchor_detr_jax.insight.query_boxes import query_figure
from anchor_detr_jax.insight.query_points import QueryKind
from anchor_detr_jax.insight.scatter import scatter_figure
from anchor_detr_jax.models.conditional_detr import ConditionalDETRConfig
from anchor_detr_jax.models.describe import described_model
from anchor_detr_jax.models.detr import DETRConfig
from anchor_detr_jax.models.smca import SMCAConfig
from anchor_detr_jax.structures import Images

SIDES = {"short_side": 96, "long_side": 160}
HW = 96, 127


def sisters(*fast):
    """Over all narrow detectors; those that are not named are slow."""
    marked = [pytest.param(n, marks=[] if n in fast else pytest.mark.slow) for n in NARROW_SISTERS]
    return pytest.mark.parametrize("name", marked)


_MADE: dict[str, tuple] = {}


def sister(name, pictures):
    """A narrow detector, and what it did with a picture that needs padding."""
    if name not in _MADE:
        detector = make_detector(NARROW_SISTERS[name])
        seen = observe(detector, pictures["image2"], threshold=0.0, top_k=12, **SIDES)
        _MADE[name] = detector, seen
    return _MADE[name]


@pytest.fixture
def smca(pictures):
    return sister("smca_type4_mixed", pictures)


@pytest.fixture
def detr(pictures):
    return sister("detr", pictures)


@sisters("detr")
def test_what_is_observed_is_what_predict_finds(name, pictures):
    detector, seen = sister(name, pictures)
    (found,) = detector.predict(pictures["image2"], threshold=0.0, top_k=12, **SIDES)
    np.testing.assert_allclose(seen.found.scores, found.scores, atol=1e-5)
    np.testing.assert_allclose(seen.found.boxes, found.boxes, atol=2e-2)
    np.testing.assert_array_equal(seen.found.labels, found.labels)
    np.testing.assert_allclose(seen.boxes_in_pixels(-1), seen.found.boxes, atol=1e-4)
    assert seen.scores.shape == (2, 14, 5)  # no column for "no object"
    if isinstance(detector.config, DETRConfig):
        assert len(set(seen.query)) == 12  # a label each


@sisters("smca_type4_mixed")
def test_weights_are_what_the_model_mixes_its_values_by(name, pictures):
    """Values of the map, mixed by the weights that are shown, go through `out` to the result."""
    detector, seen = sister(name, pictures)
    images = Images(resize(seen.picture, HW)[None], np.array([HW]))
    run = partial(detector.model.apply, mutable=["intermediates"], capture_intermediates=_wanted)
    _, notes = jax.jit(run)(detector.variables, images)
    for detection in (0, 7):
        maps = seen.attention(detection)
        assert maps.product[..., maps.valid_hw[1] :].max(initial=0) == 0  # padding
        np.testing.assert_allclose(maps.product.sum((-2, -1)), 1, atol=1e-5)
        real = maps.without_padding.product
        for layer in range(2):
            noted = notes["intermediates"][f"decoder_{layer}"]["cross_attn"]
            out = detector.variables["params"][f"decoder_{layer}"]["cross_attn"]["out"]
            value = np.asarray(noted["value"]["__call__"][0][0]).reshape(*maps.valid_hw, 4, -1)
            mixed = np.einsum("nhw,hwnd->nd", real[layer], value).ravel()
            expected = noted["__call__"][0][0, seen.query[detection]]
            np.testing.assert_allclose(mixed @ out["kernel"] + out["bias"], expected, atol=1e-4)


def _wanted(module, method):
    return module.name in ("value", "cross_attn") and method == "__call__"


def test_each_head_of_conditional_detr_compares_content_and_position_apart(pictures):
    """The score is content by content plus position by position, by the root of 2 x 16."""
    _, seen = sister("conditional_detr", pictures)
    query, key = seen.looks.query[1, 0, 5], seen.looks.key[1, 0, :6, :8].reshape(48, 4, 32)
    assert query.shape == (4, 32)
    scores = np.zeros((4, 48))
    for head in range(4):
        for part in (slice(0, 16), slice(16, 32)):
            scores[head] += key[:, head, part] @ query[head, part] / np.sqrt(32)
    weights = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    maps = seen.looks.maps(5, 0, (6, 8))
    np.testing.assert_allclose(maps.product[1, :, :6, :8].reshape(4, 48), weights, atol=1e-6)


@sisters("detr", "conditional_detr", "smca_type4_mixed")
def test_points_are_those_of_the_model(name, pictures):
    detector, seen = sister(name, pictures)
    config, kind = detector.config, seen.kind
    if isinstance(config, DETRConfig):
        assert (kind.points, seen.points.shape) == ("", (0, 2))
        assert seen.point_in_pixels(0) is None
        return
    if isinstance(config, ConditionalDETRConfig):
        p = detector.variables["params"]
        hidden = _linear(p["reference"]["linear0"], p["query_places"]).clip(0)
        expected = 1 / (1 + np.exp(-_linear(p["reference"]["linear1"], hidden)))
        np.testing.assert_allclose(seen.points, expected, atol=1e-6)
    np.testing.assert_array_equal(seen.point, seen.query)
    half = 7 if isinstance(config, SMCAConfig) and config.query_mixture else 0
    assert np.isnan(seen.points[:half]).all()
    assert ((seen.points[half:] > 0) & (seen.points[half:] < 1)).all()
    late = int(np.flatnonzero(seen.query >= half)[0])
    expected = seen.points[seen.query[late]] * seen.picture.size
    np.testing.assert_allclose(seen.point_in_pixels(late), expected)


def _linear(layer, x):
    return np.asarray(x) @ layer["kernel"] + layer["bias"]


def test_gaussians_by_their_formula(smca):
    """Around the anchor in cells of 32 pixels, moved by each head; half of the heads have none."""
    detector, seen = smca
    detection = int(np.flatnonzero(seen.query >= 7)[0])
    query = int(seen.query[detection])
    maps = seen.gaussians(detection)
    assert maps.factors.shape == (2, 4, 3, 4)
    first = detector.variables["params"]["decoder_0"]
    known = np.asarray(detector.variables["params"]["query_places"][query], np.float64)
    known = (known - known.mean()) / np.sqrt(known.var() + 1e-5)
    known = known * first["gaussian_norm"]["scale"] + first["gaussian_norm"]["bias"]
    anchor = seen.points[query] * (127, 96) / 32
    offsets = _linear(first["offset"], known).reshape(4, 2)
    scales = _linear(first["scale"], known).reshape(4, 3) ** 2
    y, x = np.mgrid[:3, :4]
    for head in range(2):
        dx, dy = ((grid - (anchor + offsets[head])[i]) ** 2 for i, grid in enumerate((x, y)))
        sx, sy, sxy = scales[head]
        expected = np.exp(-(sx * dx + sy * dy + sxy * dx * dy) / 4)
        np.testing.assert_allclose(maps.factors[0, head], expected, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(maps.centres[0], anchor + offsets, atol=1e-4)
    assert (maps.factors[:, 2:] == 1).all()
    early = np.flatnonzero(seen.query < 7)
    assert (seen.gaussians(int(early[0])).factors == 1).all()


def test_gaussians_are_drawn_where_they_are(smca):
    _, seen = smca
    detection = int(np.flatnonzero(seen.query >= 7)[0])
    maps = seen.gaussians(detection)
    axes = gaussian_figure(seen, detection=detection).axes
    assert len(axes) == 2 * 4
    with_one, without = axes[4 + 1], axes[4 + 3]
    np.testing.assert_allclose(with_one.images[1].get_array(), maps.factors[1, 1])
    dot, cross = with_one.lines
    cell = np.array([333 / 4, 250 / 3])
    expected = (maps.centres[1, 1] + 0.5) * cell
    np.testing.assert_allclose(dot.get_xydata()[0], expected, rtol=1e-6)
    np.testing.assert_allclose(cross.get_xydata()[0], seen.point_in_pixels(detection))
    assert (len(without.images), len(without.lines)) == (1, 1)


def test_what_a_family_does_not_have_is_said(detr):
    _, seen = detr
    with pytest.raises(ValueError, match="start from no points"):
        anchor_figure(seen)
    with pytest.raises(ValueError, match="have no patterns"):
        pattern_figure(seen)
    with pytest.raises(ValueError, match="no Gaussians modulate"):
        gaussian_figure(seen)


def test_points_of_which_queries_know_are_drawn(smca):
    _, seen = smca
    (axes,) = anchor_figure(seen).axes
    busy = len(set(seen.query[seen.query >= 7]))
    title = f"7 anchors; {busy} found something (score of 0 or more)"
    assert axes.get_title("left") == title
    np.testing.assert_allclose(
        axes.collections[0].get_offsets(), seen.points[7:] * (333, 250), rtol=1e-5
    )
    assert len(axes.lines) == (seen.query >= 7).sum()


def test_boxes_of_each_query_over_a_set(detr):
    """Those that found most; all that they said, found or not."""
    _, seen = detr
    some = dataclasses.replace(seen, query=np.full_like(seen.query, 5))
    moved = dataclasses.replace(seen, boxes=seen.boxes * 0.5)
    boxes = collect_boxes(iter([seen, some, moved]))
    assert boxes is not None
    assert (boxes.pictures, boxes.all_boxes.shape) == (3, (3, 14, 4))
    figure = query_figure(boxes)
    assert figure.get_suptitle() == "centres of the boxes of 14 of 14 queries in 3 pictures"
    axes = figure.axes[5]
    count = 12 + 2 * int((seen.query == 5).sum())
    assert axes.get_title("left") == f"query 5: {count} found"
    expected = np.stack([seen.boxes[-1, 5], seen.boxes[-1, 5], seen.boxes[-1, 5] / 2])
    np.testing.assert_allclose(axes.collections[0].get_offsets(), expected[:, :2], rtol=1e-6)
    assert axes.yaxis_inverted()
    assert not axes.lines  # no point
    assert collect_boxes([]) is None
    (places, *_) = scatter_figure(boxes).axes
    assert places.get_title("left") == "all queries: 36 boxes"


def test_only_twenty_queries_are_drawn():
    boxes = BoxSet(
        boxes=np.full((12, 4), 0.5, np.float32),
        query=np.arange(30, 42),
        all_boxes=np.full((1, 42, 4), 0.5, np.float32),
        points=np.full((42, 2), 0.25, np.float32),
        kind=QueryKind("reference points"),
    )
    axes = query_figure(boxes).axes[:20]
    expected = [f"query {i}: {int(i >= 30)} found" for i in (*range(8), *range(30, 42))]
    assert [one.get_title("left") for one in axes] == expected
    assert all(one.lines[0].get_xydata().tolist() == [[0.25, 0.25]] for one in axes)


@sisters("detr", "smca_type4_mixed")
def test_no_words_are_cut_off(name, pictures):
    _, seen = sister(name, pictures)
    for figure in figures(seen):
        figure.canvas.draw()
        width, height = figure.canvas.get_width_height()
        for text in words_of(figure):
            place = text.get_window_extent(figure.canvas.get_renderer())
            inside = place.x0 >= 0 and place.y0 >= 0 and place.x1 <= width and place.y1 <= height
            assert inside, text.get_text()


def figures(seen: Observation):
    """All that there are of a family."""
    yield layer_figure(seen)
    yield attention_figure(seen, detection=2, head=1)
    yield attention_grid_figure(seen)
    yield query_figure(collect_boxes([seen]))
    yield scatter_figure(collect_boxes([seen]))
    if seen.kind.points:
        yield anchor_figure(seen)
    if seen.kind.gaussians:
        yield gaussian_figure(seen)


@pytest.mark.slow
def test_the_command_draws_what_there_is(tmp_path):
    make_detector(NARROW_SISTERS["smca_type3"]).save(tmp_path / "smca")
    make_detector(NARROW_SISTERS["detr"]).save(tmp_path / "detr")
    photograph = DATA / "coco/val2017/000000005001.jpg"
    for family, extra in (("smca", ["anchors", "gaussians_0"]), ("detr", [])):
        arguments = ("--checkpoint", tmp_path / family, "--output", tmp_path / f"drawn_{family}")
        sides = ("--short_side=64", "--long_side=96", "--images", photograph)
        run("scripts/visualize.py", *arguments, *sides, "--threshold=0.2")
        kinds = [*extra, "layers", "attention_0", "attention_0_all"]
        expected = {f"000000005001_{kind}.png" for kind in kinds} | {"scatter.png", "queries.png"}
        assert {path.name for path in (tmp_path / f"drawn_{family}").iterdir()} == expected
    done = run("scripts/visualize.py", *arguments, *sides, "--what=layers,patterns", check=False)
    assert "--what patterns: this detector's queries have no patterns; choose of" in one_error(done)


@pytest.mark.parametrize(
    ("config", "first", "queries"),
    [
        (DETRConfig(), "detr R50-C5", "100 learned queries"),
        (ConditionalDETRConfig(), "conditional_detr R50-C5", "300 conditional queries"),
        (SMCAConfig(), "smca R50-C5", "300 queries with Gaussians of type3"),
    ],
)
def test_what_a_detector_says_of_itself(config, first, queries):
    lines = described_model(config, coco_columns(), {}, "7 parameters").splitlines()
    assert lines == [
        f"Detector: {first}, 7 parameters",
        "  finds 80 categories: person, bicycle, car, motorcycle, airplane, bus, ...",
        f"  by {queries}",
        "  from no file",
    ]
