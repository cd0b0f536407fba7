"""The train command: killed, stopped, and with what cannot be."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from conftest import DATA
from test_training_run import comparable, narrow_config, saved_state
from train_processes import ROOT, finished, wait_for_row

from anchor_detr_jax.training.run import prepare_run
from anchor_detr_jax.training.run_log import read_rows

STEPS = 40


LONG = (f"--config.schedule.steps={STEPS}", "--config.checkpoint.every_steps=1")


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_the_same_to_the_bit(train, tmp_path):
    finished(train(tmp_path / "straight", *LONG))
    rng, killed = random.Random(0), tmp_path / "killed"  # noqa: S311
    for reached in (3, 12, 21, 33):
        process = train(killed, *LONG)
        wait_for_row(killed, reached, process)
        time.sleep(rng.uniform(0, 0.3))  # in a step, in a save, between them
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    output = finished(train(killed, *LONG))
    assert "goes on after step" in output
    whole, parts = (read_rows(tmp_path / f / "train.jsonl") for f in ("straight", "killed"))
    assert [row["step"] for row in parts] == list(range(1, STEPS + 1))
    assert list(map(comparable, parts)) == list(map(comparable, whole))
    run = prepare_run(narrow_config(schedule__steps=STEPS), killed)
    one, other = (saved_state(run, tmp_path / f) for f in ("straight", "killed"))
    assert int(one.step) == STEPS
    for expected, actual in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_exit_code_tells(train, tmp_path, number, code):
    steps = "--config.schedule.steps=5000"
    process = train(tmp_path, steps)
    wait_for_row(tmp_path, 4, process)
    process.send_signal(number)
    output = finished(process, code)
    assert f"{number.name} after step" in output
    done = read_rows(tmp_path / "train.jsonl")[-1]["step"]
    process = train(tmp_path, f"--config.schedule.steps={int(done) + 1}")
    output = finished(process)
    assert f"goes on after step {int(done)}" in output
    assert "schedule.steps" in output  # what has changed is said


BAD_FLAGS = {
    "--config.optimizer.learning_rate=1": "no key 'learning_rate'",
    "--config.data.batchsize=1": 'Did you mean "batch_size"',
    "--config.data.batch_size=3x": "batch_size",
    "--config.data.root=/nowhere": "/nowhere",
    "--config.data.train_split=train1999": "train1999",
    "--config.model.num_anchors=10": "boxes, more than the model's 10 queries",
    "--config.precision=float8": "float8",
    "--config.fsdp=3": "fsdp is 3",
    "--config.init=/nowhere": "/nowhere",
    "--hosts=2": "all three are needed",
}


@pytest.mark.slow
@pytest.mark.parametrize("flag", BAD_FLAGS)
def test_what_cannot_be_is_said_in_a_line(train, tmp_path, flag):
    output = finished(train(tmp_path / "run", flag), code=1)
    assert BAD_FLAGS[flag] in output
    assert not list(tmp_path.glob("run/checkpoints/*"))


@pytest.mark.slow
def test_devices_must_divide_the_batch(train, tmp_path):
    process = train(tmp_path, XLA_FLAGS="--xla_force_host_platform_device_count=8")
    assert "batch_size is 2, and must be a multiple" in finished(process, code=1)


@pytest.mark.slow
def test_pictures_that_cannot_be_read(train, tmp_path):
    data = tmp_path / "data"
    (data / "annotations").mkdir(parents=True)
    (data / "val2017").mkdir()
    annotations = (DATA / "coco/annotations/instances_val2017.json").read_text()
    (data / "annotations/instances_val2017.json").write_text(annotations)
    files = sorted((DATA / "coco/val2017").glob("*.jpg"))
    for file in files:
        (data / "val2017" / file.name).write_bytes(file.read_bytes())
    truncated = data / "val2017" / files[1].name
    truncated.write_bytes(files[1].read_bytes()[:2000])
    root = f"--config.data.root={data}"
    output = finished(train(tmp_path / "stop", root), code=1)
    assert truncated.name in output
    (data / "val2017" / files[2].name).unlink()
    output = finished(train(tmp_path / "skip", root, "--config.data.on_bad=skip"))
    skipped = (tmp_path / "skip/skipped.txt").read_text()
    assert files[1].name in skipped
    assert files[2].name in skipped
    assert json.loads((tmp_path / "skip/config.json").read_text())["data"]["on_bad"] == "skip"


@pytest.mark.slow
def test_a_full_disk_loses_no_checkpoint(train, tmp_path):
    finished(train(tmp_path, "--config.schedule.steps=2", "--config.checkpoint.every_steps=1"))
    limited = (
        "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "sys.argv = sys.argv[1:]; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000,) * 2); "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    flags = ("--config", "tests/narrow_run.py", "--workdir", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", limited, "scripts/train.py", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false"},
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "checkpoint of step" in done.stderr
    output = finished(train(tmp_path))
    assert "goes on after step 2" in output
