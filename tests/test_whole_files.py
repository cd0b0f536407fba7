"""Files that are whole or not there, whatever goes wrong on the way."""

import errno
import os

import numpy as np
import pytest

from anchor_detr_jax.command.output_file import write_output_file
from anchor_detr_jax.conversion.torch_writer import write_torch_file
from anchor_detr_jax.whole_files import append_whole, file_written_whole


@pytest.fixture
def full_disk(monkeypatch):
    """Nothing reaches the disk."""

    def fail(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)


def test_a_new_file_takes_the_place_of_the_old(tmp_path):
    file = tmp_path / "a.txt"
    write_output_file(file, "old")
    write_output_file(file, "größer")
    assert file.read_bytes() == "größer".encode()
    assert list(tmp_path.iterdir()) == [file]


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")
    with file_written_whole(file) as stream:
        stream.write(b"new")
        stream.flush()
        assert file.read_text() == "old"
    assert file.read_text() == "new"


@pytest.mark.parametrize(
    "write",
    [
        lambda file: write_output_file(file, "new"),
        lambda file: write_torch_file(file, {"x": np.ones(3, np.float32)}, {}),
    ],
    ids=["text", "torch"],
)
def test_on_a_full_disk_the_old_file_stays_and_nothing_else(tmp_path, full_disk, write):
    file = tmp_path / "a.txt"
    file.write_text("old")
    with pytest.raises(OSError, match=r"No space left on device: .*a\.txt"):
        write(file)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="could not convert"):
        write_torch_file(tmp_path / "a.pth", {"x": np.array(["no number"])}, {})
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_output_file(tmp_path / "nowhere" / "a.txt", "text")
    assert not list(tmp_path.iterdir())


def test_appending_begins_a_file_and_goes_on(tmp_path):
    file = tmp_path / "log"
    append_whole(file, b"one\n")
    append_whole(file, b"two\n")
    assert file.read_bytes() == b"one\ntwo\n"
