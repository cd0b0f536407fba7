"""What augmentation does to pictures and boxes, and how it is drawn."""

import functools

import numpy as np
import pytest
from conftest import DATA, golden
from hypothesis import given, settings
from hypothesis import strategies as st
from made_samples import assert_unrelated, sample

from anchor_detr_jax.data.annotated import AnnotatedDataset, FilePictures
from anchor_detr_jax.data.augmentation import AugmentationConfig, largest_hw, max_targets
from anchor_detr_jax.data.categories import coco_columns
from anchor_detr_jax.data.colour import ColourJitter
from anchor_detr_jax.data.draws import augmented_epoch
from anchor_detr_jax.data.formats.sources import read_training_set
from anchor_detr_jax.data.sizes import resized_hws
from anchor_detr_jax.data.steps import Crop, Flip, Resize, Sample
from anchor_detr_jax.data.transforms import open_rgb, resized_hw

PHOTOGRAPHS = [str(name) for name in golden("transforms")["files"]]


@functools.cache
def photographs():
    return read_training_set(DATA / "coco", "val2017", columns=coco_columns())


def photograph(name):
    dataset = photographs()
    image = open_rgb(DATA / "coco/val2017" / name, apply_exif_rotation=False)
    return Sample(image, *dataset.targets(dataset.pictures.files.index(name)))


def with_most_targets(most):
    return AnnotatedDataset(
        pictures=FilePictures(DATA, ("a", "b")),
        hw=np.ones((2, 2), np.int64),
        boxes_xyxy_px=np.zeros((most, 4), np.float32),
        labels=np.zeros(most, np.int32),
        starts=np.array([0, 0, most]),
        categories=coco_columns(),
    )


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize("kind", ["flip", "crop", "resize480", "resize600"])
def test_steps_are_the_references(name, kind):
    file, before = golden("transforms"), photograph(name)
    hw = (before.image.height, before.image.width)
    if kind == "flip":
        step = Flip()
    elif kind == "crop":
        step = Crop(*file[f"{name}/crop/region"].tolist())
    else:
        step = Resize(resized_hw(hw, int(kind[-3:]), 10_000))
    after = step(before)
    pixels = np.asarray(after.image).transpose(2, 0, 1)
    np.testing.assert_array_equal(pixels.shape, file[f"{name}/{kind}/shape"])
    np.testing.assert_array_equal(pixels[:, ::37, ::41], file[f"{name}/{kind}/pixels"])
    np.testing.assert_allclose(pixels.mean((1, 2)), file[f"{name}/{kind}/mean"], rtol=1e-12)
    np.testing.assert_array_equal(after.boxes_xyxy_px, file[f"{name}/{kind}/boxes"])
    np.testing.assert_array_equal(after.labels, file[f"{name}/{kind}/labels"])


def test_a_crop_drops_what_it_does_not_show_or_shows_too_little_of():
    boxes = [[0, 0, 10, 10], [18, 18, 22, 22], [15, 20, 21, 24], [20, 20, 30, 30], [40, 0, 41, 50]]
    step = Crop(top=20, left=20, height=10, width=20)
    np.testing.assert_array_equal(step(sample((50, 50), boxes)).labels, [1, 2, 3])
    # Of 1 a quarter is left, of 2 a sixth; of 4 exactly half, once it is made narrower.
    boxes[4] = [39, 20, 41, 30]
    half = Crop(20, 20, 10, 20, least_share=0.5)
    np.testing.assert_array_equal(half(sample((50, 50), boxes)).labels, [3])
    fifth = Crop(20, 20, 10, 20, least_share=0.2)
    np.testing.assert_array_equal(fifth(sample((50, 50), boxes)).labels, [1, 3, 4])


@given(
    hws=st.lists(st.tuples(st.integers(1, 9000), st.integers(1, 9000)), min_size=1, max_size=30),
    short_side=st.integers(1, 1400),
    long_side=st.one_of(st.integers(1, 3000), st.just(1 << 30)),
)
def test_sizes_of_many_are_the_sizes_of_each(hws, short_side, long_side):
    many = resized_hws(np.array(hws, np.int32), np.full(len(hws), short_side), long_side)
    assert [tuple(hw) for hw in many] == [resized_hw(hw, short_side, long_side) for hw in hws]


