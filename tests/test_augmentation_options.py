"""What the options of augmentation do: zoom-out, colours, mosaics."""

import colorsys

import numpy as np
import pytest
from made_samples import assert_unrelated, noise, sample

from anchor_detr_jax.data.augmentation import AugmentationConfig
from anchor_detr_jax.data.colour import JITTER_DRAWS, ColourJitter, drawn_jitter
from anchor_detr_jax.data.draws import augmented_epoch
from anchor_detr_jax.data.mosaic import MOSAIC_DRAWS, Mosaic, Tile, drawn_tiles
from anchor_detr_jax.data.steps import Resize, Sample, ZoomOut


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("option", ["mosaic", "colour_jitter", "zoom_out"])
def test_options_happen_as_often_as_they_should(option, probability):
    hws = np.full((1000, 2), 400)
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
