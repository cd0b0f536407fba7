"""What the benchmark measures, reckons and prints; nothing depends on how long anything took."""

import dataclasses
import json
import re
import runpy
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import DATA, NARROW
from test_commands import ROOT, run

from anchor_detr_jax.benchmark.flops import count_detection
from anchor_detr_jax.benchmark.memory import memory_alone
from anchor_detr_jax.benchmark.ours import load_detection, ranked
from anchor_detr_jax.benchmark.parts import detection_parts, step_parts
from anchor_detr_jax.benchmark.peaks import cpu_peak, published_peak
from anchor_detr_jax.benchmark.photographs import read_photographs
from anchor_detr_jax.benchmark.presets import PRESETS
from anchor_detr_jax.benchmark.report import as_json, as_markdown, comparisons, shown
from anchor_detr_jax.benchmark.run import DETECTION, ON_DEVICE, PHOTOGRAPHS, STEP
from anchor_detr_jax.benchmark.tasks import (
    Measurement,
    Task,
    made_images,
    made_targets,
    made_variables,
    median_ratio,
)
from anchor_detr_jax.benchmark.timing import is_out_of_memory, timed_in_turn
from anchor_detr_jax.models.build import make_model
from anchor_detr_jax.training.config import (
    EvaluationConfig,
    TrainConfig,
    train_config_from_dict,
    train_config_to_dict,
)

TASK = Task("narrow", TrainConfig(model=NARROW), "float32", (64, 96))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_the_files_of_that_name(name):
    config = runpy.run_path(str(ROOT / f"configs/{name}.py"))["get_config"]()
    assert train_config_from_dict(config.to_dict()) == PRESETS[name]


def test_peaks():
    assert published_peak("NVIDIA H200", "bfloat16") == 989e12
    assert published_peak("NVIDIA A100-SXM4-80GB", "tensorfloat32") == 156e12
    assert published_peak("NVIDIA A10G", "float32") is None  # no A10
    assert published_peak("Tesla V100-SXM2-16GB", "bfloat16") is None
    assert published_peak("TPU v5 lite", "bfloat16") == 197e12
    assert published_peak("TPU v5p", "bfloat16") == published_peak("TPU v5", "bfloat16")
    assert published_peak("TPU v4", "float32") is None
    assert cpu_peak("float32") > 1e6


def measured(side="ours", seconds=(1.0, 2.0, 3.0), batch_size=1, what="step", **more):
    own = {"config": "narrow", "precision": "float32", "hw": (64, 96)}
    return Measurement(what=what, side=side, seconds=seconds, batch_size=batch_size, **own, **more)


def test_what_is_reckoned_from_runs():
    one = measured(seconds=(4.0, 1.0, 2.0), batch_size=6, multiply_adds=10)
    assert one.median == 2
    assert one.images_per_second == 3
    assert one.share_of(40.0) == 0.25
    assert one.share_of(None) is None
    assert measured(seconds=np.arange(101.0)[::-1].tolist()).p95 == 95
    assert measured(seconds=(1.0, 2.0)).p95 == pytest.approx(1.95)
    assert measured(seconds=()).median is None


def test_ratios_are_taken_run_by_run():
    """A machine that was slow for two of three runs changes nothing."""
    assert median_ratio([1.0, 10.0, 20.0], [2.0, 20.0, 40.0]) == 0.5
    assert median_ratio([1.0, 1.0, 3.0], [1.0, 2.0, 2.0]) == 1
    both = [measured(memory_bytes=300), measured("torch", (2.0, 4.0, 6.0), memory_bytes=600)]
    (one,) = comparisons([*both, measured("torch", what="alone")])
    assert (one.side, one.time, one.memory) == ("torch", 0.5, 0.5)


def test_the_table_has_each_sides_fastest_batch():
    rows = [
        measured(side, (seconds,), size, ON_DEVICE)
        for side, size, seconds in [
            ("ours", 1, 1.0),
            ("ours", 2, 1.0),
            ("ours", 4, 3.0),
            ("torch", 1, 1.0),
            ("torch", 2, 3.0),
        ]
    ]
    full = measured("torch", (), 4, ON_DEVICE, note="out of memory")
    kept = [(one.side, one.batch_size) for one in shown([*rows, full])]
    assert kept == [("ours", 1), ("ours", 2), ("torch", 1), ("torch", 4)]


ABOUT = {"device": "cpu", "devices": 1, "processor": "P", "cores": 2, "versions": {"jax": "1"}}


def test_markdown():
    rows = [
        measured(multiply_adds=5 * 10**9, memory_bytes=2**21, compile_s=4.25),
        measured("torch", (2.0, 4.0, 6.0), memory_bytes=2**20),
    ]
    head, _, columns, line, ours, theirs = as_markdown(rows, ABOUT, {"float32": 1e12}).splitlines()
    assert head == "cpu (1), P, 2 cores; jax 1; peak: float32 1 TFLOP/s"
    assert len({text.count("|") for text in (columns, line, ours, theirs)}) == 1
    cells = [
        dict(zip(columns.split(" | "), row.split(" | "), strict=True)) for row in (ours, theirs)
    ]
    assert cells[0]["median ms"] == "2000.0"
    assert cells[0]["p95 ms"] == "2900.0"
    assert cells[0]["G multiply-adds an image"] == "5"
    assert cells[0]["of peak"] == "0%"  # half a hundredth
    assert cells[1]["time: ours / this"] == "0.50"
    assert cells[1]["memory: ours / this"].strip(" |") == "2.00"
    assert "note" not in columns


