"""A whole run: what it writes, how it goes on, and what ends it."""

import dataclasses
import os
import re
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from narrow_run import get_config

import anchor_detr_jax as ad
from anchor_detr_jax.data.pipeline import training_batches
from anchor_detr_jax.losses import Losses
from anchor_detr_jax.training import loop
from anchor_detr_jax.training.checkpoints import RunCheckpoints
from anchor_detr_jax.training.config import train_config_from_dict
from anchor_detr_jax.training.loop import train
from anchor_detr_jax.training.not_finite import NonFiniteLossError
from anchor_detr_jax.training.run import Run, prepare_run
from anchor_detr_jax.training.run_log import read_rows
from anchor_detr_jax.training.step import StepMetrics

TIMES = {"images_per_second", "seconds_per_step", "data_wait"}


def narrow_config(**changes):
    """The tests' configuration with some values changed, by their dotted names."""
    config = get_config()
    for name, value in changes.items():
        *path, last = name.split("__")
        part = config
        for step in path:
            part = part[step]
        part[last] = value
    return train_config_from_dict(config.to_dict())


def train_narrow(folder, **changes):
    run = prepare_run(narrow_config(**changes), folder)
    folder.mkdir(exist_ok=True)
    return run, train(run)


def train_idly(folder, *, broken_at: int = 0, **changes):
    """A run whose steps learn nothing: their losses say what was in the batch."""
    run = prepare_run(narrow_config(**changes), folder)

    def step(state, images, targets):
        is_broken = state.step + 1 == broken_at
        one = jnp.where(is_broken, jnp.nan, 1.0)
        seen = [jnp.mean(images.pixels, dtype=jnp.float32), *targets.boxes.sum((0, 1))]
        parts = {name: jnp.stack(seen[:2]) for name in ("classes", "l1", "giou")}
        losses = Losses(total=sum(seen), class_error=targets.labels.sum() * 1.0, **parts)
        trained = jax.tree.map(lambda leaf: leaf + one, state.trained)
        state = dataclasses.replace(state, step=state.step + 1, trained=trained)
        return state, StepMetrics(losses, grad_norm=one, update_norm=jnp.float32(1))

    def start():
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), run.shapes)
        return jax.device_put(zeros, jax.tree.map(lambda leaf: leaf.sharding, run.shapes)), []

    return train(dataclasses.replace(run, step=step, start=start))


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Six steps without a stop."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    run, end = train_narrow(folder)
    return folder, run, end


@pytest.fixture(scope="module")
def ended(straight):
    """The state after them."""
    folder, run, _ = straight
    return saved_state(run, folder)


def comparable(row: dict) -> dict:
    return {name: value for name, value in row.items() if name not in TIMES}


def test_a_run_finishes_and_says_so(straight, capsys):
    folder, _, end = straight
    assert (end.step, end.reason, end.best) == (6, "finished", None)
    rows = read_rows(folder / "train.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    for name in ("loss/total", "loss/classes_0", "class_error", "lr/backbone", "padding_waste"):
        assert all(np.isfinite(row[name]) for row in rows)
    assert rows[0]["epoch"] == pytest.approx(1 / 3)
    assert rows[-1]["loss/total"] != rows[0]["loss/total"]


def test_a_run_that_goes_on_ends_the_same_to_the_bit(straight, ended, tmp_path):
    folder, run, _ = straight
    _, first = train_narrow(tmp_path / "run", schedule__steps=2)
    assert first.step == 2
    _, second = train_narrow(tmp_path / "run")
    assert second.step == 6
    whole, parts = (read_rows(f / "train.jsonl") for f in (folder, tmp_path / "run"))
    assert list(map(comparable, parts)) == list(map(comparable, whole))
    parts = saved_state(run, tmp_path / "run")
    for expected, actual in zip(jax.tree.leaves(ended), jax.tree.leaves(parts), strict=True):
        np.testing.assert_array_equal(actual, expected)


def saved_state(run: Run, folder):
    with RunCheckpoints(folder, run.description) as checkpoints:
        return jax.device_get(checkpoints.restore(run.shapes))


def test_a_finished_run_stays_as_it_is(straight):
    folder, run, _ = straight
    before = (folder / "train.jsonl").read_text()
    assert train(run).step == 6
    assert (folder / "train.jsonl").read_text() == before


def test_a_run_is_a_detector(straight, ended):
    folder, run, _ = straight
    detector = ad.load(folder)
    assert ended.step == 6
    average = ended.average["class_head/kernel"]
    np.testing.assert_array_equal(detector.variables["params"]["class_head"]["kernel"], average)
    assert not np.array_equal(average, ended.trained["class_head/kernel"])
    assert detector.categories == run.dataset.categories


def test_frozen_parameters_stay(straight, ended):
    _, run, _ = straight
    begun, _ = run.start()
    assert any(name.startswith("backbone/layer1") for name in ended.fixed)
    for name, leaf in begun.fixed.items():
        np.testing.assert_array_equal(ended.fixed[name], leaf)
    moved = [name for name, leaf in begun.trained.items() if np.any(ended.trained[name] != leaf)]
    assert len(moved) > 0.9 * len(begun.trained)


def change_batches(monkeypatch, change):
    """Let the loop see other batches than were read."""

    def changed(*arguments, **steps):
        yield from map(change, training_batches(*arguments, **steps))

    monkeypatch.setattr(loop, "training_batches", changed)


def test_a_signal_saves_and_ends(tmp_path, monkeypatch):
    def interrupted(batch):
        if batch.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch

    change_batches(monkeypatch, interrupted)
    before = signal.getsignal(signal.SIGTERM)
    end = train_idly(tmp_path)
    assert (end.reason, end.step) == ("SIGTERM", 3)
    assert signal.getsignal(signal.SIGTERM) is before
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["3"]


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path, monkeypatch):
    def poisoned(batch):
        if batch.step != 2:
            return batch
        boxes = np.full_like(batch.targets.boxes, np.nan)
        return dataclasses.replace(batch, targets=dataclasses.replace(batch.targets, boxes=boxes))

    change_batches(monkeypatch, poisoned)
    run = prepare_run(narrow_config(checkpoint__every_steps=1), tmp_path / "run")
    with pytest.raises(NonFiniteLossError, match=r"step 3: .*nan") as raised:
        train(run)
    file = re.search(r"in (\S+\.npz)", str(raised.value)).group(1)
    with np.load(file) as batch:
        assert np.isnan(batch["boxes"]).all()
        assert all(name in str(raised.value) for name in batch["names"])
    assert int(saved_state(run, tmp_path / "run").step) == 2


def test_another_model_is_refused_with_the_difference(straight):
    folder, _, _ = straight
    with pytest.raises(ValueError, match=r"num_anchors.*40.*41"):
        train_narrow(folder, model__num_anchors=41)
