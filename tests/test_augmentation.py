"""What augmentation does to pictures and boxes, and how it is drawn."""

import colorsys

import numpy as np
import pytest
from conftest import DATA, golden
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from anchor_detr_jax.data.annotated import AnnotatedDataset, FilePictures
from anchor_detr_jax.data.annotations import read_coco_training
from anchor_detr_jax.data.augmentation import AugmentationConfig, largest_hw, max_targets
from anchor_detr_jax.data.categories import coco_columns
from anchor_detr_jax.data.colour import JITTER_DRAWS, ColourJitter, drawn_jitter
from anchor_detr_jax.data.draws import augmented_epoch
from anchor_detr_jax.data.mosaic import MOSAIC_DRAWS, Mosaic, Tile, drawn_tiles
from anchor_detr_jax.data.sizes import resized_hws
from anchor_detr_jax.data.steps import Crop, Flip, Resize, Sample, ZoomOut
from anchor_detr_jax.data.transforms import open_rgb, resized_hw

PHOTOGRAPHS = [str(name) for name in golden("transforms")["files"]]


def photograph(name):
    dataset = read_coco_training(DATA / "coco", "val2017", columns=coco_columns())
    image = open_rgb(DATA / "coco/val2017" / name, apply_exif_rotation=False)
    return Sample(image, *dataset.targets(dataset.pictures.files.index(name)))


def sample(hw, boxes, colour=(0, 0, 0)):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Sample(Image.new("RGB", hw[::-1], colour), boxes, np.arange(len(boxes)))


def noise(hw, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (*hw, 3)).astype(np.uint8)
    return Sample(Image.fromarray(pixels), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))


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


def assert_unrelated(*drawn):
    correlations = np.corrcoef(np.array(drawn, float))
    assert abs(correlations - np.eye(len(drawn))).max() < 0.05


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


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("option", ["mosaic", "colour_jitter", "zoom_out"])
def test_options_happen_as_often_as_they_should(option, probability):
    hws = np.full((2000, 2), 400)
    epoch = augmented_epoch(AugmentationConfig(**{option: probability}), hws, seed=0, epoch=0)
    happened = {
        "mosaic": lambda p: p.mosaic is not None,
        "colour_jitter": lambda p: any(isinstance(s, ColourJitter) for s in p.steps),
        "zoom_out": lambda p: any(isinstance(s, ZoomOut) for s in p.steps),
    }[option]
    share = np.mean([happened(epoch.picture(i)) for i in range(len(hws))])
    assert abs(share - probability) <= (0.04 if 0 < probability < 1 else 0)


def test_zoom_out_is_drawn_up_to_threefold_and_anywhere():
    hws = np.random.default_rng(0).integers(100, 700, (20_000, 2))
    config = AugmentationConfig(zoom_out=1.0, crop=0.0, short_sides=(400,), long_side=5000)
    ground = augmented_epoch(config, hws, seed=0, epoch=0).ground
    factors = ground[:, :2] / hws
    assert factors.min() >= 1
    assert factors.max() <= 3
    np.testing.assert_allclose(factors[:, 0], factors[:, 1], atol=0.01)
    assert abs(factors.mean() - 2) < 0.02
    room = ground[:, :2] - hws
    assert (ground[:, 2:] <= room).all()
    place_shares = (ground[:, 2:] + 0.5) / (room + 1)
    assert abs(place_shares.mean(axis=0) - 0.5).max() < 0.01
    assert_unrelated(factors[:, 0], *place_shares.T)


def test_zoom_out_lays_the_picture_on_its_median_colour():
    before = noise((31, 45))
    boxes = np.array([[3, 4, 20, 30]], np.float32)
    after = ZoomOut(60, 90, 7, 11)(Sample(before.image, boxes, np.array([5])))
    pixels, original = np.asarray(after.image), np.asarray(before.image)
    np.testing.assert_array_equal(pixels[7:38, 11:56], original)
    np.testing.assert_array_equal(after.boxes_xyxy_px, [[14, 11, 31, 37]])
    around = np.ones((60, 90), bool)
    around[7:38, 11:56] = False
    median = np.median(original.reshape(-1, 3), axis=0)
    np.testing.assert_array_equal(pixels[around], np.tile(median, (around.sum(), 1)))


