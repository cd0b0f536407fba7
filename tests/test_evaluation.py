"""COCO's numbers, and detections in its format."""

import contextlib
import importlib.util
import io
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import DATA
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from anchor_detr_jax.data.formats.coco import read_coco, read_coco_split
from anchor_detr_jax.evaluation.coco_ap import SCORERS, score_results
from anchor_detr_jax.evaluation.per_class import ClassScores, per_class_table
from anchor_detr_jax.evaluation.runner import InterruptedRun, detect_dataset, run_dataset
from anchor_detr_jax.evaluation.speed import BatchCost, run_speed
from anchor_detr_jax.evaluation.truth import CocoTruth, read_truth
from anchor_detr_jax.postprocess import best_detections
from anchor_detr_jax.structures import Outputs

TRUTH = DATA / "coco_eval/instances_val2014_100.json"
RESULTS = DATA / "coco_eval/instances_val2014_fakebbox100_results.json"
PUBLISHED = [
    *(0.5045806987, 0.6969727247, 0.5729816670, 0.5856257209, 0.5193996948, 0.5013978986),
    *(0.3868127796, 0.5936795763, 0.5953529829, 0.6398109626, 0.5664205979, 0.5642905983),
]


@pytest.mark.parametrize("scorer", SCORERS)
def test_the_twelve_numbers_to_ten_digits(scorer):
    scores = score_results(json.loads(RESULTS.read_text()), TRUTH, scorer=scorer)
    np.testing.assert_allclose(scores.stats, PUBLISHED, atol=5e-11)
    assert scores.ap == scores.stats[0]
    lines = scores.summary.splitlines()
    assert len(lines) == 12
    assert lines[0].endswith("| area=   all | maxDets=100 ] = 0.505")


def test_scoring_leaves_the_results_as_they_were():
    results = json.loads(RESULTS.read_text())[:50]
    score_results(results, TRUTH)
    assert results == json.loads(RESULTS.read_text())[:50]


@pytest.mark.parametrize("scorer", SCORERS)
def test_nothing_found_scores_zero(scorer):
    assert score_results([], TRUTH, scorer=scorer).stats[0] == 0.0


