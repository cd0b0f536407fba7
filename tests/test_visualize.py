"""What is drawn on pictures."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

import anchor_detr_jax as ad
from anchor_detr_jax.visualize import (
    category_colour,
    contact_sheet,
    draw_beside,
    draw_detections,
    legible_scale,
)


def test_colours_are_far_apart_and_carry_black_letters():
    colours = np.array([category_colour(i) for i in range(91)])
    differences = np.abs(colours[:, None] - colours[None]).sum(-1)
    assert differences[~np.eye(91, dtype=bool)].min() >= 30
    first = differences[:12, :12][~np.eye(12, dtype=bool)]
    assert first.min() >= 80
    share = colours / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    contrast = (linear @ [0.2126, 0.7152, 0.0722] + 0.05) / 0.05
    assert contrast.min() >= 4.5  # what the web's accessibility guidelines ask of text


def detections(*boxes, names=None):
    count = len(boxes)
    return ad.Detections(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.linspace(0.9, 0.5, count, dtype=np.float32),
        labels=np.arange(1, count + 1),
        names=names or [f"kind {i}" for i in range(count)],
    )


def count_of(picture, label):
    return int((np.asarray(picture) == category_colour(label)).all(-1).sum())


@pytest.mark.parametrize("ground", [0, 255])
def test_lines_frame_and_do_not_cover(ground):
    before = np.full((300, 400, 3), ground, np.uint8)
    drawn = np.asarray(draw_detections(before, detections((50.0, 60.0, 350.0, 250.0))))
    assert (drawn[60:250, 50:350] == ground).all()
    around = drawn[250:255, 100]
    assert (around == category_colour(1)).all(-1).any()
    # Something stands out even where the picture has the line's own colour.
    same = np.broadcast_to(np.array(category_colour(1), np.uint8), (300, 400, 3))
    drawn = np.asarray(draw_detections(same.copy(), detections((50.0, 60.0, 350.0, 250.0))))
    assert (drawn[250:255, 100] == 0).all(-1).any()


def test_a_box_of_the_whole_picture_is_seen():
    before = np.zeros((300, 400, 3), np.uint8)
    drawn = np.asarray(draw_detections(before, detections((-9.0, -9.0, 420.0, 310.0))))
    for edge in (drawn[:4, 300], drawn[-4:, 300], drawn[150, :4], drawn[150, -4:]):
        assert (edge == category_colour(1)).all(-1).any()


def test_labels_of_neighbours_do_not_hide_each_other():
    before = np.zeros((300, 400, 3), np.uint8)
    boxes = [(100.0, 100.0, 160.0, 160.0), (104.0, 103.0, 164.0, 163.0), (97.0, 99.0, 159.0, 158.0)]
    together = draw_detections(before, detections(*boxes))
    for label, box in enumerate(boxes, start=1):
        alone = draw_detections(
            before,
            ad.Detections(
                boxes=np.array([box], np.float32),
                scores=detections(*boxes).scores[label - 1 : label],
                labels=np.array([label]),
                names=[f"kind {label - 1}"],
            ),
        )
        lines = draw_detections(before, detections(box, names=["w" * 99]))  # too long a label
        label_alone = count_of(alone, label) - count_of(lines, 1)
        assert label_alone > 300
        assert count_of(together, label) > label_alone


def test_of_many_labels_at_one_place_the_best_are_drawn():
    before = np.zeros((300, 400, 3), np.uint8)
    boxes = [(200.0 + i / 9, 150.0, 208.0 + i / 9, 158.0) for i in range(60)]
    drawn = draw_detections(before, detections(*boxes))
    assert count_of(drawn, 1) > 300
    assert count_of(drawn, 60) < 100


@pytest.mark.parametrize(
    ("size", "scale"), [((40, 40), 10), ((1, 1), 400), ((640, 480), 1), ((10_000, 1), 1)]
)
def test_tiny_pictures_are_enlarged(size, scale):
    assert legible_scale(size) == scale
    before = Image.new("RGB", size)
    width, height = size
    found = detections((0.25 * width, 0.5 * height, 0.75 * width, 0.75 * height))
    drawn = draw_detections(before, found, scale=scale)
    assert drawn.size == (scale * width, scale * height)
    if size == (40, 40):
        assert count_of(drawn, 1) > 800
        assert (np.asarray(drawn)[200:300, 100:300] == 0).all()
        small = draw_detections(before, found)
        assert small.size == size
        assert 0 < count_of(small, 1) < 80  # a frame, without a label that would cover all


def test_drawing_on_a_turned_or_grey_picture_of_pillow():
    picture = Image.new("RGB", (30, 44))
    exif = picture.getexif()
    exif[0x0112] = 6
    file = io.BytesIO()
    picture.save(file, "PNG", exif=exif)
    assert draw_detections(Image.open(file), detections((5.0, 5.0, 20.0, 20.0))).size == (44, 30)
    assert (
        draw_detections(Image.new("L", (44, 30)), detections((5.0, 5.0, 20.0, 20.0))).mode == "RGB"
    )


def test_labels_without_scores_say_less():
    before = np.zeros((300, 400, 3), np.uint8)
    found = detections((50.0, 60.0, 350.0, 250.0))
    other = dataclasses.replace(found, scores=np.float32([0.1]))
    named, scored = (draw_detections(before, found, with_scores=x) for x in (False, True))
    assert named == draw_detections(before, other, with_scores=False)
    assert scored != draw_detections(before, other)
    assert 300 < count_of(named, 1) < count_of(scored, 1)


@pytest.mark.parametrize(("size", "scale"), [((400, 300), 1), ((50, 40), 9)])
def test_truth_stands_left_and_what_was_found_right(size, scale):
    width, height = size
    picture = Image.effect_noise(size, 60)
    picture.getexif()[0x0112] = 6  # which is not looked at, as in evaluation
    truth = detections((0.1 * width, 0.2 * height, 0.5 * width, 0.6 * height))
    found = detections((0.2 * width, 0.3 * height, 0.6 * width, 0.9 * height))
    both = draw_beside(picture, truth, found)
    width, height = scale * width, scale * height
    gap, band = both.width - 2 * width, both.height - height
    assert 2 <= gap <= 0.02 * width
    assert 10 <= band <= 0.2 * height
    rgb = np.asarray(picture.convert("RGB"))
    left = draw_detections(rgb, truth, scale=scale, with_scores=False)
    right = draw_detections(rgb, found, scale=scale)
    assert both.crop((0, band, width, band + height)) == left
    assert both.crop((width + gap, band, 2 * width + gap, band + height)) == right
    captions = [
        np.asarray(both.crop((x, 0, x + width, band)).convert("L")) for x in (0, width + gap)
    ]
    lengths = [np.flatnonzero((caption > 150).any(0)).max() for caption in captions]
    assert 20 < lengths[1] < lengths[0] < width  # "found" and "ground truth"
    for caption in captions:
        assert (caption[[0, -1]] < 60).all()  # and not cut off


def test_pictures_on_a_contact_sheet():
    sizes = [(10, 20), (20, 10), (30, 30), (8, 8), (5, 40)]
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0), (0, 250, 250)]
    pictures = [Image.new("RGB", *each) for each in zip(sizes, colours, strict=True)]
    sheet = contact_sheet(pictures, columns=2, width=211)
    assert sheet.width == 211
    places = [sheet_box(sheet, colour) for colour in colours]
    widths = {right - left for left, _, right, _ in places}
    assert len(widths) == 1
    (cell,) = widths
    assert 95 < cell < 105
    for (_, top, _, bottom), (width, height) in zip(places, sizes, strict=True):
        assert bottom - top == round(cell * height / width)
    lefts, tops = [box[0] for box in places], [box[1] for box in places]
    assert lefts[0] == lefts[2] == lefts[4] < lefts[1] == lefts[3]
    assert tops[0] == tops[1] < tops[2] == tops[3] < tops[4]
    gap = tops[0]
    assert tops[2] == places[0][3] + gap  # the first row's highest picture
    assert lefts[1] == places[0][2] + gap
    assert sheet.height == places[4][3] + gap
    grounds = {sheet.getpixel(at) for at in [(0, 0), (210, 0), (150, sheet.height - 9)]}
    assert len(grounds) == 1
    (ground,) = grounds
    assert len(set(ground)) == 1  # neutral


def sheet_box(sheet, colour):
    """Where a colour is: left, top, right, bottom."""
    rows, columns = np.nonzero((np.asarray(sheet) == colour).all(-1))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.mark.parametrize(
    ("count", "columns", "width", "says"),
    [(0, 2, 100, "0 pictures in 2"), (2, 0, 100, "in 0 columns"), (2, 40, 100, "width is 100")],
)
def test_contact_sheets_that_cannot_be(count, columns, width, says):
    with pytest.raises(ValueError, match=says):
        contact_sheet([Image.new("RGB", (9, 9))] * count, columns=columns, width=width)