def test_colours_change_as_said():
    before = noise((20, 30))
    pixels = np.asarray(before.image).astype(float)
    grey = pixels @ [0.299, 0.587, 0.114]

    def changed(*changes):
        after = ColourJitter(changes)(before)
        assert after.boxes_xyxy_px is before.boxes_xyxy_px
        return np.asarray(after.image).astype(float)

    close = {"atol": 1.01}  # of 255: rounding
    np.testing.assert_allclose(changed(("brightness", 1.5)), (pixels * 1.5).clip(0, 255), **close)
    contrast = grey.mean() + (pixels - grey.mean()) * 0.6
    np.testing.assert_allclose(changed(("contrast", 0.6)), contrast.clip(0, 255), **close)
    saturation = grey[..., None] + (pixels - grey[..., None]) * 1.4
    np.testing.assert_allclose(changed(("saturation", 1.4)), saturation.clip(0, 255), **close)
    one_by_one = changed(("contrast", 0.6), ("brightness", 1.5))
    np.testing.assert_allclose(one_by_one, (contrast * 1.5).clip(0, 255), atol=2.6)


@pytest.mark.parametrize("turn", [-18, 0, 18])
def test_hues_are_turned(turn):
    colours = [(200, 30, 60), (10, 220, 120), (40, 60, 250), (255, 255, 0)]
    for colour in colours:
        after = ColourJitter((("hue", float(turn)),))(sample((2, 2), [], colour))
        hue, saturation, value = colorsys.rgb_to_hsv(*(c / 255 for c in colour))
        expected = colorsys.hsv_to_rgb((hue + turn / 256) % 1, saturation, value)
        np.testing.assert_allclose(after.image.getpixel((0, 0)), np.array(expected) * 255, atol=6)


def test_jitter_is_drawn_by_the_rules():
    draws = np.random.default_rng(0).random((4000, JITTER_DRAWS))
    jitters = [drawn_jitter(row.tolist()).changes for row in draws]
    assert len({tuple(name for name, _ in changes) for changes in jitters}) == 24
    for name in ("brightness", "contrast", "saturation"):
        factors = np.array([dict(changes)[name] for changes in jitters])
        assert 0.5 <= factors.min() < 0.51
        assert 1.49 < factors.max() <= 1.5
        assert abs(factors.mean() - 1) < 0.02
    hues = [dict(changes)["hue"] for changes in jitters]
    np.testing.assert_array_equal(np.unique(hues), range(-18, 19))


def test_a_mosaic_is_four_pictures_side_by_side():
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (99, 99, 99)]
    hws = [(480, 640), (100, 50), (30, 30), (60, 20)]
    boxes = [[[64, 48, 320, 240]], [], [[0, 0, 30, 30], [15, 15, 16, 18]], [[0, 0, 5, 6]]]
    labels = [[3], [], [4, 5], [6]]

    def read(index):
        made = sample(hws[index], boxes[index], colours[index])
        return Sample(made.image, made.boxes_xyxy_px, np.array(labels[index], np.int64))

    tiles = tuple(Tile(i, None) for i in (0, 2, 1, 3))
    made = Mosaic(tiles, side=20, short_side=80, long_side=133)(read)
    pixels = np.asarray(made.image)
    assert pixels.shape == (40, 40, 3)
    for (top, left), index in zip([(0, 0), (0, 20), (20, 0), (20, 20)], (0, 2, 1, 3), strict=True):
        assert (pixels[top : top + 20, left : left + 20] == colours[index]).all()
    expected = [[2, 2, 10, 10], [20, 0, 40, 20], [30, 10, 20 + 32 / 3, 12], [20, 20, 25, 22]]
    np.testing.assert_allclose(made.boxes_xyxy_px, expected, rtol=1e-6)
    np.testing.assert_array_equal(made.labels, [3, 4, 5, 6])


