"""Kinds of errors, what they cost, thresholds and the worst images."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_boxes import NAMES, box, random_boxes, truth_of
from PIL import Image

from anchor_detr_jax.evaluation import worst_images as worst_images_module
from anchor_detr_jax.evaluation.box_arrays import box_arrays
from anchor_detr_jax.evaluation.coco_ap import score_results
from anchor_detr_jax.evaluation.error_breakdown import confusions, error_breakdown
from anchor_detr_jax.evaluation.error_kinds import WRONG, Kind, judge
from anchor_detr_jax.evaluation.thresholds import THRESHOLDS, calibration, count_scores
from anchor_detr_jax.evaluation.worst_images import draw_errors, worst_images

GRID = [(100 * (i % 4), 100 * (i // 4), 100 * (i % 4) + 60, 100 * (i // 4) + 60) for i in range(12)]


def judged(there, found, **options):
    return judge(box_arrays(found, truth_of(there, **options)))


def counts(breakdown):
    return {kind.name: kind.all for kind in breakdown.kinds}


def perfect_set(rng):
    """Boxes apart from each other, and the detections that find them."""
    there = []
    for image in (1, 2):
        for place in rng.permutation(len(GRID))[: rng.integers(2, 9)]:
            there.append(box(image, int(rng.choice(list(NAMES))), GRID[place]))
    return there, [
        {**b, "score": float(s)}
        for b, s in zip(there, rng.random(len(there)) / 2 + 0.5, strict=True)
    ]


def moved(b, by):
    x, y, w, h = b["bbox"]
    return {**b, "bbox": [x + by * w, y, w, h]}


def other_class(b):
    return {**b, "category_id": next(i for i in NAMES if i != b["category_id"])}


# What is done to one detection of a perfect set, and the only error that it makes.
SPOILED = {
    "localisation": lambda b: [moved(b, 0.5)],  # IoU 1/3
    "class": lambda b: [other_class(b)],
    "duplicate": lambda b: [b, {**moved(b, 0.1), "score": b["score"] / 2}],
    "both": lambda b: [moved(other_class(b), 0.5)],
    "background": lambda b: [b, {**b, "bbox": [900.0, 900.0, 50.0, 50.0], "score": 0.99}],
    "missed": lambda b: [],
}


def test_a_perfect_detector_makes_no_error():
    there, found = perfect_set(np.random.default_rng(0))
    breakdown = error_breakdown(judged(there, found), threshold=0.0)
    assert breakdown.ap50 == pytest.approx(1)
    assert breakdown.correct == breakdown.correct_shown == len(there)
    for kind in (*breakdown.kinds, *breakdown.together):
        assert (kind.all, kind.shown) == (0, 0)
        assert kind.gain == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", SPOILED)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_spoiling_one_box_makes_exactly_one_error_and_mending_it_gains_all(name, seed):
    rng = np.random.default_rng(seed)
    there, found = perfect_set(rng)
    spoiled = int(rng.integers(len(found)))
    found[spoiled : spoiled + 1] = SPOILED[name](found[spoiled])
    breakdown = error_breakdown(judged(there, found), threshold=0.0)
    # What is both, and thus nowhere near right, leaves its box missed.
    expected = {name: 1, "missed": 1} if name == "both" else {name: 1}
    assert {k: n for k, n in counts(breakdown).items() if n} == expected
    gains = {kind.name: kind.gain for kind in breakdown.kinds}
    if name != "both":
        assert gains.pop(name) == pytest.approx(1 - breakdown.ap50, abs=1e-9)
        assert all(gain == pytest.approx(0, abs=1e-9) for gain in gains.values())


@pytest.mark.parametrize("seed", range(8))
def test_everything_is_counted_once_and_ap50_is_coco_s(seed):
    truth, results = random_boxes(seed)
    boxes = judge(box_arrays(results, truth))
    breakdown = error_breakdown(boxes, threshold=0.4)
    errors = {kind.name: kind for kind in breakdown.kinds}
    wrong, unfound = breakdown.together
    assert all(errors[kind.name.lower()].all > 0 for kind in WRONG)
    assert breakdown.ignored > 0
    assert sum(errors[kind.name.lower()].all for kind in WRONG) == wrong.all
    assert wrong.all + breakdown.correct + breakdown.ignored == len(results)
    assert sum(errors[kind.name.lower()].shown for kind in WRONG) == wrong.shown
    assert unfound.all + breakdown.correct == sum(not a["iscrowd"] for a in truth.annotations)
    assert errors["missed"].all <= unfound.all <= unfound.shown
    shown = [r for r in results if r["score"] >= 0.4]
    alone = error_breakdown(judge(box_arrays(shown, truth)), threshold=0.0)
    # A threshold takes the worst away and changes nothing of what the others are.
    assert {k.name: k.shown for k in breakdown.kinds} == counts(alone)
    np.testing.assert_allclose(breakdown.ap50, score_results(results, truth).stats[1], rtol=1e-12)
    for kind in Kind:
        assert (boxes.target[boxes.kind == kind] >= 0).all() == (kind < Kind.BOTH)


def for_tidecv(seed):
    """The set that tidecv's numbers below are of: no crowds, and no category without boxes."""
    truth, results = random_boxes(seed, images=40)
    there = [a | {"iscrowd": 0} for a in truth.annotations]
    found = [r for r in results if r["image_id"] % 5]  # else nothing would be missed
    return truth_of(there, images=truth.image_ids, names=truth.categories), found


