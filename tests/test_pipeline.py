"""From plans to arrays: the same batches however they are read, and faults that name the file."""

import dataclasses
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from data_sets import pack_targets
from PIL import Image

from anchor_detr_jax.data.annotated import AnnotatedDataset, FilePictures
from anchor_detr_jax.data.augmentation import AugmentationConfig, max_targets
from anchor_detr_jax.data.categories import numbered_columns
from anchor_detr_jax.data.pipeline import BatchReader, ReadingConfig, training_batches
from anchor_detr_jax.data.plan import make_plan

COUNT = 21
CONFIG = AugmentationConfig(
    short_sides=(48, 64, 80),
    long_side=133,
    crop_short_sides=(40, 50, 60),
    crop_sides=(38, 60),
)
NO_CROP = dataclasses.replace(CONFIG, crop=0.0)
ALL_OPTIONS = dataclasses.replace(
    CONFIG, mosaic=0.5, mosaic_tile=40, colour_jitter=0.5, zoom_out=0.5
)


@pytest.fixture
def dataset(tmp_path):
    """Noise pictures of 30 to 90 pixels a side, with 0 to 4 boxes each."""
    rng = np.random.default_rng(0)
    hws = rng.integers(30, 91, (COUNT, 2))
    files, boxes = [], []
    for i, (height, width) in enumerate(hws):
        pixels = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
        files.append(f"{i}.jpg")
        Image.fromarray(pixels).save(tmp_path / files[-1])
        corners = np.sort(rng.uniform(0, 1, (i % 5, 2, 2)), axis=1).reshape(-1, 4)
        boxes.append(corners * [width, height, width, height])
    labels = [np.arange(len(b)) for b in boxes]
    boxes, labels, starts = pack_targets(boxes, labels)
    return AnnotatedDataset(
        FilePictures(tmp_path, tuple(files)), hws, boxes, labels, starts, numbered_columns(5)
    )


def make_reader(dataset, *, config=CONFIG, batch_size=8, **settings):
    plan = make_plan(dataset.hw, batch_size=batch_size, augmentation=config, seed=1, buckets=3)
    return BatchReader(dataset, plan, max_targets(dataset, config), **settings)


def assert_same(ours, theirs):
    for one, other in ((ours.images, theirs.images), (ours.targets, theirs.targets)):
        assert vars(one).keys() == vars(other).keys()
        for name, array in vars(one).items():
            assert array.dtype == vars(other)[name].dtype
            np.testing.assert_array_equal(array, vars(other)[name], err_msg=name)
    for name in ("step", "names", "unreadable", "waste"):
        assert getattr(ours, name) == getattr(theirs, name)


def file_of(dataset, index):
    return Path(dataset.pictures.name(index))


@pytest.mark.parametrize("config", [CONFIG, ALL_OPTIONS])
def test_a_batch_holds_the_planned_pictures(dataset, config):
    reader = make_reader(dataset, config=config)
    for step in range(2 * reader.plan.steps_per_epoch):
        planned, batch = reader.plan.batch(step), reader(step)
        images, targets = batch.images, batch.targets
        assert images.pixels.shape == (8, *planned.bucket, 3)
        assert images.pixels.dtype == np.uint8
        for row, picture in enumerate(planned.pictures):
            sample = reader.augmented(picture)
            height, width = picture.hw
            np.testing.assert_array_equal(images.valid_hw[row], (height, width))
            np.testing.assert_array_equal(images.pixels[row, :height, :width], sample.image)
            assert not images.pixels[row, height:].any()
            assert not images.pixels[row, :, width:].any()
            n = targets.count[row]
            assert n == len(sample.labels)
            centre, size = targets.boxes[row, :n, :2], targets.boxes[row, :n, 2:]
            corners = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
            scaled = corners * [width, height, width, height]
            np.testing.assert_allclose(scaled, sample.boxes_xyxy_px, atol=1e-4)
            np.testing.assert_array_equal(targets.labels[row, :n], sample.labels)
            assert batch.names[row] == dataset.pictures.name(picture.index)
        assert np.isfinite(targets.boxes).all()
        real = images.valid_hw[targets.in_batch].prod(axis=1).sum()
        assert batch.waste == pytest.approx(1 - real / images.pixels[..., 0].size, abs=1e-9)


