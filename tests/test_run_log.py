"""What a run writes: rows, pictures, TensorBoard's files, curves."""

import csv
import json
import math
import resource
import struct
import subprocess
import sys
import types
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import RecordWriter

from anchor_detr_jax.training.curves import draw_curves, save_curves, smoothed
from anchor_detr_jax.training.run_log import RunLog, read_rows


def csv_rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_steps(folder, steps, *, start_step=0, **options):
    with RunLog(folder, start_step=start_step, tensorboard=False, **options) as log:
        for step in steps:
            log.write("train", step, {"loss/total": 1 / (step + 3), "lr/rest": 1e-4})
            if step % 5 == 0:
                log.write("eval", step, {"AP": step / 70})


@settings(max_examples=20)
@given(st.lists(st.floats() | st.floats(width=32).map(np.float32), min_size=30))
def test_every_number_comes_back_to_the_bit(tmp_path_factory, numbers):
    folder = tmp_path_factory.mktemp("run")
    values = {f"n{i}": number for i, number in enumerate(numbers)} | {"whole": 1}
    with RunLog(folder, tensorboard=False) as log:
        log.write("train", 7, values)
    (row,) = read_rows(folder / "train.jsonl")
    (cells,) = csv_rows(folder / "train.csv")
    assert list(row) == list(cells) == ["step", *values]
    assert row["step"] == 7
    assert cells["step"] == "7"
    expected = np.array([*numbers, 1], np.float64)
    for found in (list(row.values()), [float(cell) for cell in cells.values()]):
        np.testing.assert_array_equal(found[1:], expected)
        finite = np.isfinite(expected)
        assert (np.signbit(found[1:]) == np.signbit(expected))[finite].all()  # -0.0


def test_the_lines_are_json_of_the_standard(tmp_path):
    with RunLog(tmp_path, tensorboard=False) as log:
        log.write("eval", 0, {"a": math.nan, "b": math.inf, "c": -math.inf, "größe": 0.1})

    def refuse(constant):
        raise AssertionError(constant)

    content = (tmp_path / "eval.jsonl").read_text("utf-8")
    assert json.loads(content, parse_constant=refuse) == {
        "step": 0, "a": "nan", "b": "inf", "c": "-inf", "größe": 0.1
    }  # fmt: skip
    assert list(json.loads(content)) == ["step", "a", "b", "c", "größe"]