def test_json_has_all_runs():
    rows = [measured(), measured("torch", (2.0, 4.0, 6.0))]
    text = json.loads(json.dumps(as_json(rows, ABOUT, {"float32": None})))
    assert text["measurements"][0]["seconds"] == [1, 2, 3]
    assert text["measurements"][0]["median"] == 2
    assert text["comparisons"][0]["time"] == 0.5
    assert text["device"] == "cpu"


def test_sides_take_turns():
    calls = []
    runs = {name: lambda name=name: calls.append(name) for name in "ab"}
    seconds = timed_in_turn(runs, 3, warm_up=1)
    assert "".join(calls) == "ab" + "ababab"
    assert [len(times) for times in seconds.values()] == [3, 3]


def test_lack_of_memory_is_known():
    assert is_out_of_memory(RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 byte"))
    assert is_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2 MiB"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(ValueError("shapes"))


def test_batches_are_what_the_task_says():
    task = dataclasses.replace(TASK, batch_size=3, targets=4)
    assert made_images(task).pixels.shape == (3, 64, 96, 3)
    targets = made_targets(task)
    assert targets.boxes.shape == (3, 4, 4)
    corners = targets.boxes[..., :2] - targets.boxes[..., 2:] / 2
    assert (corners > 0).all()
    assert targets.labels.max() < NARROW.num_classes


def test_photographs_are_padded_to_few_sizes():
    batches = read_photographs(str(DATA / "coco/val2017"), EvaluationConfig(96, 160))
    assert len(batches) == 5
    assert len({batch.pixels.shape for batch in batches}) <= 3
    assert all((batch.valid_hw.min(axis=1) <= 96).all() for batch in batches)
    with pytest.raises(ValueError, match="no photographs"):
        read_photographs(str(DATA), EvaluationConfig())


@pytest.mark.slow
def test_parts_are_those_of_the_whole():
    """Named as the counts are, so that each finds its own."""
    parts = detection_parts(TASK, runs=2)
    counted = set(count_detection(NARROW, TASK.hw)._fields)
    assert {name.split()[0] for name in parts} == counted
    assert [len(seconds) for seconds in parts.values()] == [2] * 4
    steps = step_parts(dataclasses.replace(TASK, batch_size=2), runs=1)
    assert set(steps) == {"matching", "losses", "optimizer"}


def test_detection_is_the_models_own():
    """Prepared, compiled and fed from the host, it finds what the model as it is trained finds."""
    task = dataclasses.replace(TASK, hw=(64, 64))
    images = made_images(task)
    program = load_detection(task)()
    found = program.run(images)
    outputs = jax.jit(make_model(NARROW).apply)(made_variables(NARROW), images)
    wanted = ranked(outputs, images, NARROW)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-5)
    assert isinstance(found.boxes, np.ndarray)
    assert program.compile_s > 0
    assert program.count() > 0


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux alone says it")
def test_memory_of_a_larger_batch_is_more():
    small, large = (
        memory_alone("detection", dataclasses.replace(TASK, hw=(256, 256), batch_size=b), None)
        for b in (1, 8)
    )
    assert large > small


@pytest.fixture
def narrow_config(tmp_path):
    """A file as those of configs/."""
    values = train_config_to_dict(TrainConfig(model=NARROW))
    values["evaluation"] |= {"short_side": 64, "long_side": 96}
    file = tmp_path / "narrow.py"
    file.write_text(
        "from ml_collections import ConfigDict\n"
        f"def get_config():\n    return ConfigDict({values!r})\n"
    )
    return file


@pytest.mark.slow
def test_the_command(narrow_config, tmp_path):
    output = tmp_path / "figures"
    common = ["scripts/benchmark.py", "--configs", narrow_config, "--size", "64x96", "--runs", "2"]
    done = run(
        *common,
        *["--train_size", "64x96", "--batch_sizes", "1,2", "--output", output],
        *["--images", DATA / "coco/val2017", "--data", DATA / "coco", "--split", "val2017"],
    )
    assert done.stdout == output.with_suffix(".md").read_text()
    figures = json.loads(output.with_suffix(".json").read_text())
    rows = {(one["what"], one["batch_size"]): one for one in figures["measurements"]}
    for what in [(DETECTION, 1), (STEP, 2)]:
        row = rows[what]
        assert len(row["seconds"]) == 2
        assert row["multiply_adds"] == pytest.approx(row["compiler_multiply_adds"], rel=0.5)
        assert row["compile_s"] > 0
        assert row["share_of_peak"] > 0
    assert len(rows[PHOTOGRAPHS, 1]["seconds"]) == 5
    parts = {what.partition(": ")[2] for what, _ in rows if what.startswith("part")}
    assert parts >= {"backbone", "encoder", "decoder", "matching", "losses", "optimizer"}
    assert ("input: decoding", 1) in rows
    assert figures["versions"]["jax"] == jax.__version__


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--configs=anchor_detr_r50_dc", "did you mean anchor_detr_r50_dc5"),
        ("--size=800", "--size=800: expected HEIGHTxWIDTH"),
        ("--precisions=float16", "expected some of float32"),
        ("--batch_sizes=0", "expected numbers"),
        ("--against=nowhere", "cannot be imported|expected module:function"),
        ("--images=nowhere", "there are no photographs"),
        ("--output=nowhere/at/all", "there is no folder"),
    ],
)
def test_what_is_wrong_is_one_line(flag, said):
    done = run("scripts/benchmark.py", flag, "--noinference", "--notrain", check=False)
    assert done.returncode == 1
    assert re.search(said, done.stderr.splitlines()[-1]), done.stderr