def scored_by_pycocotools_alone(truth, results):
    """The oracle: pycocotools as its own demo uses it, on the file as it is."""
    with contextlib.redirect_stdout(io.StringIO()):
        annotated = COCO(str(truth))
        evaluation = COCOeval(annotated, annotated.loadRes([dict(r) for r in results]), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        evaluation.summarize()
    return evaluation.stats.tolist(), printed.getvalue().rstrip()


def random_set(seed, *, images=40, categories=8, boxes=8, detections=40, crowds=0.15):
    """Truth with crowds and results with ties, unknown categories and categories out of order."""
    rng = np.random.default_rng(seed)
    ids = [int(i) for i in rng.permutation(images) * 7 + 3]
    kinds = [int(c) for c in rng.permutation(categories) * 2 + 1]
    annotations, results = [], []
    for image in ids:
        for _ in range(rng.integers(0, boxes)):
            box = [*rng.uniform(0, 400, 2), *rng.uniform(2, 250, 2)]
            kind = kinds[rng.integers(0, categories - 1)]
            one = {"id": len(annotations) + 1, "image_id": image, "category_id": kind, "bbox": box}
            crowd = int(rng.uniform() < crowds)
            annotations.append(one | {"area": box[2] * box[3] * 0.7, "iscrowd": crowd})
            near = [b + rng.normal() * box[2 + i % 2] * 0.1 for i, b in enumerate(box)]
            near[2:] = np.abs(near[2:]).tolist()
            results.append({"image_id": image, "category_id": kind, "bbox": near})
        for _ in range(rng.integers(0, detections)):
            kind = int(rng.integers(0, 2 * categories + 3))
            box = [*rng.uniform(0, 400, 2), *rng.uniform(0, 250, 2)]
            results.append({"image_id": image, "category_id": kind, "bbox": box})
    for result in results:
        result["score"] = float(np.round(rng.uniform(), 1))
    named = [{"id": c, "name": f"kind {c}"} for c in kinds]
    listed = [{"id": i, "file_name": f"{i}.jpg"} for i in ids]
    return {"images": listed, "categories": named, "annotations": annotations}, results


@pytest.mark.parametrize("seed", range(6))
def test_both_scorers_say_what_pycocotools_says_with_crowds(tmp_path, seed):
    truth, results = random_set(seed)
    (tmp_path / "a.json").write_text(json.dumps(truth))
    stats, printed = scored_by_pycocotools_alone(tmp_path / "a.json", results)
    assert 0 < stats[0] < 1
    for scorer in SCORERS:
        scores = score_results(results, tmp_path / "a.json", scorer=scorer)
        np.testing.assert_allclose(scores.stats, stats, rtol=0, atol=1e-12)
        assert scores.summary == printed


@pytest.mark.parametrize("scorer", SCORERS)
def test_ids_that_start_at_zero_lose_no_box(tmp_path, scorer):
    truth, results = random_set(1)
    scores = []
    for name, first in {"one.json": 1, "zero.json": 0}.items():
        for i, annotation in enumerate(truth["annotations"]):
            annotation["id"] = first + i
        (tmp_path / name).write_text(json.dumps(truth))
        scores.append(score_results(results, tmp_path / name, scorer=scorer).stats)
    assert scores[0] == scores[1]
    # The reason for this test: on such a file pycocotools takes a hit for a miss.
    assert scored_by_pycocotools_alone(tmp_path / "zero.json", results)[0] != scores[0]


def test_area_and_iscrowd_may_be_left_out(tmp_path):
    truth, _ = random_set(2, crowds=0)
    for annotation in truth["annotations"]:
        annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    (tmp_path / "with.json").write_text(json.dumps(truth))
    for annotation in truth["annotations"]:
        del annotation["area"], annotation["iscrowd"]
    (tmp_path / "without.json").write_text(json.dumps(truth))
    with_both, without = (read_truth(tmp_path / f"{name}.json") for name in ("with", "without"))
    assert without.annotations == with_both.annotations


@pytest.mark.parametrize("scorer", SCORERS)
def test_difficult_boxes_are_kept_and_mean_nothing_to_coco(tmp_path, scorer):
    truth, results = random_set(3)
    stats = []
    for difficult in (0, 1):
        for annotation in truth["annotations"][::2]:
            annotation["difficult"] = difficult
        (tmp_path / "a.json").write_text(json.dumps(truth))
        loaded = read_truth(tmp_path / "a.json")
        assert [a["difficult"] for a in loaded.annotations[:4]] == [difficult, 0, difficult, 0]
        stats.append(score_results(results, loaded, scorer=scorer).stats)
    assert stats[0] == stats[1]


def test_the_numbers_by_name():
    named = score_results(json.loads(RESULTS.read_text()), TRUTH).named
    np.testing.assert_allclose([named["AP75"], named["AR at 1"]], [PUBLISHED[2], PUBLISHED[6]])
    small = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 81}
    truth = CocoTruth(Path("x"), [1], {1: "a"}, [small | {"id": 1, "iscrowd": 0, "difficult": 0}])
    named = score_results([], truth).named
    assert (named["AP small"], named["AP large"]) == (0.0, None)


def test_a_scorer_that_is_not_there(monkeypatch):
    with pytest.raises(ValueError, match="no scorer 'cocoeval', only pycocotools, hotcoco"):
        score_results([], TRUTH, scorer="cocoeval")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'pip install "anchor_detr_jax\[fast\]"'):
        score_results([], TRUTH, scorer="hotcoco")


@pytest.mark.slow
def test_hotcoco_is_faster(tmp_path):
    truth, results = random_set(0, images=600, categories=80, boxes=14, detections=100)
    (tmp_path / "a.json").write_text(json.dumps(truth))
    loaded, seconds = read_truth(tmp_path / "a.json"), {}
    for scorer in SCORERS:
        started = time.perf_counter()
        score_results(results, loaded, scorer=scorer)
        seconds[scorer] = time.perf_counter() - started
    assert seconds["hotcoco"] < seconds["pycocotools"] / 3


