"""What is drawn on pictures."""

import io

import numpy as np
import pytest
from PIL import Image

import anchor_detr_jax as ad
from anchor_detr_jax.visualize import category_colour, draw_detections, legible_scale


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