def test_a_mosaic_reads_its_own_pictures(dataset):
    reader = make_reader(dataset, config=dataclasses.replace(ALL_OPTIONS, mosaic=1.0))
    picture = reader.plan.batch(0).pictures[0]
    opened = []

    @dataclasses.dataclass(frozen=True)
    class Watched(FilePictures):
        def encoded(self, index):
            opened.append(index)
            return super().encoded(index)

    pictures = Watched(dataset.pictures.folder, dataset.pictures.files)
    watched = dataclasses.replace(reader, dataset=dataclasses.replace(dataset, pictures=pictures))
    watched.augmented(picture)
    assert opened == [tile.index for tile in picture.mosaic.tiles]
    assert opened[0] == picture.index


def test_what_fills_up_the_last_batch_of_an_epoch_is_no_picture(dataset):
    reader = make_reader(dataset)
    batches = [reader(step) for step in range(reader.plan.steps_per_epoch)]
    counts = [int(batch.targets.in_batch.sum()) for batch in batches]
    assert sorted(counts) == [5, 8, 8]
    last = batches[counts.index(5)]
    np.testing.assert_array_equal(last.targets.in_batch, np.arange(8) < 5)
    assert last.names[5:] == ["", "", ""]
    np.testing.assert_array_equal(last.images.valid_hw[5:], 1)
    np.testing.assert_array_equal(last.targets.count[5:], 0)
    assert not last.images.pixels[5:].any()
    names = sorted(name for batch in batches for name in batch.names if name)
    assert names == sorted(dataset.pictures.name(i) for i in range(COUNT))


@pytest.mark.parametrize("hosts", [1, 2, 8])
def test_the_parts_of_all_hosts_are_the_whole(dataset, hosts):
    whole = make_reader(dataset)
    parts = [make_reader(dataset, host=host, hosts=hosts) for host in range(hosts)]
    for step in range(whole.plan.steps_per_epoch):
        expected, mine = whole(step), [part(step) for part in parts]
        for kind in ("images", "targets"):
            for name, array in vars(getattr(expected, kind)).items():
                joined = np.concatenate([vars(getattr(part, kind))[name] for part in mine])
                np.testing.assert_array_equal(joined, array, err_msg=name)
        assert [name for part in mine for name in part.names] == expected.names
        assert {part.waste for part in mine} == {expected.waste}


@pytest.mark.parametrize(("threads", "prefetch"), [(1, 1), (3, 2)])
def test_threads_give_the_same_batches_wherever_they_start(dataset, threads, prefetch):
    reader = make_reader(dataset, config=ALL_OPTIONS)
    reading = ReadingConfig(threads=threads, prefetch=prefetch)
    batches = list(training_batches(reader, reading, first_step=0, last_step=7))
    assert [batch.step for batch in batches] == list(range(7))
    for batch in batches:
        assert_same(batch, reader(batch.step))
    again = list(training_batches(reader, reading, first_step=4, last_step=7))
    for batch, before in zip(again, batches[4:], strict=True):
        assert_same(batch, before)
    assert list(training_batches(reader, reading, first_step=7, last_step=7)) == []


