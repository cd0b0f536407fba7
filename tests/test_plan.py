"""Plans: every picture once an epoch, few shapes, little padding, and the same on every host."""

import itertools
import pickle
from collections import Counter

import numpy as np
import pytest

from anchor_detr_jax.data.augmentation import AugmentationConfig
from anchor_detr_jax.data.buckets import inference_buckets, smallest_bucket
from anchor_detr_jax.data.plan import Plan, make_plan
from anchor_detr_jax.data.transforms import resized_hw

# Sizes of 101 photographs of COCO, and how many have each: by height those that are 640 wide, by
# width those that are 640 high, and the rest.
WIDE = {400: 1, 406: 1, 407: 1, 414: 1, 418: 1, 420: 1, 422: 1, 423: 1, 424: 1, 425: 2, 426: 4,
        427: 13, 428: 4, 429: 1, 432: 1, 449: 1, 461: 1, 478: 1, 480: 21, 481: 1, 484: 1, 489: 1,
        511: 1, 522: 1, 536: 1, 559: 1, 364: 1}  # fmt: skip
HIGH = {426: 1, 427: 5, 480: 10, 512: 1, 516: 1, 565: 1, 621: 1, 628: 1, 634: 1}
REST = {(334, 500): 3, (346, 500): 1, (375, 500): 2, (406, 500): 1, (461, 614): 1, (500, 351): 1,
        (500, 375): 2, (600, 600): 1, (612, 612): 1}  # fmt: skip
PHOTOGRAPHS = np.array(
    [(h, 640) for h, n in WIDE.items() for _ in range(n)]
    + [(640, w) for w, n in HIGH.items() for _ in range(n)]
    + [hw for hw, n in REST.items() for _ in range(n)]
)
REFERENCE = AugmentationConfig()


def sizes(count, seed=0):
    return PHOTOGRAPHS[np.random.default_rng(seed).integers(0, len(PHOTOGRAPHS), count)]


def epoch_of(plan, epoch):
    steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
    return [plan.batch(step) for step in steps]


def order(plan, epoch):
    return [picture.index for batch in epoch_of(plan, epoch) for picture in batch.pictures]