TIDECV = {
    # seed: AP50, then of localisation, class, duplicate, both, background and missed the number
    # and the gain, and the gains of all wrong detections and of all boxes not found.
    0: (
        *(0.2846345, [87, 15, 53, 42, 144, 28]),
        [0.061273, 0.005843, 0.016385, 0.027161, 0.140619, 0.076299, 0.505464, 0.076299],
    ),
    1: (
        *(0.2572428, [76, 9, 65, 39, 134, 32]),
        [0.067996, 0.016503, 0.019051, 0.025040, 0.111115, 0.079034, 0.505133, 0.079034],
    ),
}
"""What tidecv 1.0.1 says of two random sets."""


@pytest.mark.parametrize("seed", TIDECV)
def test_counts_and_gains_are_tidecv_s(seed):
    truth, results = for_tidecv(seed)
    breakdown = error_breakdown(judge(box_arrays(results, truth)), threshold=0.5)
    ap50, numbers, gains = TIDECV[seed]
    assert breakdown.ap50 == pytest.approx(ap50, abs=1e-7)
    assert list(counts(breakdown).values()) == numbers
    # Where a recall is one of COCO's 101 to the last bit, tidecv and COCO may differ.
    ours = [kind.gain for kind in (*breakdown.kinds, *breakdown.together)]
    assert ours == pytest.approx(gains, abs=5e-5)


def test_gains_worked_by_hand():
    there = [box(1, 3, place) for place in GRID[:2]]
    found = [
        {**moved(there[0], 0.5), "score": 0.9},
        {**moved(there[0], -0.4), "score": 0.8},
        {**there[1], "score": 0.7},
    ]
    breakdown = error_breakdown(judged(there, found), threshold=0.75)
    # Precision at recall 1/2 is 1/3; 51 of COCO's 101 points of recall are at most 1/2.
    assert breakdown.ap50 == pytest.approx(51 / 101 / 3)
    localisation = breakdown.kinds[0]
    assert (localisation.name, localisation.all, localisation.shown) == ("localisation", 2, 2)
    # Mended, the better of the two is right and the other one gone.
    assert localisation.gain == pytest.approx(1 - breakdown.ap50)
    wrong, unfound = breakdown.together
    assert wrong.gain == pytest.approx(51 / 101 - breakdown.ap50)
    assert unfound.gain == pytest.approx(1 / 3 - breakdown.ap50)
    assert (unfound.all, unfound.shown) == (1, 2)
    assert breakdown.kinds[-1].shown == 1  # the second box is missed from 0.75 on