@pytest.mark.parametrize("scorer", SCORERS)
def test_the_mean_over_classes_is_ap(scorer):
    scores = score_results(json.loads(RESULTS.read_text()), TRUTH, scorer=scorer)
    listed = json.loads(TRUTH.read_text())
    assert [c.id for c in scores.per_class] == sorted(c["id"] for c in listed["categories"])
    known = [c for c in scores.per_class if c.ap is not None]
    assert len(known) < 80
    assert all((c.ap is None) == (c.boxes == 0) for c in scores.per_class)
    np.testing.assert_allclose(np.mean([c.ap for c in known]), scores.stats[0], rtol=1e-12)
    np.testing.assert_allclose(np.mean([c.ap50 for c in known]), scores.stats[1], rtol=1e-12)
    uncrowded = sum(not a["iscrowd"] for a in listed["annotations"])
    assert sum(c.boxes for c in scores.per_class) == uncrowded < len(listed["annotations"])


def test_the_table_of_classes():
    classes = [
        ClassScores(1, "cat", 0.25, 0.5, 7),
        ClassScores(2, "yak", None, None, 0),
        ClassScores(3, "traffic light", 0.75, 1.0, 12),
    ]
    head, *rows = per_class_table(classes).splitlines()
    assert head.split() == ["category", "AP", "AP50", "boxes"]
    assert rows[0].split() == ["traffic", "light", "0.750", "1.000", "12"]
    assert rows[1].split() == ["cat", "0.250", "0.500", "7"]
    assert rows[2].split() == ["yak", "-", "-", "0"]
    assert len({len(line) for line in (head, *rows)}) == 1


@pytest.mark.parametrize(
    ("result", "says"),
    [
        ({"image_id": 42}, "result 0 is not in COCO's format"),
        ({"image_id": -5, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}, "image -5"),
        ({"image_id": 42, "category_id": 1, "bbox": [0, 1, 1], "score": 1}, "3 numbers"),
        ({"image_id": 42, "category_id": 1, "bbox": [0, 1, 1, np.nan], "score": 1}, "not finite"),
        ({"image_id": 42, "category_id": 1, "bbox": [0, 1, 1, 2], "score": np.inf}, "not finite"),
        ({"image_id": 42, "category_id": "x", "bbox": [0, 1, 1, 2], "score": 1}, "result 0"),
        ({"image_id": np.inf, "category_id": 1, "bbox": [0, 1, 1, 2], "score": 1}, "result 0"),
        ("x", "result 0"),
    ],
)
def test_malformed_results_are_named(result, says):
    with pytest.raises(ValueError, match=says):
        score_results([result], TRUTH)