@pytest.mark.parametrize(("batch_size", "most_waste"), [(8, 0.16), (64, 0.20)])
def test_ten_thousand_photographs(batch_size, most_waste):
    assert len(PHOTOGRAPHS) == 101
    plan = make_plan(sizes(10_000), batch_size=batch_size, augmentation=REFERENCE)
    assert plan.steps_per_epoch == -(-10_000 // batch_size)
    assert len(plan.buckets) == len(set(plan.buckets)) == 16
    assert all(h % 32 == w % 32 == 0 for h, w in plan.buckets)
    real = padded = 0
    for epoch in range(3):
        batches = epoch_of(plan, epoch)
        indices = [picture.index for batch in batches for picture in batch.pictures]
        assert sorted(indices) == list(range(10_000))
        assert sorted(len(b.pictures) for b in batches)[1] == batch_size  # one may be smaller
        for batch in batches:
            assert batch.epoch == epoch
            assert batch.bucket in plan.buckets
            height, width = np.max([picture.hw for picture in batch.pictures], axis=0)
            assert height <= batch.bucket[0]
            assert width <= batch.bucket[1]
            real += sum(picture.hw[0] * picture.hw[1] for picture in batch.pictures)
            padded += batch.bucket[0] * batch.bucket[1] * batch_size
    waste = plan.waste(0, 3 * plan.steps_per_epoch)
    assert waste == pytest.approx(1 - real / padded, rel=1e-12)
    assert waste < most_waste


def test_evaluation_wastes_little():
    hws = [resized_hw((int(h), int(w)), 800, 1333) for h, w in sizes(10_000)]
    buckets = inference_buckets(800, 1333)
    assert len(buckets) <= 6
    padded = sum(h * w for h, w in (smallest_bucket(hw, buckets) for hw in hws))
    assert 1 - sum(h * w for h, w in hws) / padded < 0.06


@pytest.mark.parametrize(("count", "buckets", "most"), [(300, 0, 8), (300, 3, 3), (300, 1, 1)])
def test_number_of_shapes(count, buckets, most):
    plan = make_plan(sizes(count), batch_size=8, augmentation=REFERENCE, buckets=buckets)
    assert len(plan.buckets) == most
    steps = 5 * plan.steps_per_epoch
    assert {plan.batch(step).bucket for step in range(steps)} <= set(plan.buckets)


def test_more_shapes_waste_less():
    wastes = []
    for buckets in (1, 4, 16):
        plan = make_plan(sizes(1000), batch_size=8, augmentation=REFERENCE, buckets=buckets)
        wastes.append(plan.waste(0, plan.steps_per_epoch))
    assert wastes[0] > wastes[1] + 0.1 > wastes[2] + 0.1


def test_a_plan_is_a_function_of_seed_and_step():
    plan = make_plan(sizes(100), batch_size=8, augmentation=REFERENCE, seed=5)
    again = make_plan(sizes(100), batch_size=8, augmentation=REFERENCE, seed=5)
    copied = pickle.loads(pickle.dumps(plan))  # noqa: S301
    later = [again.batch(step) for step in (40, 13, 12)]  # in any order
    assert later == [plan.batch(step) for step in (40, 13, 12)]
    assert [copied.batch(step) for step in range(30)] == [plan.batch(step) for step in range(30)]
    assert copied.buckets == plan.buckets
    other = make_plan(sizes(100), batch_size=8, augmentation=REFERENCE, seed=6)
    orders = [order(plan, 0), order(plan, 1), order(other, 0)]
    assert len({tuple(o) for o in orders}) == 3
    by_index = [
        {
            picture.index: picture.steps
            for batch in epoch_of(plan, epoch)
            for picture in batch.pictures
        }
        for epoch in (0, 1)
    ]
    assert sum(by_index[0][i] == by_index[1][i] for i in range(100)) < 10


def test_batches_of_one_shape_do_not_come_in_a_row():
    plan = make_plan(sizes(2000), batch_size=4, augmentation=REFERENCE)
    shapes = [batch.bucket for batch in epoch_of(plan, 0)]
    followed = sum(a == b for a, b in itertools.pairwise(shapes))
    by_chance = sum((n / len(shapes)) ** 2 for n in Counter(shapes).values())
    assert abs(followed / len(shapes) - by_chance) < 0.06


@pytest.mark.parametrize(
    "hws",
    [
        [(480, 640)],
        [(480, 640)] * 9,
        [(480, 640), (640, 480), (500, 500)],
        [(1, 5000), (5000, 1), (1, 1), (480, 640), (3000, 4000)] * 3,
    ],
)
@pytest.mark.parametrize("batch_size", [1, 4, 64])
@pytest.mark.parametrize(
    "augmentation", [REFERENCE, AugmentationConfig(mosaic=0.5, zoom_out=0.5, colour_jitter=0.5)]
)
def test_odd_data_sets(hws, batch_size, augmentation):
    plan = make_plan(np.array(hws), batch_size=batch_size, augmentation=augmentation)
    assert plan.steps_per_epoch == -(-len(hws) // batch_size)
    for epoch in range(3):
        assert sorted(order(plan, epoch)) == list(range(len(hws)))
    assert 0 <= plan.waste(0, 3 * plan.steps_per_epoch) < 1
    assert plan.waste(3, 3) == 0


@pytest.mark.parametrize(
    ("fixed_hw", "bucket"), [((512, 512), (512, 512)), ((300, 500), (320, 512))]
)
def test_a_fixed_size_is_one_shape(fixed_hw, bucket):
    config = AugmentationConfig(fixed_hw=fixed_hw)
    plan = make_plan(sizes(50), batch_size=8, augmentation=config)
    assert plan.buckets == [bucket]
    assert {p.hw for batch in epoch_of(plan, 0) for p in batch.pictures} == {fixed_hw}


def test_settings_that_cannot_be():
    def made(hws=PHOTOGRAPHS, **settings):
        return make_plan(hws, **{"batch_size": 2, "augmentation": REFERENCE, **settings})

    with pytest.raises(ValueError, match="there are no pictures to train on"):
        made(np.zeros((0, 2), np.int64))
    with pytest.raises(ValueError, match="batch_size is 0"):
        made(batch_size=0)
    with pytest.raises(ValueError, match="buckets is -1"):
        made(buckets=-1)
    with pytest.raises(ValueError, match="seed is -3"):
        made(seed=-3)
    small = Plan(PHOTOGRAPHS, [(64, 64)], batch_size=2, augmentation=REFERENCE, seed=0)
    with pytest.raises(ValueError, match=r"no bucket of \[\(64, 64\)\] holds a picture of"):
        small.batch(0)
