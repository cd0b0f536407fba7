"""What a run writes in its own files: rows and pictures, whole at any time."""

import csv
import json
import math
import resource
import struct
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tensorboardX.proto import event_pb2

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