def test_boxes_of_a_mosaic_stay_in_their_tiles_and_have_an_area():
    over, thin = [-3, 5, 43, 50], [1, 1, 1 + 1e-6, 9]
    tiles = tuple(Tile(0, None) for _ in range(4))
    made = Mosaic(tiles, side=40, short_side=40, long_side=40)(
        lambda _: sample((40, 40), [over, thin])
    )
    # In the tiles on the right, the thin box is thinner than float32 can say.
    np.testing.assert_array_equal(made.labels, [0, 1, 0, 0, 1, 0])
    whole = made.boxes_xyxy_px[made.labels == 0]
    expected = [[0, 5, 40, 40], [40, 5, 80, 40], [0, 45, 40, 80], [40, 45, 80, 80]]
    np.testing.assert_array_equal(whole, expected)


def test_a_tile_shows_boxes_of_which_more_than_half_is_left_or_all_of_the_picture():
    whole = sample((100, 200), [[0, 0, 100, 50], [80, 0, 120, 50], [90, 40, 200, 60]])
    assert Tile(0, None).shown(whole) is whole
    # Half of each side, in the upper left: all of box 0, and just half of box 1.
    shown = Tile(0, (0.0, 0.0, 0.0, 0.0)).shown(whole)
    assert shown.image.size == (100, 50)
    np.testing.assert_array_equal(shown.boxes_xyxy_px, [[0, 0, 100, 50]])
    np.testing.assert_array_equal(shown.labels, [0])
    # In the lower right: less than half of box 2, and nothing of the others.
    assert Tile(0, (0.0, 0.0, 0.999, 0.999)).shown(whole) is whole
    # A little more than half of its height: more than half of box 2.
    shown = Tile(0, (0.1, 0.0, 0.999, 0.999)).shown(whole)
    assert shown.image.size == (100, 55)
    np.testing.assert_array_equal(shown.boxes_xyxy_px, [[0, 0, 100, 15]])
    bare = sample((100, 200), [])
    assert Tile(0, (0.0, 0.0, 0.0, 0.0)).shown(bare) is bare


def test_tiles_are_drawn_by_the_rules():
    draws = np.random.default_rng(0).random((4000, MOSAIC_DRAWS))
    drawn = [drawn_tiles(i % 10, 10, row.tolist()) for i, row in enumerate(draws)]
    indices = np.array([[tile.index for tile in tiles] for tiles in drawn])
    np.testing.assert_array_equal(indices[:, 0], np.arange(4000) % 10)
    counts = np.stack([np.bincount(column, minlength=10) for column in indices[:, 1:].T])
    assert abs(counts / 4000 - 0.1).max() < 0.02
    assert any(len(set(row)) < 4 for row in indices)
    cropped = np.array([[tile.part is not None for tile in tiles] for tiles in drawn])
    assert abs(cropped.mean(axis=0) - 0.5).max() < 0.03
    parts = np.array([tile.part for tiles in drawn for tile in tiles if tile.part])
    assert abs(parts.mean(axis=0) - 0.5).max() < 0.02
    assert_unrelated(*parts.T)


@pytest.mark.parametrize("tile", [400, 96])
def test_a_mosaic_becomes_what_is_augmented(tile):
    config = AugmentationConfig(mosaic=1.0, mosaic_tile=tile, crop=0.0, short_sides=(64, 50))
    hws = np.array([[48, 64], [64, 43], [33, 50]])
    epoch = augmented_epoch(config, hws, seed=0, epoch=0)
    boxes = [[1, 1, 30, 30], [20, 10, 40, 30]]
    for i in range(3):
        picture = epoch.picture(i)
        made = picture.mosaic(lambda j: sample(tuple(hws[j]), boxes))
        assert made.image.size == (2 * tile, 2 * tile)
        assert 4 <= len(made.labels) <= 8
        again = picture.mosaic(lambda j: sample(tuple(hws[j]), boxes))
        np.testing.assert_array_equal(made.boxes_xyxy_px, again.boxes_xyxy_px)
        assert (picture.mosaic.short_side, picture.mosaic.long_side) == (64, 1333)
        assert picture.hw in {(64, 64), (50, 50)}
        assert picture.steps[-1] == Resize(picture.hw)
    many = augmented_epoch(config, np.repeat(hws, 50, axis=0), seed=0, epoch=0)
    shown = [[t.index for t in many.picture(i).mosaic.tiles] for i in range(150)]
    assert [first for first, *_ in shown] == list(range(150))
    others = {index for _, *rest in shown for index in rest}
    assert others <= set(range(150))
    assert {0, 149} <= others


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