def test_a_resumed_run_writes_what_an_uninterrupted_one_does(tmp_path):
    write_steps(tmp_path / "whole", range(31))
    write_steps(tmp_path / "parts", range(18))
    with (tmp_path / "parts/train.jsonl").open("a") as file:
        file.write('{"step": 18, "loss/to')
    with (tmp_path / "parts/train.csv").open("a") as file:
        file.write("18,0.04")
    write_steps(tmp_path / "parts", range(11, 31), start_step=10)
    names = ["eval.csv", "eval.jsonl", "train.csv", "train.jsonl"]
    for name in names:
        parts = (tmp_path / "parts" / name).read_bytes()
        assert parts == (tmp_path / "whole" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == names
    assert [row["step"] for row in read_rows(tmp_path / "parts/train.jsonl")] == [*range(31)]
    assert len(csv_rows(tmp_path / "parts/train.csv")) == 31


def test_a_log_is_never_seen_half_rewritten(tmp_path):
    write_steps(tmp_path, range(9))
    for name in ("train.jsonl", "train.csv"):
        with (tmp_path / name).open() as before:
            RunLog(tmp_path, start_step=5, tensorboard=False)
            # The file that was open is as it was: another one has taken its name.
            assert len(before.readlines()) > len((tmp_path / name).read_text().splitlines()) > 5
        write_steps(tmp_path, range(6, 9), start_step=5)


def test_a_run_that_starts_over_keeps_step_0_only(tmp_path):
    write_steps(tmp_path, range(9))
    RunLog(tmp_path, tensorboard=False)
    assert [row["step"] for row in read_rows(tmp_path / "train.jsonl")] == [0]
    assert [row["step"] for row in csv_rows(tmp_path / "train.csv")] == ["0"]
    (tmp_path / "train.jsonl").write_text('{"step": 1, "a": 2}\n')
    with RunLog(tmp_path, tensorboard=False) as log:
        assert (tmp_path / "train.csv").read_text() == ""
        log.write("train", 1, {"b": 2})
    assert (tmp_path / "train.csv").read_text() == "step,b\n1,2.0\n"


def test_new_columns_join_the_others(tmp_path):
    with RunLog(tmp_path, tensorboard=False) as log:
        log.write("train", 1, {"b": 1.5, "a,comma": 2.5})
        log.write("train", 2, {"a,comma": 3.5})
        log.write("train", 3, {"a,comma": 4.5, "new": 5.5})
    with RunLog(tmp_path, start_step=3, tensorboard=False) as log:
        log.write("train", 4, {"b": 6.5, "newer": 7.5})
    assert (tmp_path / "train.csv").read_text() == (
        'step,b,"a,comma",new,newer\n1,1.5,2.5,,\n2,,3.5,,\n3,,4.5,5.5,\n4,6.5,,,7.5\n'
    )
    expected = [{"step": 4, "b": 6.5, "newer": 7.5}]
    assert read_rows(tmp_path / "train.jsonl")[3:] == expected


def test_a_step_that_is_written_again_stands_there_once(tmp_path):
    write_steps(tmp_path, range(6))
    with RunLog(tmp_path, start_step=5, tensorboard=False) as log:
        log.write("eval", 5, {"AP": 0.5})
        assert read_rows(tmp_path / "eval.jsonl") == [
            {"step": 0, "AP": 0},
            {"step": 5, "AP": 0.5},
        ]
        assert [row["AP"] for row in csv_rows(tmp_path / "eval.csv")] == ["0.0", "0.5"]
        with pytest.raises(ValueError, match=r"eval\.jsonl: a row of step 4 came after .* step 5"):
            log.write("eval", 4, {"AP": 0.5})


def test_a_half_written_last_line_is_not_read(tmp_path):
    path = tmp_path / "train.jsonl"
    for line in ["{", '{"step": 2, "a": 1', '{"step": 2', "\0\0", "17", '{"a": 1}']:
        path.write_text('{"step": 1, "a": 2}\n' + line)
        assert read_rows(path) == [{"step": 1, "a": 2}]
        path.write_text(line + '\n{"step": 1, "a": 2}\n')
        with pytest.raises(ValueError, match=r"train\.jsonl: line 1 is no row"):
            read_rows(path)
        with pytest.raises(ValueError, match=r"train\.jsonl: line 1 is no row"):
            RunLog(tmp_path, tensorboard=False)
        assert path.read_text().startswith(line)  # what cannot be read is left as it is


def test_a_killed_process_loses_no_row(tmp_path):
    program = (
        "import os, signal, sys; from pathlib import Path;"
        "from anchor_detr_jax.training.run_log import RunLog;"
        "log = RunLog(Path(sys.argv[1]));"
        "[log.write('train', step, {'a': step / 7}) for step in range(40)];"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program, tmp_path], check=False)
    assert [row["a"] for row in read_rows(tmp_path / "train.jsonl")] == [i / 7 for i in range(40)]
    assert len(csv_rows(tmp_path / "train.csv")) == 40
    assert len(scalars(tmp_path, "a")) == 40