BAD = {
    "missing": (lambda file: file.unlink(), OSError, r"No such file.*/{}"),
    "no picture": (lambda file: file.write_text("x"), ValueError, "{}: not a readable image"),
    "truncated": (
        lambda file: file.write_bytes(file.read_bytes()[:-200]),
        ValueError,
        r"{}: not a readable image \(image file is truncated",
    ),
    "another size": (
        lambda file: Image.new("RGB", (7, 9)).save(file),
        ValueError,
        r"{} is 7x9, but its annotations are of a picture of \d+x\d+",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_picture_stops_or_is_skipped(dataset, fault):
    spoil, kind, message = BAD[fault]
    good = make_reader(dataset)(0)
    first = good.names.index(next(name for name in good.names if name.endswith("1.jpg")))
    spoil(Path(good.names[first]))
    name = Path(good.names[first]).name
    with pytest.raises(kind, match=message.format(name)):
        make_reader(dataset)(0)
    batch = make_reader(dataset, on_bad="skip")(0)
    assert len(batch.unreadable) == 1
    assert name in batch.unreadable[0]
    np.testing.assert_array_equal(batch.targets.in_batch, np.arange(8) != first)
    assert batch.targets.count[first] == 0
    np.testing.assert_array_equal(batch.images.valid_hw[first], 1)
    assert batch.names == good.names
    for row in set(range(8)) - {first}:
        np.testing.assert_array_equal(batch.images.pixels[row], good.images.pixels[row])
        np.testing.assert_array_equal(batch.targets.boxes[row], good.targets.boxes[row])


def test_errors_in_threads_are_seen_as_they_are(dataset):
    reader = make_reader(dataset)
    file_of(dataset, 4).write_text("no picture")
    batches = training_batches(reader, ReadingConfig(), first_step=0, last_step=100)
    with pytest.raises(ValueError, match=r"4\.jpg: not a readable image"):
        list(batches)
    skipping = dataclasses.replace(reader, on_bad="skip")
    steps = reader.plan.steps_per_epoch
    batches = list(training_batches(skipping, ReadingConfig(), first_step=0, last_step=2 * steps))
    assert sum(len(batch.unreadable) for batch in batches) == 2


def prefetching():
    return [thread for thread in threading.enumerate() if "grain-prefetch" in thread.name]


@pytest.mark.parametrize("close", [True, False])
def test_threads_end_when_batches_are_no_longer_wanted(dataset, close):
    batches = training_batches(
        make_reader(dataset), ReadingConfig(threads=3), first_step=0, last_step=10_000
    )
    next(batches)
    assert prefetching()
    if close:
        batches.close()
    del batches
    until = time.monotonic() + 20
    while prefetching() and time.monotonic() < until:
        time.sleep(0.01)
    assert not prefetching()


def test_what_cannot_be(dataset):
    with pytest.raises(ValueError, match=r"batch_size is 8, and must be a multiple .* hosts, 3"):
        make_reader(dataset, hosts=3)
    with pytest.raises(ValueError, match="host is 2, expected 0 to 1"):
        make_reader(dataset, host=2, hosts=2)
    with pytest.raises(ValueError, match="on_bad is 'ignore'"):
        make_reader(dataset, on_bad="ignore")
    few = dataclasses.replace(make_reader(dataset, config=NO_CROP), max_targets=3)
    with pytest.raises(ValueError, match=r"\d\.jpg has 4 targets, more than the 3"):
        list(map(few, range(few.plan.steps_per_epoch)))
    for setting in ({"workers": -1}, {"threads": 0}, {"prefetch": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(setting))} is "):
            ReadingConfig(**setting)


@pytest.fixture
def flags_parsed():
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def assert_no_process():
    until = time.monotonic() + 30
    while multiprocessing.active_children() and time.monotonic() < until:
        time.sleep(0.05)
    assert not multiprocessing.active_children()


@pytest.mark.slow
@pytest.mark.parametrize("shared_memory", [0, 1 << 40])
@pytest.mark.parametrize("workers", [1, 3])
def test_processes_give_the_same_batches(
    dataset, flags_parsed, monkeypatch, workers, shared_memory
):
    usage = shutil.disk_usage("/")._replace(free=shared_memory)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    reader = make_reader(dataset, config=ALL_OPTIONS)
    reading = ReadingConfig(workers=workers, threads=2, prefetch=2)
    batches = list(training_batches(reader, reading, first_step=3, last_step=10))
    assert [batch.step for batch in batches] == list(range(3, 10))
    for batch in batches:
        assert_same(batch, reader(batch.step))
        assert type(batch.images.pixels) is np.ndarray
    assert_no_process()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_errors_in_processes_are_seen_as_they_are(dataset, flags_parsed, workers):
    reader = make_reader(dataset)
    file_of(dataset, 4).write_text("no picture")
    batches = training_batches(reader, ReadingConfig(workers=workers), first_step=0, last_step=1000)
    with pytest.raises(ValueError, match=r"4\.jpg: not a readable image"):
        list(batches)
    del batches
    assert_no_process()


@pytest.mark.slow
def test_processes_end_when_batches_are_no_longer_wanted_or_they_are_killed(dataset, flags_parsed):
    reader, reading = make_reader(dataset), ReadingConfig(workers=2)
    batches = training_batches(reader, reading, first_step=0, last_step=10_000)
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    batches.close()
    assert_no_process()
    batches = training_batches(reader, reading, first_step=0, last_step=10_000)
    next(batches)
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="terminated unexpectedly with exit code -9"):
        list(batches)
    assert_no_process()


PROGRAM = """
import pickle, sys
from absl import app
from anchor_detr_jax.data.pipeline import ReadingConfig, training_batches


def main(arguments):
    global batches
    reader = pickle.load(open(arguments[1], "rb"))
    reading = ReadingConfig(workers=int(arguments[2]))
    batches = training_batches(reader, reading, first_step=0, last_step=10_000)
    next(batches)
    raise RuntimeError("the run has failed")


if __name__ == "__main__":
    app.run(main)
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_program_that_fails_ends_with_its_own_error_alone(dataset, tmp_path, workers):
    (tmp_path / "reader").write_bytes(pickle.dumps(make_reader(dataset)))
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, tmp_path / "program.py", tmp_path / "reader", str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert "RuntimeError: the run has failed" in done.stderr
    assert "Exception ignored" not in done.stderr
