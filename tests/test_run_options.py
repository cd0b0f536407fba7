"""What settings make of a whole run: when it saves, evaluates and ends, and how it reads."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from absl import flags
from PIL import Image
from test_training_run import comparable, saved_state, train_idly, train_narrow

import anchor_detr_jax as ad
from anchor_detr_jax.training import loop
from anchor_detr_jax.training.not_finite import NonFiniteLossError
from anchor_detr_jax.training.run_log import read_rows
from anchor_detr_jax.training.validation import STAT_NAMES, Validation

MEASURED = Validation.scores
EVALUATED = {"data__val_split": "val2017", "log__pictures_every": 0}


def saved_steps(folder) -> list[int]:
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir())


def rows_of(folder, kind="train") -> list[dict]:
    return [comparable(row) for row in read_rows(folder / f"{kind}.jsonl")]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Nine steps, an evaluation after three, six and nine, of which the second is said to be best.

    Weights that have hardly learned have no AP to speak of.
    """
    folder, aps, said = tmp_path_factory.mktemp("evaluated") / "run", iter((0.1, 0.3, 0.2)), []

    def graded(self, state, **options):
        scores, unreadable = MEASURED(self, state, **options)
        stats = [next(aps), *scores.stats[1:]]
        return dataclasses.replace(scores, stats=stats), unreadable

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Validation, "scores", graded)
        patch.setattr(loop, "say", lambda *lines: said.extend(lines))
        run, end = train_narrow(
            folder,
            data__val_split="val2017",
            schedule__epochs=3,
            log__pictures_every=2,
            log__pictures=2,
            checkpoint__keep=1,
        )
    return folder, run, end, said


def test_evaluations_are_written_down(evaluated):
    folder, _, end, said = evaluated
    rows = read_rows(folder / "eval.jsonl")
    assert [(row["step"], row["epoch"], row["AP"]) for row in rows] == [
        (3, 1, 0.1), (6, 2, 0.3), (9, 3, 0.2)
    ]  # fmt: skip
    for row in rows:
        assert {*STAT_NAMES} == row.keys() - {"step", "epoch"}
        assert all(-1 <= row[name] <= 1 for name in STAT_NAMES)
    assert (end.reason, end.best) == ("finished", (6, 0.3))
    times = [line for line in said if line.startswith("evaluated after step")]
    assert len(times) == 3
    assert not any("to compile" in line for line in times[1:])  # the first one did it for all


def test_the_best_checkpoint_is_loaded(evaluated):
    folder, run, _, _ = evaluated
    assert saved_steps(folder) == [6, 9]
    best, last = ad.load(folder), ad.load(folder, which="last")
    assert (best.source["step"], best.source["ap"]) == (6, 0.3)
    assert (last.source["step"], last.source["ap"]) == (9, 0.2)
    average = saved_state(run, folder).average["class_head/bias"]
    np.testing.assert_array_equal(last.variables["params"]["class_head"]["bias"], average)
    assert np.any(best.variables["params"]["class_head"]["bias"] != average)


def test_pictures_are_drawn_at_every_second_evaluation_and_the_last(evaluated):
    folder, _, _, _ = evaluated
    drawn = sorted((folder / "pictures").iterdir())
    assert [path.name for path in drawn] == [
        f"val{i}_{step:08d}.jpg" for i in (0, 1) for step in (6, 9)
    ]
    with Image.open(drawn[0]) as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 100


def give_scores(monkeypatch, aps) -> list[int]:
    """Let evaluations find these APs, or raise them; the steps that are evaluated."""
    aps, steps = iter(aps), []

    def scores(self, state, **options):
        steps.append(int(state.step))
        ap = next(aps)
        if isinstance(ap, Exception):
            raise ap
        return SimpleNamespace(ap=ap, stats=[ap] * 12, summary=f"AP {ap}"), []

    monkeypatch.setattr(Validation, "scores", scores)
    return steps


def test_early_stop(tmp_path, monkeypatch):
    steps = give_scores(monkeypatch, (0.1, 0.3, 0.2, 0.3))
    options = {"schedule__epochs": 9, "checkpoint__early_stop": 2, **EVALUATED}
    end = train_idly(tmp_path, **options)
    assert (end.step, end.reason, end.best) == (12, "early stop", (6, 0.3))
    assert steps == [3, 6, 9, 12]
    assert train_idly(tmp_path, **options) == end  # which it remembers
    assert steps == [3, 6, 9, 12]


def test_an_evaluation_that_was_cut_short_is_done_on_resume(tmp_path, monkeypatch):
    steps = give_scores(monkeypatch, (RuntimeError("killed"), 0.2, 0.1))
    with pytest.raises(RuntimeError, match="killed"):
        train_idly(tmp_path, **EVALUATED)
    assert saved_steps(tmp_path) == [3]
    end = train_idly(tmp_path, **EVALUATED)
    assert steps == [3, 3, 6]
    assert [row["AP"] for row in read_rows(tmp_path / "eval.jsonl")] == [0.2, 0.1]
    assert end.best == (3, 0.2)


@pytest.fixture(scope="module")
def saved_by_steps(tmp_path_factory):
    """Seven steps in epochs of three, saved after every second one."""
    folder = tmp_path_factory.mktemp("steps") / "run"
    options = {"checkpoint__every_steps": 2, "checkpoint__every_epochs": 0, "checkpoint__keep": 9}
    train_idly(folder, schedule__steps=7, **options)
    return folder


def test_saved_by_steps_alone(saved_by_steps):
    assert saved_steps(saved_by_steps) == [2, 4, 6, 7]


def test_ways_of_reading_change_no_row(saved_by_steps, tmp_path):
    """And checkpoints are saved after every second epoch, and at the end."""
    options = {"data__keep_empty": False, "data__cache_gb": 1e-3, "data__threads": 1}
    train_idly(tmp_path, schedule__steps=7, checkpoint__every_epochs=2, **options)
    assert rows_of(tmp_path) == rows_of(saved_by_steps)
    assert saved_steps(tmp_path) == [6, 7]


@pytest.mark.slow
def test_processes_change_no_row(saved_by_steps, tmp_path):
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    train_idly(tmp_path, schedule__steps=7, data__workers=2, data__cache_gb=1e-3)
    assert rows_of(tmp_path) == rows_of(saved_by_steps)


def test_a_gradient_that_is_not_finite_ends_the_run(tmp_path):
    """The loss of the step is finite; what would have been saved after it is not."""
    with pytest.raises(NonFiniteLossError, match=r"step 3: the loss is \d.*norm nan.* of step 2 "):
        train_idly(tmp_path, broken_at=3, checkpoint__every_steps=1)
    with np.load(tmp_path / "not_finite_step_3_host_0.npz") as batch:
        assert batch["pixels"].shape == (2, 128, 128, 3)
        assert batch["pixels"].any()
    assert saved_steps(tmp_path) == [1, 2]
    assert [row["step"] for row in read_rows(tmp_path / "train.jsonl")] == [1, 2]
    for leaf in jax.tree.leaves(ad.load(tmp_path).variables):
        assert np.isfinite(leaf).all()
