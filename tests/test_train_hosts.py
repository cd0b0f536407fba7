"""The train command on two hosts, each a process, and when one of them is lost."""

import signal
import socket
import time

import pytest
from train_processes import finished, wait_for_row

from anchor_detr_jax.training.run_log import read_rows


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