def test_the_error_of_a_found_box_is_mended_by_leaving_it_out():
    there = [box(1, 3, GRID[0])]
    found = [{**moved(there[0], 0.5), "score": 0.9}, {**there[0], "score": 0.8}]
    found.append({**other_class(there[0]), "score": 0.95})
    breakdown = error_breakdown(judged(there, found), threshold=0.0)
    assert counts(breakdown)["localisation"] == counts(breakdown)["class"] == 1
    assert [kind.gain for kind in breakdown.kinds[:2]] == pytest.approx([0.5, 0.0])


def test_a_category_of_which_all_is_missed():
    there = [box(1, 3, GRID[0]), box(1, 5, GRID[1])]
    breakdown = error_breakdown(judged(there, [{**there[0], "score": 0.5}]), threshold=0.0)
    assert breakdown.ap50 == pytest.approx(0.5)
    assert breakdown.kinds[-1].gain == pytest.approx(0.5)


def test_crowds_and_the_hundredth_of_a_category():
    crowd = box(1, 3, (0, 0, 200, 200), iscrowd=1)
    there = [crowd, box(1, 3, (0, 0, 60, 60))]
    found = [box(1, 3, (10, 10, 50, 50), score=0.5), box(1, 5, (10, 10, 50, 50), score=0.5)]
    boxes = judged(there, found)
    by_category = dict(zip(boxes.boxes.found.category.tolist(), boxes.kind.tolist(), strict=True))
    # IoU 0.44 with the box: a place that is wrong, were it not in the crowd.
    assert by_category == {0: Kind.IGNORED, 1: Kind.BOTH}
    many = [box(2, 3, (0, 0, 9, 9), score=1 - i / 1000) for i in range(103)]
    many += [box(2, 5, (0, 0, 9, 9), score=0.1)]
    kinds = judged(there, many).kind.tolist()
    assert kinds == [Kind.BACKGROUND] * 100 + [Kind.IGNORED] * 3 + [Kind.BACKGROUND]


def test_what_is_taken_for_what():
    there = [box(1, 3, GRID[0]), box(1, 3, GRID[1]), box(2, 5, GRID[2])]
    found = [{**b, "category_id": 8, "score": 0.9 - i / 10} for i, b in enumerate(there)]
    boxes = judged(there, found)
    pairs = [(c.truth, c.found, c.count) for c in confusions(boxes, threshold=0.0)]
    assert pairs == [("cat", "cow", 2), ("dog", "cow", 1)]
    assert [c.count for c in confusions(boxes, threshold=0.75)] == [2]
    assert len(confusions(boxes, threshold=0.0, most=1)) == 1
    assert confusions(boxes, threshold=1.0) == []


def scored(*scores):
    """One category: ten boxes, of which each detection finds one, or is wrong where negative."""
    there = [box(1, 3, place) for place in GRID[:10]]
    found = [
        {**(there[i] if s > 0 else box(1, 3, (900, 0, 950, 50))), "score": abs(s)}
        for i, s in enumerate(scores)
    ]
    return judged(there, found)


def test_thresholds_worked_by_hand():
    boxes = scored(0.9, 0.8, -0.7, 0.6, -0.2, -0.1)
    overall, each = count_scores(boxes)
    assert [c.boxes for c in each] == [10, 0, 0]
    np.testing.assert_array_equal(each[0].right, overall.right)
    at = {point.threshold: point for point in overall.curve()}
    assert len(at) == len(THRESHOLDS)
    half = at[0.5]
    assert (half.precision, half.recall) == (3 / 4, 3 / 10)
    assert half.f1 == pytest.approx(2 * 0.75 * 0.3 / 1.05)
    assert (at[0.0].precision, at[0.0].recall) == (3 / 6, 3 / 10)
    assert (at[0.95].precision, at[0.95].recall, at[0.95].f1) == (None, 0.0, 0.0)
    # F1 from 0.61 on is 4/13, from 0.21 to 0.60 it is 6/14.
    assert overall.best().threshold == pytest.approx(0.4)
    assert overall.best().f1 == pytest.approx(6 / 14)
    assert each[1].best() is each[2].best() is None