def test_draws_follow_the_rules():
    n, config = 20_000, AugmentationConfig()
    hws = np.random.default_rng(0).integers(300, 641, (n, 2))
    epoch = augmented_epoch(config, hws, seed=3, epoch=1)
    assert abs(epoch.flipped.mean() - 0.5) < 0.015
    assert abs(epoch.cropped.mean() - 0.5) < 0.015
    assert sorted(epoch.order) == list(range(n))
    first, part = epoch.first_hw, epoch.part
    shorts, counts = np.unique(first.min(axis=1), return_counts=True)
    np.testing.assert_array_equal(shorts, [400, 500, 600])
    assert abs(counts / n - 1 / 3).max() < 0.015
    sides, most = part[:, 2:], np.minimum(first, 600)
    assert (sides >= 384).all()
    assert (sides <= most).all()
    for edge in (384, most):  # both ends are drawn
        assert (sides == edge).any(axis=0).all()
    room = first - sides
    assert (part[:, :2] >= 0).all()
    assert (part[:, :2] <= room).all()
    side_shares = (sides - 384 + 0.5) / (most - 384 + 1)
    place_shares = (part[:, :2] + 0.5) / (room + 1)
    assert abs(np.concatenate([side_shares, place_shares], axis=1).mean(axis=0) - 0.5).max() < 0.01
    before = np.where(epoch.cropped[:, None], sides, hws)
    for hw, new in zip(before[:50].tolist(), epoch.hw.tolist(), strict=False):
        assert tuple(new) in {resized_hw(tuple(hw), s, 1333) for s in config.short_sides}
    free = before.max(axis=1) * 800 <= 1333 * before.min(axis=1)
    shorts, counts = np.unique(epoch.hw[free].min(axis=1), return_counts=True)
    np.testing.assert_array_equal(shorts, range(480, 801, 32))
    assert abs(counts / free.sum() - 1 / 11).max() < 0.01
    assert_unrelated(
        epoch.flipped[free],
        epoch.cropped[free],
        first.min(axis=1)[free],
        *side_shares[free].T,
        *place_shares[free].T,
        epoch.hw[free].min(axis=1),
    )


def test_a_pictures_steps_are_those_drawn_and_end_at_its_size():
    hws = np.array([[480, 640], [333, 500], [640, 427]] * 30)
    epoch = augmented_epoch(AugmentationConfig(), hws, seed=0, epoch=0)
    kinds = set()
    for i, hw in enumerate(hws):
        picture = epoch.picture(i)
        after = sample(tuple(hw), [[0, 0, hw[1], hw[0]]])
        for step in picture.steps:
            after = step(after)
        assert (after.image.height, after.image.width) == picture.hw == tuple(epoch.hw[i])
        np.testing.assert_allclose(after.boxes_xyxy_px, [[0, 0, *picture.hw[::-1]]], rtol=1e-5)
        kinds.add(tuple(type(step) for step in picture.steps))
    assert kinds == {
        (Resize,),
        (Flip, Resize),
        (Resize, Crop, Resize),
        (Flip, Resize, Crop, Resize),
    }


def test_a_draw_depends_on_seed_epoch_and_number_alone():
    hws = np.array([[480, 640]] * 50)
    config = AugmentationConfig()

    def drawn(config, hws, seed=1, epoch=2):
        epoch_ = augmented_epoch(config, hws, seed=seed, epoch=epoch)
        return [epoch_.picture(i) for i in range(20)]

    first = drawn(config, hws)
    assert drawn(config, hws) == first
    assert drawn(config, hws[:20]) == first
    assert drawn(config, hws, seed=2) != first
    assert drawn(config, hws, epoch=3) != first
    coloured = drawn(AugmentationConfig(colour_jitter=1.0), hws)
    assert [(p.hw, *(s for s in p.steps if not isinstance(s, ColourJitter))) for p in coloured] == [
        (p.hw, *p.steps) for p in first
    ]
    with pytest.raises(ValueError, match="seed is -1"):
        drawn(config, hws, seed=-1)


def test_a_picture_that_would_fill_the_memory_is_not_cropped():
    hws = np.array([[10, 500], [10, 501], [600, 12]])
    cropped = [augmented_epoch(AugmentationConfig(crop=1.0), hws, seed=0, epoch=0).cropped]
    np.testing.assert_array_equal(cropped, [[True, False, True]])


SIDES = st.integers(1, 1500)
SETTINGS = st.fixed_dictionaries(
    {
        "short_sides": st.lists(SIDES, min_size=1, max_size=3).map(tuple),
        "long_side": SIDES,
        "crop": st.sampled_from([0.0, 0.5, 1.0]),
        "crop_short_sides": st.lists(SIDES, min_size=1, max_size=2).map(tuple),
        "crop_sides": st.tuples(SIDES, SIDES).map(lambda sides: tuple(sorted(sides))),
        "mosaic": st.sampled_from([0.0, 0.5, 1.0]),
        "mosaic_tile": SIDES,
        "zoom_out": st.sampled_from([0.0, 0.5, 1.0]),
        "fixed_hw": st.one_of(st.just(()), st.tuples(SIDES, SIDES)),
    }
)


