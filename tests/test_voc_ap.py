"""Pascal VOC's average precision against cases worked by hand, and against the kit's own steps."""

import json

import numpy as np
import pytest
from made_boxes import box, random_boxes, truth_of

from anchor_detr_jax.evaluation.box_arrays import box_arrays
from anchor_detr_jax.evaluation.coco_ap import score_results
from anchor_detr_jax.evaluation.voc_ap import score_voc

PLACES = [(100 * i, 0, 100 * i + 50, 50) for i in range(10)]
NOWHERE = (0, 500, 20, 520)


def voc(there, found, **options):
    return score_voc(box_arrays(found, truth_of(there)), **options)


def cat(place, score=None, image=1, **more):
    return box(image, 3, place, **({} if score is None else {"score": score}), **more)


def test_worked_by_hand_right_wrong_right():
    there = [cat(place) for place in PLACES[:3]]
    found = [cat(PLACES[0], 0.9), cat(NOWHERE, 0.8), cat(PLACES[1], 0.7)]
    scores = voc(there, found)
    # Precision 1, 1/2, 2/3 at recall 1/3, 1/3, 2/3. Recall 0.0 to 0.3 is reached with 1, 0.4 to
    # 0.6 with 2/3, and more never.
    assert scores.ap_11 == pytest.approx((4 * 1 + 3 * 2 / 3) / 11)
    assert scores.ap_all == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3)
    assert [c.boxes for c in scores.per_class] == [3, 0, 0]


def test_worked_by_hand_difficult_boxes_are_neither_right_nor_wrong():
    there = [cat(PLACES[0], difficult=1), cat(PLACES[1]), cat(PLACES[2])]
    found = [
        *(cat(PLACES[0], 0.95), cat(PLACES[0], 0.9), cat(PLACES[1], 0.8)),
        *(cat(PLACES[1], 0.7), cat(PLACES[2], 0.6)),
    ]
    scores = voc(there, found)
    # Of what counts: right, wrong (the same box again), right: precision 1, 1/2, 2/3.
    assert scores.ap_11 == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    assert scores.ap_all == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)
    assert scores.per_class[0].boxes == 2
    # Were it not difficult, finding it again would be wrong: R W R W R.
    plain = voc([{**b, "difficult": 0} for b in there], found)
    assert plain.ap_all == pytest.approx(1 / 3 * (1 + 2 / 3 + 3 / 5))


def test_worked_by_hand_a_detection_belongs_to_the_box_that_it_overlaps_most():
    there = [cat((0, 0, 100, 100)), cat((20, 0, 120, 100))]
    found = [cat((0, 0, 100, 100), 0.9), cat((5, 0, 105, 100), 0.8)]
    # The second overlaps the first box by 95/105, and the other, which is free, by 85/115.
    scores = voc(there, found)
    assert scores.ap_all == pytest.approx(1 / 2)
    assert scores.ap_11 == pytest.approx(6 / 11)
    assert score_results(found, truth_of(there)).stats[1] == pytest.approx(1)  # COCO's rule


def test_worked_by_hand_a_recall_of_three_tenths_is_reached():
    there = [cat(place) for place in PLACES]
    scores = voc(there, [cat(place, 0.9 - i / 10) for i, place in enumerate(PLACES[:3])])
    # In floating point 3 * 0.1 is more than 3 / 10, which would leave 3/11.
    assert scores.ap_11 == pytest.approx(4 / 11)
    assert scores.ap_all == pytest.approx(3 / 10)


def test_worked_by_hand_the_mean_is_over_what_there_is_to_find():
    there = [cat(PLACES[0]), box(2, 5, PLACES[1]), cat(PLACES[3], difficult=1)]
    found = [cat(PLACES[0], 0.5), cat(NOWHERE, 0.9, image=2), box(1, 8, PLACES[0], score=0.9)]
    scores = voc(there, found)
    assert [c.ap_all for c in scores.per_class] == [0.5, 0.0, None]
    assert (scores.ap_11, scores.ap_all) == (0.25, 0.25)
    assert "over 11 points 0.250, over all points 0.250" in str(scores)
    nothing = voc([cat(PLACES[0], difficult=1)], found)
    assert nothing.ap_11 is nothing.ap_all is None
    assert "nothing to find" in str(nothing)
    assert json.loads(json.dumps(nothing.to_json()))["per_class"][0]["ap_all"] is None