@contextmanager
def largest_file(size):
    """As a full disk: a write that passes this many bytes fails, having written a part."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_said_with_the_files_name_and_leaves_whole_rows(tmp_path):
    with RunLog(tmp_path, tensorboard=False) as log:
        log.write("train", 1, {"a": 0.25})
        with largest_file(30), pytest.raises(OSError, match=r"train\.jsonl") as caught:
            log.write("train", 2, {"a": 0.5})
        assert caught.value.filename == str(tmp_path / "train.jsonl")
        with largest_file(30), pytest.raises(OSError, match=r"pictures/x_00000002\.jpg"):
            log.picture("x", 2, Image.new("RGB", (9, 9)))
        log.write("train", 2, {"a": 0.5})
    rows = [{"step": 1, "a": 0.25}, {"step": 2, "a": 0.5}]
    assert read_rows(tmp_path / "train.jsonl") == rows
    assert list((tmp_path / "pictures").iterdir()) == []
    before = (tmp_path / "train.jsonl").read_bytes()
    with largest_file(10), pytest.raises(OSError, match=r"train\.jsonl"):
        RunLog(tmp_path, start_step=1, tensorboard=False)
    assert (tmp_path / "train.jsonl").read_bytes() == before


def test_a_full_disk_does_not_hang_tensorboard(tmp_path):
    log = RunLog(tmp_path)

    def write_on():
        for step in range(60):
            log.write("train", step, {"a": 1})

    with largest_file(1000), pytest.raises(OSError, match="tfevents"):
        write_on()
    steps = [step for step, _ in scalars(tmp_path, "a")]
    assert steps == [*range(len(steps))]
    assert 15 < len(steps) < 40


def events(folder):
    """The events of a run's files, one list a file, in TensorBoard's order."""
    for path in sorted((folder / "tensorboard").iterdir()):
        content, found = path.read_bytes(), []
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            found.append(event_pb2.Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
        yield found


def scalars(folder, tag):
    return [
        (event.step, value.simple_value)
        for file in events(folder)
        for event in file
        for value in event.summary.value
        if value.tag == tag
    ]


def test_tensorboards_files_are_as_tensorboardx_frames_them(tmp_path):
    with RunLog(tmp_path / "run") as log:
        log.write("train", 3, {"loss/total": 0.5, "lr/rest": 0.25})
        log.write("eval", 3, {"AP": 0.125})
        log.picture("beside", 3, Image.new("RGB", (20, 10), (255, 0, 0)))
    (file,) = events(tmp_path / "run")
    assert file[0].file_version == "brain.Event:2"
    writer = RecordWriter(str(tmp_path / "theirs"))
    for event in file:
        writer.write(event.SerializeToString())
    writer.close()
    (path,) = (tmp_path / "run/tensorboard").iterdir()
    assert path.read_bytes() == (tmp_path / "theirs").read_bytes()
    assert scalars(tmp_path / "run", "loss/total") == [(3, 0.5)]
    assert scalars(tmp_path / "run", "eval/AP") == [(3, 0.125)]
    (shown,) = file[-1].summary.value
    assert (shown.tag, shown.image.width, shown.image.height) == ("pictures/beside", 20, 10)
    kept = (tmp_path / "run/pictures/beside_00000003.jpg").read_bytes()
    assert shown.image.encoded_image_string == kept


def test_tensorboard_forgets_what_is_done_again(tmp_path):
    for start in (0, 4, 8):  # within a second: each has a file of its own all the same
        with RunLog(tmp_path, start_step=start) as log:
            log.write("train", start + 1, {"a": 1})
    files = list(events(tmp_path))
    starts = [(event.step, event.session_log.status) for file in files for event in file[1:2]]
    assert starts == [(1, 1), (5, 1), (9, 1)]


def test_pictures(tmp_path):
    log = RunLog(tmp_path, tensorboard=False)
    path = log.picture("beside", 1200, Image.new("L", (20, 10), 200))
    assert path == tmp_path / "pictures/beside_00001200.jpg"
    with Image.open(path) as picture:
        assert (picture.format, picture.size, picture.mode) == ("JPEG", (20, 10), "RGB")
    for name in ("", "a/b", "../x", "/etc/x"):
        with pytest.raises(ValueError, match="picture's name"):
            log.picture(name, 1, Image.new("L", (20, 10)))


@pytest.mark.parametrize(
    ("kind", "values", "says"),
    [("test", {}, "kind is 'test', expected one of train, eval"), ("eval", {"step": 1}, '"step"')],
)
def test_what_no_row_can_be(tmp_path, kind, values, says):
    with pytest.raises(ValueError, match=says):
        RunLog(tmp_path, tensorboard=False).write(kind, 1, values)


class FakeWandb(types.ModuleType):
    """Keeps what it is told."""

    def __init__(self):
        super().__init__("wandb")
        self.started, self.told = [], []

    def init(self, **settings):  # noqa: D102
        self.started.append(settings)
        return types.SimpleNamespace(
            log=lambda values, step: self.told.append((step, values)),
            finish=lambda exit_code: self.told.append(exit_code),
        )

    def Image(self, picture):  # noqa: D102, N802
        return picture.size


def test_wandb_is_told_the_same_and_goes_on_with_its_run(tmp_path, monkeypatch):
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    options = {"wandb_project": "fish", "tensorboard": False}
    with RunLog(tmp_path / "r", **options, wandb_config={"seed": 3}) as log:
        log.write("train", 1, {"loss/total": 2.5})
        log.write("eval", 1, {"AP": 0.5})
        log.picture("beside", 1, Image.new("RGB", (20, 10)))
    expected = [{"loss/total": 2.5}, {"eval/AP": 0.5}, {"pictures/beside": (20, 10)}]
    assert wandb.told == [(1, values) for values in expected] + [0]
    with pytest.raises(ZeroDivisionError), RunLog(tmp_path / "r", start_step=1, **options):
        _ = 1 / 0
    assert wandb.told[-1] == 1  # the exit code of a run that failed
    RunLog(tmp_path / "r", **options).close()
    first, resumed, over = wandb.started
    assert first["project"] == "fish"
    assert first["config"] == {"seed": 3}
    assert (first["name"], first["dir"]) == ("r", str(tmp_path / "r"))
    assert first["id"] == resumed["id"] != over["id"]
    assert {run["resume"] for run in wandb.started} == {"allow"}


def test_wandb_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match=r'pip install "anchor_detr_jax\[wandb\]"'):
        RunLog(tmp_path / "r", wandb_project="fish")
    assert not (tmp_path / "r").exists()
    RunLog(tmp_path / "r", tensorboard=False).close()


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