@settings(max_examples=100, deadline=None)
@given(values=SETTINGS, seed=st.integers(0, 1000), most=st.integers(1, 3000))
def test_no_picture_passes_the_largest_size(values, seed, most):
    config = AugmentationConfig(**values)
    hws = np.random.default_rng(seed).integers(1, most + 1, (300, 2))
    height, width = largest_hw(config, hws)
    hw = augmented_epoch(config, hws, seed=seed, epoch=0).hw
    assert hw.min() >= 1
    assert hw[:, 0].max() <= height
    assert hw[:, 1].max() <= width


def test_the_largest_size_is_tight_for_photographs():
    photographs = np.array([[480, 640], [640, 480], [427, 640], [640, 640]])
    assert largest_hw(AugmentationConfig(), photographs) == (1250, 1250)  # of a crop
    assert largest_hw(AugmentationConfig(crop=0.0), photographs) == (1066, 1199)
    assert largest_hw(AugmentationConfig(crop=0.0), photographs[:1]) == (800, 1066)
    assert largest_hw(AugmentationConfig(crop=0.0, zoom_out=1.0), photographs[:1]) == (800, 1068)
    assert largest_hw(AugmentationConfig(crop=0.0, long_side=700), photographs[3:]) == (700, 700)


@pytest.mark.parametrize("fixed_hw", [(1024, 1024), (320, 544)])
def test_fixed_size(fixed_hw):
    config = AugmentationConfig(fixed_hw=fixed_hw)
    hws = np.array([[480, 640], [640, 427], [333, 500]] * 10)
    assert largest_hw(config, hws) == fixed_hw
    fixed = augmented_epoch(config, hws, seed=0, epoch=0)
    free = augmented_epoch(AugmentationConfig(), hws, seed=0, epoch=0)
    for i in range(len(hws)):
        assert fixed.picture(i).hw == fixed_hw
        assert fixed.picture(i).steps == (*free.picture(i).steps, Resize(fixed_hw))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_boxes_stay_in_the_picture_whatever_is_done(seed):
    rng = np.random.default_rng(seed)
    config = AugmentationConfig(
        mosaic=0.5,
        mosaic_tile=40,
        colour_jitter=0.3,
        zoom_out=0.5,
        short_sides=(48, 64),
        long_side=107,
        crop_short_sides=(40, 50),
        crop_sides=(30, 50),
    )
    hws = rng.integers(5, 90, (4, 2))
    corners = rng.uniform(0, 0.9, (4, 6, 2))
    opposite = corners + rng.uniform(0.01, 0.1, (4, 6, 2))
    boxes = np.concatenate([corners, opposite], axis=-1) * hws[:, None, [1, 0, 1, 0]]
    epoch = augmented_epoch(config, hws, seed=seed, epoch=0)

    def read(index):
        return sample(tuple(hws[index]), boxes[index])

    for i in range(4):
        picture = epoch.picture(i)
        after = picture.mosaic(read) if picture.mosaic else read(i)
        for step in picture.steps:
            after = step(after)
        height, width = picture.hw
        assert after.image.size == (width, height)
        x1, y1, x2, y2 = after.boxes_xyxy_px.T
        assert ((x1 < x2) & (y1 < y2)).all()
        assert after.boxes_xyxy_px.min(initial=0) >= -1e-3
        assert x2.max(initial=0) <= width + 1e-3
        assert y2.max(initial=0) <= height + 1e-3
        assert len(after.labels) == len(x1) <= max_targets(with_most_targets(6), config)


@pytest.mark.parametrize(
    ("most", "alone", "mosaic"), [(0, 8, 8), (1, 8, 8), (8, 8, 32), (9, 16, 40), (93, 96, 376)]
)
def test_number_of_targets_to_pad_to(most, alone, mosaic):
    assert max_targets(with_most_targets(most), AugmentationConfig()) == alone
    assert max_targets(with_most_targets(most), AugmentationConfig(mosaic=0.1)) == mosaic


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"flip": 1.5}, "flip is 1.5, and must be in"),
        ({"mosaic": -0.1}, "mosaic is -0.1"),
        ({"colour_jitter": float("nan")}, "colour_jitter is nan"),
        ({"short_sides": ()}, r"short_sides is \(\), and must be sides of at least 1"),
        ({"crop_short_sides": (400, 0)}, "crop_short_sides is"),
        ({"crop_sides": (600, 384)}, r"crop_sides is \(600, 384\), and must be \(least, most\)"),
        ({"long_side": 0}, "long_side is 0"),
        ({"mosaic_tile": 0}, "mosaic_tile is 0"),
        ({"fixed_hw": (5,)}, r"fixed_hw is \(5,\), and must be \(height, width\)"),
        ({"fixed_hw": (5, 0)}, "fixed_hw is"),
    ],
)
def test_settings_that_cannot_be(settings, says):
    with pytest.raises(ValueError, match=says):
        AugmentationConfig(**settings)
