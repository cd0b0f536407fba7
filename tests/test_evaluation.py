"""COCO's numbers, and detections in its format."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import DATA

from anchor_detr_jax.data.coco import read_coco_split
from anchor_detr_jax.evaluation.coco_ap import score_results
from anchor_detr_jax.evaluation.runner import detect_dataset
from anchor_detr_jax.postprocess import best_detections
from anchor_detr_jax.structures import Outputs

TRUTH = DATA / "coco_eval/instances_val2014_100.json"
RESULTS = DATA / "coco_eval/instances_val2014_fakebbox100_results.json"
PUBLISHED = [
    *(0.5045806987, 0.6969727247, 0.5729816670, 0.5856257209, 0.5193996948, 0.5013978986),
    *(0.3868127796, 0.5936795763, 0.5953529829, 0.6398109626, 0.5664205979, 0.5642905983),
]


def test_the_twelve_numbers_to_ten_digits():
    scores = score_results(json.loads(RESULTS.read_text()), TRUTH)
    np.testing.assert_allclose(scores.stats, PUBLISHED, atol=5e-11)
    assert scores.ap == scores.stats[0]
    lines = scores.summary.splitlines()
    assert len(lines) == 12
    assert lines[0].endswith("| area=   all | maxDets=100 ] = 0.505")


def test_scoring_leaves_the_results_as_they_were():
    results = json.loads(RESULTS.read_text())[:50]
    score_results(results, TRUTH)
    assert results == json.loads(RESULTS.read_text())[:50]


def test_nothing_found_scores_zero():
    assert score_results([], TRUTH).stats[0] == 0.0


@pytest.mark.parametrize(
    ("result", "says"),
    [
        ({"image_id": 42}, "result 0 is not in COCO's format"),
        ({"image_id": -5, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}, "image -5"),
        ({"image_id": 42, "category_id": 1, "bbox": [0, 1, 1], "score": 1}, "3 numbers"),
        ("x", "result 0"),
    ],
)
def test_malformed_results_are_named(result, says):
    with pytest.raises(ValueError, match=says):
        score_results([result], TRUTH)


def test_annotations_without_truth(tmp_path):
    (tmp_path / "info.json").write_text('{"images": []}')
    with pytest.raises(ValueError, match="has no annotations"):
        score_results([], tmp_path / "info.json")


def test_best_detections_against_numpy():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 3, 6, 4)).astype(np.float32)
    boxes = rng.uniform(size=(2, 3, 6, 4)).astype(np.float32)
    hw = np.array([[10, 20], [300, 100], [7, 7]])
    columns = np.array([True, False, True, True])
    ranked = best_detections(
        Outputs(jnp.asarray(logits), jnp.asarray(boxes)),
        jnp.asarray(hw),
        jnp.asarray(columns),
        count=5,
    )
    for b in range(3):
        pairs = [(logits[-1, b, q, c], q, c) for q in range(6) for c in (0, 2, 3)]
        for k, (logit, q, c) in enumerate(sorted(pairs, reverse=True)[:5]):
            cx, cy, w, h = boxes[-1, b, q] * [hw[b, 1], hw[b, 0], hw[b, 1], hw[b, 0]]
            expected = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
            np.testing.assert_allclose(ranked.boxes[b, k], expected, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(ranked.scores[b, k], 1 / (1 + np.exp(-logit)), rtol=1e-5)
            assert ranked.labels[b, k] == c


def test_the_runner_gives_the_same_at_any_batch_size(narrow):
    dataset = read_coco_split(DATA / "coco", "val2017")
    sides = {"short_side": 96, "long_side": 160}
    one = detect_dataset(narrow, dataset, **sides, batch_size=1)
    three = detect_dataset(narrow, dataset, **sides, batch_size=3)
    per_image = narrow.config.num_queries * narrow.config.num_classes  # fewer than 100
    assert len(one) == len(three) == 5 * per_image
    assert [r["image_id"] for r in one[::per_image]] == [image.id for image in dataset.images]
    assert {r["category_id"] for r in one} == set(narrow.categories.ids)
    for a, b in zip(one, three, strict=True):
        assert a["image_id"] == b["image_id"]
        assert abs(a["score"] - b["score"]) < 1e-5
