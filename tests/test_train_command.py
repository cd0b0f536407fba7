"""The train command: killed, stopped, on two hosts, and with what cannot be."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import DATA
from test_training_run import comparable, narrow_config, saved_state

from anchor_detr_jax.training.run import prepare_run
from anchor_detr_jax.training.run_log import read_rows

ROOT = Path(__file__).parents[1]
STEPS = 40


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """Starts the command; its programs are compiled once for all tests.

    Whatever a failed test leaves running ends with the last test.
    """
    cache = str(tmp_path_factory.mktemp("programs"))
    started: list[subprocess.Popen[str]] = []

    def start(workdir, *flags, family="anchor_detr", **environment):
        config = f"tests/narrow_run.py:{family}"
        command = ["scripts/train.py", "--config", config, "--workdir", workdir]
        process = subprocess.Popen(
            [sys.executable, *map(str, command), *map(str, flags)],
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ
            | {
                "JAX_PLATFORMS": "cpu",
                "JAX_COMPILATION_CACHE_DIR": cache,
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            }
            | environment,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()


def finished(process, code=0, timeout=300):
    """What a command wrote, once it has ended with this code and without a traceback."""
    output, _ = process.communicate(timeout=timeout)
    assert process.returncode == code, output
    assert "Traceback" not in output, output
    return output


def wait_for_row(workdir, step, process, timeout=200):
    """Wait until the log has a row of this step or a later one."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and process.poll() is None:
        rows = read_rows(workdir / "train.jsonl") if (workdir / "train.jsonl").exists() else []
        if rows and rows[-1]["step"] >= step:
            return
        time.sleep(0.02)
    raise AssertionError(f"no row of step {step}: {process.communicate()[0]}")


LONG = (f"--config.schedule.steps={STEPS}", "--config.checkpoint.every_steps=1")


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_the_same_to_the_bit(train, tmp_path):
    finished(train(tmp_path / "straight", *LONG))
    rng, killed = random.Random(0), tmp_path / "killed"  # noqa: S311
    for reached in (3, 9, 15, 21, 27, 33):
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


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("localhost", 0))
        return listening.getsockname()[1]


def on_two_hosts(train, workdir, *flags, **family):
    port = free_port()
    hosts = ("--coordinator", f"localhost:{port}", "--hosts", 2)
    return [train(workdir, *flags, *hosts, "--host", i, **family) for i in range(2)]


EVALUATED = ("--config.data.val_split=val2017", "--config.log.pictures=1")


@pytest.mark.slow
def test_two_hosts_do_what_one_does(train, tmp_path):
    for host in on_two_hosts(train, tmp_path / "two", *EVALUATED):
        finished(host)
    finished(train(tmp_path / "one", *EVALUATED))
    two, one = (read_rows(tmp_path / f / "train.jsonl") for f in ("two", "one"))
    assert len(two) == 6
    for ours, theirs in zip(two, one, strict=True):
        assert ours["loss/total"] == pytest.approx(theirs["loss/total"], rel=1e-4)
    evaluated = [read_rows(tmp_path / f / "eval.jsonl") for f in ("two", "one")]
    assert [row["step"] for row in evaluated[0]] == [3, 6]
    for ours, theirs in zip(*evaluated, strict=True):
        assert ours["AR100"] == pytest.approx(theirs["AR100"], abs=0.02)
    # One host goes on where two stopped, as if it had been one all along.
    more = (*EVALUATED, "--config.schedule.steps=8")
    output = finished(train(tmp_path / "two", *more))
    assert "goes on after step 6" in output
    finished(train(tmp_path / "one", *more))
    two, one = (read_rows(tmp_path / f / "train.jsonl")[-1] for f in ("two", "one"))
    assert two["step"] == one["step"] == 8
    assert two["loss/total"] == pytest.approx(one["loss/total"], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["detr", "conditional_detr", "smca"])
def test_two_hosts_train_every_family(train, tmp_path, family):
    """In two parts each, so that the losses' divisors are seen to be the whole batch's."""
    parts = "--config.optimizer.accumulate=2"
    flags = ("--config.data.batch_size=4", "--config.model.dropout=0.0")
    for host in on_two_hosts(train, tmp_path / "two", *flags, parts, family=family):
        finished(host)
    finished(train(tmp_path / "one", *flags, family=family))
    two, one = (read_rows(tmp_path / f / "train.jsonl") for f in ("two", "one"))
    assert len(two) == len(one) == 4
    assert ("cardinality_error" in one[0]) == (family == "detr")
    for ours, theirs in zip(two, one, strict=True):
        for name in ("loss/total", "loss/classes_0", *(["cardinality_error"] * (family == "detr"))):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-3), name


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_host_ends_the_other_within_a_minute(train, tmp_path, lost):
    endless = ("--config.schedule.steps=100000", "--config.checkpoint.every_steps=20")
    hosts = on_two_hosts(train, tmp_path, *endless)
    wait_for_row(tmp_path, 45, hosts[0])
    hosts[lost].send_signal(signal.SIGKILL)
    started = time.monotonic()
    output, _ = hosts[1 - lost].communicate(timeout=60)
    assert time.monotonic() - started < 60
    assert hosts[1 - lost].returncode != 0
    assert "another host" in output or "another task died" in output, output[-2000:]
    hosts[lost].communicate()
    done = int(read_rows(tmp_path / "train.jsonl")[-1]["step"])
    output = finished(train(tmp_path, f"--config.schedule.steps={done + 1}"))
    assert "goes on after step" in output


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
