"""What a host says when another one is gone; with processes it is in test_train_command.py."""

import jax
import pytest

from anchor_detr_jax.training import hosts


class EndedError(Exception):
    """In place of the process's end."""


@pytest.fixture
def two_hosts(monkeypatch):
    def end(code):
        raise EndedError(code)

    monkeypatch.setattr(hosts.jax, "process_count", lambda: 2)
    monkeypatch.setattr(hosts.os, "_exit", end)


def fail(error):
    raise error


def fail_to_write(cause):
    try:
        fail(cause)
    except Exception as error:
        raise OSError("run/checkpoints: the checkpoint of step 5 could not be written") from error


@pytest.mark.parametrize("in_a_save", [False, True])
@pytest.mark.parametrize("kind", [jax.errors.JaxRuntimeError, ValueError])
def test_a_lost_host_is_named_wherever_it_is_missed(two_hosts, capsys, in_a_save, kind):
    lost = kind("UNKNOWN: Gloo AllGather failed: Connection reset by peer")
    with pytest.raises(EndedError, match="1"), hosts.errors_end_all_hosts():
        fail_to_write(lost) if in_a_save else fail(lost)
    said = capsys.readouterr().err
    assert said.startswith("error: another host of this run is lost")
    assert "Connection reset by peer" in said


def test_a_full_disk_is_no_lost_host(two_hosts, capsys):
    with pytest.raises(EndedError, match="1"), hosts.errors_end_all_hosts():
        fail_to_write(OSError(28, "No space left on device"))
    assert capsys.readouterr().err.startswith("error: run/checkpoints: the checkpoint of step 5")


def test_one_host_raises_what_there_is():
    with pytest.raises(OSError, match="step 5"), hosts.errors_end_all_hosts():
        fail_to_write(ValueError("no"))
    full = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
    with (
        pytest.raises(ValueError, match=r"a device's memory is full"),
        hosts.errors_end_all_hosts(),
    ):
        fail(full)