def test_an_overlap_of_exactly_the_iou_is_enough():
    # As inclusive corners, with the kit's + 1: (1, 1, 10, 10) and (1, 6, 10, 15) share 10 * 5
    # pixels of 10 * 15.
    there, found = [cat((0, 0, 10, 10))], [cat((0, 5, 10, 15), 0.5)]
    assert voc(there, found, iou=1 / 3).ap_all == 1
    assert voc(there, found, iou=0.334).ap_all == 0
    for iou in (0.0, 1.1):
        with pytest.raises(ValueError, match="expected more than 0 and at most 1"):
            voc(there, found, iou=iou)


def as_the_kit_does(truth, results, category, iou):
    """The oracle: VOCevaldet.m step by step, on inclusive corners; 11 points, all points."""

    def corners(one):
        x, y, w, h = one["bbox"]
        return x + 1, y + 1, x + w, y + h

    boxes = [
        a | {"at": corners(a), "difficult": a["difficult"] or a["iscrowd"], "found": False}
        for a in truth.annotations
        if a["category_id"] == category
    ]
    there = sum(not b["difficult"] for b in boxes)
    mine = [r for r in results if r["category_id"] == category]
    right, wrong = [], []
    for result in sorted(mine, key=lambda r: -r["score"]):
        bb, most, best = corners(result), -np.inf, None
        for candidate in boxes:
            if candidate["image_id"] != result["image_id"]:
                continue
            gt = candidate["at"]
            bi = [max(bb[0], gt[0]), max(bb[1], gt[1]), min(bb[2], gt[2]), min(bb[3], gt[3])]
            iw, ih = bi[2] - bi[0] + 1, bi[3] - bi[1] + 1
            if iw > 0 and ih > 0:
                ua = (bb[2] - bb[0] + 1) * (bb[3] - bb[1] + 1)
                ua += (gt[2] - gt[0] + 1) * (gt[3] - gt[1] + 1) - iw * ih
                if iw * ih / ua > most:
                    most, best = iw * ih / ua, candidate
        hit = most >= iou
        right.append(hit and not best["difficult"] and not best["found"])
        wrong.append(not hit or (not best["difficult"] and best["found"]))
        if right[-1]:
            best["found"] = True
    fp, tp = np.cumsum(wrong), np.cumsum(right)
    recall, precision = tp / there, tp / np.maximum(fp + tp, 1)
    eleven = 0.0
    for tenth in range(11):
        eleven += max(precision[recall >= tenth / 10 - 1e-12], default=0.0) / 11
    mrec, mpre = np.r_[0, recall, 1], np.r_[0, precision, 0]
    for i in range(len(mpre) - 2, -1, -1):
        mpre[i] = max(mpre[i], mpre[i + 1])
    steps = np.flatnonzero(mrec[1:] != mrec[:-1]) + 1
    return eleven, float(np.sum((mrec[steps] - mrec[steps - 1]) * mpre[steps]))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("iou", [0.5, 0.75])
def test_random_sets_give_what_the_kit_gives(seed, iou):
    truth, results = random_boxes(seed)
    scores = score_voc(box_arrays(results, truth), iou=iou)
    oracle = [as_the_kit_does(truth, results, c.id, iou) for c in scores.per_class]
    ours = [(c.ap_11, c.ap_all) for c in scores.per_class]
    np.testing.assert_allclose(ours, oracle, rtol=1e-12)
    assert all(0 < value < 1 for value in np.ravel(ours))
    np.testing.assert_allclose((scores.ap_11, scores.ap_all), np.mean(oracle, axis=0), rtol=1e-12)


def test_nothing_found_and_nothing_there():
    truth, _ = random_boxes(0)
    assert score_voc(box_arrays([], truth)).ap_all == 0
    assert score_voc(box_arrays([cat(PLACES[0], 0.5)], truth_of([]))).ap_all is None