def test_annotations_without_truth(tmp_path):
    for text in ('{"images": []}', '{"images": [], "annotations": []}'):
        (tmp_path / "info.json").write_text(text)
        with pytest.raises(ValueError, match="has no annotations"):
            score_results([], tmp_path / "info.json")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"categories": None}, "categories are no list"),
        ({"categories": [{"id": 1}]}, "needs categories with id and name"),
        ({"annotations": [{"image_id": 1, "category_id": 1}]}, "annotation 0 of .*KeyError 'bbox'"),
        ({"annotations": [{"image_id": 1, "category_id": 1, "bbox": [1]}]}, "bbox of 1 numbers"),
        ({"annotations": {"1": 2}}, "no COCO annotation file"),
        ({"images": [{"id": 1}, {"id": 1}]}, "more than one image with id 1"),
        ({"images": [{"id": "1"}]}, "id '1', expected a whole number"),
        ({"images": [7]}, "no COCO annotation file"),
    ],
)
def test_malformed_truth_is_named(tmp_path, changed, says):
    good = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]}
    content = {
        "images": [{"id": 1}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [good],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert score_results([good | {"score": 1}], tmp_path / "a.json").ap == pytest.approx(1)
    (tmp_path / "a.json").write_text(json.dumps(content | changed))
    with pytest.raises(ValueError, match=says) as caught:
        score_results([], tmp_path / "a.json")
    assert str(tmp_path / "a.json") in str(caught.value)


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


def test_a_corrupt_picture_is_named_and_costs_no_other_its_results(narrow, tmp_path):
    folder = tmp_path / "val2017"
    shutil.copytree(DATA / "coco/val2017", folder)
    dataset = read_coco(DATA / "coco/annotations/instances_val2017.json", folder)
    good = detect_dataset(narrow, dataset, short_side=96, long_side=160, batch_size=3)
    broken = dataset.images[1]
    broken.path.write_bytes(broken.path.read_bytes()[:3000])
    run = run_dataset(narrow, dataset, short_side=96, long_side=160, batch_size=3)
    (message,) = run.unreadable
    assert message.startswith(f"{broken.path}: ")
    assert run.speed.images == 4
    others = [result for result in good if result["image_id"] != broken.id]
    assert [r["image_id"] for r in run.results] == [r["image_id"] for r in others]
    scores = [[r["score"] for r in results] for results in (run.results, others)]
    np.testing.assert_allclose(*scores, atol=1e-5)
    with pytest.raises(ValueError, match=broken.path.name):
        detect_dataset(narrow, dataset, short_side=96, long_side=160)


def test_ctrl_c_keeps_what_was_found(narrow):
    dataset = read_coco_split(DATA / "coco", "val2017")
    sides = {"short_side": 96, "long_side": 160}
    whole = run_dataset(narrow, dataset, **sides).results

    def interrupt() -> bytes:
        raise KeyboardInterrupt

    *first, last = dataset.images
    stopped = replace(dataset, images=[*first, replace(last, encoded=interrupt)])
    with pytest.raises(KeyboardInterrupt) as caught:
        run_dataset(narrow, stopped, **sides)
    run = caught.value.run
    assert isinstance(caught.value, InterruptedRun)
    # Some were done, others waited for more of their shape, or were on their way.
    assert run.results == whole[: len(run.results)]
    assert 0 < run.speed.images == len({r["image_id"] for r in run.results}) < 5


def test_speed_counts_compilation_and_padding(narrow):
    dataset = read_coco_split(DATA / "coco", "val2017")
    speed = run_dataset(narrow, dataset, short_side=96, long_side=160, batch_size=3).speed
    assert speed.images == 5
    assert speed.programs == 2  # lying and standing
    assert 0 < speed.compiling < speed.seconds
    # Two batches of three for five images: at least one sixth is there for nothing.
    assert 1 / 6 < speed.padding < 1
    costs = [
        BatchCost((2, 10, 10, 3), 150, 5.0),
        BatchCost((2, 10, 20, 3), 300, 3.0),
        BatchCost((2, 10, 10, 3), 50, 1.0),
    ]
    speed = run_speed(5, 18.0, costs)
    assert (speed.compiling, speed.programs) == (8.0, 2)
    assert speed.padding == pytest.approx(1 - 500 / 800)
    for part in ("5 images in 18.0 s: 0.28 images/s", "0.50 without the 8.0 s", ": 2)", "38%"):
        assert part in str(speed)
    assert "0 images" in str(run_speed(0, 0.0, []))


def test_test_dev_has_its_pictures_in_test(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images").mkdir()
    info = tmp_path / "annotations/image_info_test-dev2017.json"
    with pytest.raises(ValueError, match=r"test2017/.*image_info_test-dev2017\.json"):
        read_coco_split(tmp_path, "test-dev2017")
    info.write_text('{"images": [{"id": 7, "file_name": "000000005001.jpg"}]}')
    with pytest.raises(ValueError, match=r"neither test-dev2017/ .* nor images/test2017/$"):
        read_coco_split(tmp_path, "test-dev2017")
    (tmp_path / "images/test2017").symlink_to(DATA / "coco/val2017")
    dataset = read_coco_split(tmp_path, "test-dev2017")
    assert (dataset.annotations, dataset.annotated) == (info, False)
    assert [image.id for image in dataset.images] == [7]
    assert dataset.images[0].path.parent == tmp_path / "images/test2017"
    assert read_coco_split(DATA / "coco", "val2017").annotated
