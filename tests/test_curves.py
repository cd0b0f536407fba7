"""Curves of a run: what is drawn of its rows."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_run_log import largest_file

from anchor_detr_jax.training.curves import draw_curves, save_curves, smoothed


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def a_run(folder, count=200, scale=1.0):
    rows = [
        {
            "step": 10 * i,
            "loss/total": scale * (3 + math.sin(i)),
            "loss/classes": scale,
            "loss/l1": 0.1 * scale,
            "loss/giou": 0.5 * scale,
            "lr/rest": 1e-4,
            "lr/backbone": 1e-5,
        }
        for i in range(count)
    ]
    write_rows(folder / "train.jsonl", rows)
    scores = [
        {"step": 500 * i, "AP": 0.1 * i * scale, "AP50": 0.2 * i, "AP75": 0.0} for i in range(4)
    ]
    write_rows(folder / "eval.jsonl", scores)
    return folder


def texts(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_curves_of_a_run(tmp_path):
    figure = draw_curves([a_run(tmp_path / "first")])
    loss, parts, rates, precision = figure.axes
    steps, values = 10 * np.arange(200), 3 + np.sin(np.arange(200))
    raw, trend = loss.lines
    np.testing.assert_array_equal(raw.get_xydata(), np.stack([steps, values], 1))
    np.testing.assert_array_equal(trend.get_xdata(), steps)
    expected = [values[max(0, i - 4) : i + 5].mean() for i in range(200)]
    np.testing.assert_allclose(trend.get_ydata(), expected)
    assert loss.get_yscale() == rates.get_yscale() == "log"
    assert texts(parts) == ["classes", "GIoU", "L1"]
    assert sorted({float(y) for line in parts.lines for y in line.get_ydata().round(9)}) == [
        0.1, 0.5, 1
    ]  # fmt: skip
    assert texts(rates) == ["rest", "backbone"]
    assert texts(precision) == ["AP", "AP50", "AP75"]
    np.testing.assert_allclose(precision.lines[0].get_ydata(), [0, 0.1, 0.2, 0.3])
    assert figure.get_suptitle() == "first   best AP 0.300 at step 1,500"


def test_several_runs_keep_their_colours(tmp_path):
    runs = [a_run(tmp_path / "a"), a_run(tmp_path / "b", 90, 2.0), a_run(tmp_path / "x/b", 5)]
    figure = draw_curves(runs)
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert [label.split()[0] for label in labels] == [str(run) for run in runs]
    colours = [line.get_color() for line in legend.get_lines()]
    assert len(set(colours)) == 3
    loss, parts, _, precision = figure.axes
    assert [line.get_color() for line in loss.lines] == [c for c in colours for _ in range(2)]
    for axes in (parts, precision):
        assert [line.get_color() for line in axes.lines] == [c for c in colours for _ in range(3)]
        assert [line.get_linestyle() for line in axes.lines] == ["-", "--", ":"] * 3
    assert [line.get_ydata().max().round(9) for line in precision.lines[:6:3]] == [0.3, 0.6]


def test_curves_of_what_is_not_there_yet(tmp_path):
    (tmp_path / "_new$1$").mkdir()
    rows = [{"step": 1, "loss/total": math.nan}, {"step": 2, "loss/total": 1e30}]
    write_rows(tmp_path / "broken/train.jsonl", rows)
    write_rows(tmp_path / "broken/eval.jsonl", [{"step": 3, "AP": -1.0, "AP75": 0.5}])
    new, broken = (draw_curves([tmp_path / name]) for name in ("_new$1$", "broken"))
    shown = [axes.texts[0].get_text() for axes in new.axes]
    assert shown == ["no train.jsonl yet"] * 3 + ["no eval.jsonl yet"]
    assert broken.axes[1].texts[0].get_text().startswith("nothing to draw in train.jsonl")
    np.testing.assert_array_equal(broken.axes[0].lines[0].get_xydata(), [[2, 1e30]])
    assert texts(broken.axes[3]) == ["AP75"]
    save_curves([tmp_path / "_new$1$", tmp_path / "broken"], tmp_path / "curves.png")
    with pytest.raises(ValueError, match="absent is no folder"):
        draw_curves([tmp_path / "absent"])
    with pytest.raises(ValueError, match="at least one folder"):
        draw_curves([])


def test_a_long_curve_keeps_its_extremes(tmp_path):
    values = np.ones(20_000)
    values[[777, 15_001]] = 9, 0.1
    rows = [{"step": i, "loss/total": x} for i, x in enumerate(values.tolist())]
    write_rows(tmp_path / "train.jsonl", rows)
    raw, trend = draw_curves([tmp_path]).axes[0].lines
    assert len(raw.get_xdata()) <= 3000
    assert {(777, 9), (15_001, 0.1)} <= set(map(tuple, raw.get_xydata().tolist()))
    assert (np.diff(raw.get_xdata()) >= 0).all()
    assert 0.9 < trend.get_ydata().min() < trend.get_ydata().max() < 1.1


@given(st.lists(st.floats(-1e6, 1e6), max_size=40), st.integers(0, 30))
def test_smoothed_is_the_mean_of_the_neighbours(values, reach):
    found = smoothed(np.array(values, np.float64), 2 * reach + 1)
    expected = [np.mean(values[max(0, i - reach) : i + reach + 1]) for i in range(len(values))]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_picture_of_curves(tmp_path):
    save_curves([a_run(tmp_path / "run")], tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert (picture.format, picture.size) == ("PNG", (1575, 1050))
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 100
    before = (tmp_path / "curves.png").read_bytes()
    with largest_file(9000), pytest.raises(OSError, match=r"curves\.png"):
        save_curves([tmp_path / "run"], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "run"]