def test_the_edges_of_thresholds_belong_above():
    boxes = scored(1.0, 0.29, 0.57)  # 100 * 0.29 and 100 * 0.57 are below 29 and 57 in floats
    overall, _ = count_scores(boxes)
    assert overall.right[[100, 29, 57]].tolist() == [1, 1, 1]
    assert overall.at(29).recall == 0.3
    with pytest.raises(ValueError, match=r"scores go from 0\.1 to 7, expected 0 to 1"):
        count_scores(scored(0.1, 7.0))


def test_calibration_worked_by_hand():
    found = calibration(scored(0.95, 0.91, -0.9, 0.25, -0.2, 1.0))
    assert found.count.tolist() == [0, 0, 2, 0, 0, 0, 0, 0, 0, 4]
    np.testing.assert_allclose(found.score[[2, 9]], [0.225, 0.94])
    np.testing.assert_allclose(found.precision[[2, 9]], [1 / 2, 3 / 4])
    assert np.isnan(found.score[[0, 5]]).all()
    assert found.error == pytest.approx((2 * 0.275 + 4 * 0.19) / 6)
    assert calibration(scored()).error is None


def test_the_worst_images_come_first():
    there = [box(1, 3, GRID[0]), box(2, 3, GRID[0]), box(2, 5, GRID[1]), box(7, 3, GRID[0])]
    found = [
        {**moved(there[0], 0.5), "score": 0.9},
        box(1, 5, (900, 0, 950, 50), score=0.8),
        box(1, 5, (900, 0, 950, 50), score=0.2),
        {**there[3], "score": 0.9},
    ]
    boxes = judged(there, found, images=(9, 7, 2, 1))
    worst = worst_images(boxes, threshold=0.5, most=5)
    assert [w.image_id for w in worst] == [2, 1]
    assert [w.badness for w in worst] == pytest.approx([2, 1.7])
    assert worst[0].counts == {"missed": 2}
    assert str(worst[1]) == "1 localisation, 1 background"
    assert [w.image_id for w in worst_images(boxes, threshold=0.5, most=1)] == [2]
    # Higher up, the first image's box is missed too.
    assert worst_images(boxes, threshold=0.85, most=5)[1].badness == pytest.approx(0.9)


def test_drawn_errors_say_what_they_are(monkeypatch):
    drawn = []
    real = worst_images_module.draw_beside
    monkeypatch.setattr(
        worst_images_module, "draw_beside", lambda *parts: drawn.append(parts) or real(*parts)
    )
    there = [box(1, 3, (0, 0, 400, 400)), box(1, 5, (800, 800, 1200, 1200))]
    there.append(box(1, 8, (0, 0, 99, 99), iscrowd=1))
    found = [
        {**there[0], "score": 0.9},
        {**moved(there[0], 0.1), "score": 0.8},
        {**there[1], "score": 0.3},
    ]
    boxes = judged(there, found)
    picture = draw_errors(boxes, Image.new("RGB", (1280, 1280)), 1, threshold=0.5)
    small, truth, shown = drawn[0]
    assert small.size == (640, 640)
    assert picture.width > 1280
    assert truth.names == ["cat", "dog (missed)"]
    assert shown.names == ["cat", "cat (duplicate)"]
    np.testing.assert_allclose(truth.boxes, [[0, 0, 200, 200], [400, 400, 600, 600]])
    assert shown.labels.tolist() == [3, 3]
    np.testing.assert_allclose(shown.scores, [0.9, 0.8])
