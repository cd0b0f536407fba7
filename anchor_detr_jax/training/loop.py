"""A training run, from its first step or its last checkpoint to its end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from anchor_detr_jax.data.pipeline import TrainingBatch, training_batches
from anchor_detr_jax.training.checkpoints import RunCheckpoints, differences
from anchor_detr_jax.training.compiled import CompiledSteps, compile_times
from anchor_detr_jax.training.not_finite import check_finite
from anchor_detr_jax.training.rows import StepClock, metrics_row
from anchor_detr_jax.training.run import Run, write_settings
from anchor_detr_jax.training.run_log import RunLog
from anchor_detr_jax.training.signals import StopSignals
from anchor_detr_jax.training.state import TrainState
from anchor_detr_jax.training.step import StepMetrics
from anchor_detr_jax.training.validation import STAT_NAMES, Validation

__all__ = ["RunEnd", "train"]


@dataclass(frozen=True)
class RunEnd:
    """How a run ended.

    Attributes:
        step: how many steps are done.
        reason: "finished", "early stop", or the name of the signal that ended it.
        best: step and AP of the best checkpoint, if AP was measured.
    """

    step: int
    reason: str
    best: tuple[int, float] | None


def train(run: Run) -> RunEnd:
    """Train until the end, or until told to stop; go on where the folder's last checkpoint is.

    Raises:
        NonFiniteLossError: and the batch is written to the folder; checkpoints stay as they are.
        ValueError: if the folder holds a run of another model, or a picture cannot be read.
        OSError: if something cannot be written.
    """
    with (
        RunCheckpoints(run.folder, run.description, keep=run.config.checkpoint.keep) as checkpoints,
        StopSignals() as signals,
    ):
        step = checkpoints.latest_step()
        if step is None:
            state, notes = run.start()
            step = 0
        else:
            state, notes = checkpoints.restore(run.shapes), []
            step = int(state.step)
            notes.append(f"goes on after step {step}")
            if checkpoints.earlier:
                notes += differences(checkpoints.earlier, run.description)
        if jax.process_index() == 0:
            write_settings(run)
        say(*notes)
        with _open_log(run, step) as log:
            loop = _Loop(run, checkpoints, log, signals)
            return loop.until_end(state, step)


def say(*lines: str) -> None:
    """Tell the user, once for all hosts, above a progress bar if there is one."""
    if jax.process_index() == 0:
        for line in lines:
            tqdm.write(line)


def _open_log(run: Run, step: int) -> AbstractContextManager[RunLog | None]:
    """The log; the first host writes it for all."""
    config = run.config.log
    if jax.process_index():
        return nullcontext()
    return RunLog(
        run.folder,
        start_step=step,
        tensorboard=config.tensorboard,
        wandb_project=config.wandb_project,
        wandb_config=run.description.settings,
    )


class _Loop:
    """The loop's own state: what is in flight, and what has been measured."""

    def __init__(
        self,
        run: Run,
        checkpoints: RunCheckpoints,
        log: RunLog | None,
        signals: StopSignals,
    ):
        self.run, self.checkpoints, self.log, self.signals = run, checkpoints, log, signals
        self.programs = CompiledSteps(run.step, run.placement, run.shapes, report=self._compiled)
        self.clock = StepClock()
        self.in_flight: tuple[TrainingBatch, StepMetrics] | None = None
        self.without_gain = 0
        self.skipped: set[str] = set()

    def until_end(self, state: TrainState, step: int) -> RunEnd:
        """All remaining steps, with evaluations and checkpoints between them."""
        run, total = self.run, self.run.total_steps
        extra = self.checkpoints.extra(step) if step else {}  # noqa: S610 (no Django here)
        self.without_gain = extra.get("without_gain", 0)
        if self._evaluation_due(step) and not extra.get("evaluated"):
            self._evaluate(state, step)
        if self._patience_is_over():
            return self._end(step, "early stop")
        with (
            closing(
                training_batches(run.reader, run.reading, first_step=step, last_step=total)
            ) as batches,
            tqdm(total=total, initial=step, unit="step", disable=not _watched()) as bar,
        ):
            for batch in self._waited_for(batches):
                state = self._train(state, batch)
                step = batch.step + 1
                bar.update()
                stop = self.signals.stop_after(step)
                if stop or self._save_due(step) or self._evaluation_due(step):
                    self._check()
                    evaluate = self._evaluation_due(step) and not stop
                    self._save(state, step, evaluated=False)
                    if evaluate:
                        self._evaluate(state, step)
                if stop and self.signals.received:
                    return self._end(step, self.signals.received.name)
                if self._patience_is_over():
                    return self._end(step, "early stop")
        if self.signals.received and step < total:
            self._check()
            self._save(state, step, evaluated=False)
            return self._end(step, self.signals.received.name)
        return self._end(step, "finished")

    def _patience_is_over(self) -> bool:
        patience = self.run.config.checkpoint.early_stop
        return bool(patience) and self.without_gain >= patience

    def _train(self, state: TrainState, batch: TrainingBatch) -> TrainState:
        """One step; the one before it is looked at while the devices work."""
        compiling = sum(done.seconds for done in self.programs.done)
        state, metrics = self.programs(state, batch.images, batch.targets)
        self.clock.compiling += sum(done.seconds for done in self.programs.done) - compiling
        self._check()
        self.in_flight = batch, metrics
        self._skipped(batch.unreadable)
        return state

    def _check(self) -> None:
        """Wait for the step in flight; log it if its turn is come, and stop if it is not finite."""
        if self.in_flight is None:
            return
        batch, metrics = self.in_flight
        self.in_flight = None
        self.clock.steps += 1
        metrics, step = jax.device_get(metrics), batch.step + 1
        check_finite(batch, metrics, self.run.folder, self.checkpoints.latest_step())
        if step % self.run.config.log.every_steps == 0 or step == self.run.total_steps:
            row = metrics_row(metrics, self.run.schedules, batch.step)
            row |= {"epoch": step / self.run.plan.steps_per_epoch, "padding_waste": batch.waste}
            row |= self.clock.row(self.run.plan.batch_size)
            self._write("train", step, row)
            say(
                f"step {step}: loss {row['loss/total']:.3f}, class error "
                f"{row['class_error']:.1f} %, gradient {row['grad_norm']:.3g}, "
                f"{row['images_per_second']:.2f} images/s, {100 * row['data_wait']:.0f} % waiting"
            )

    def _waited_for(self, batches: Iterator[TrainingBatch]) -> Iterator[TrainingBatch]:
        while True:
            started = time.perf_counter()
            try:
                batch = next(batches, None)
            except RuntimeError:
                if self.signals.received is None:
                    raise
                return  # a signal to all processes has ended the reader's, too
            if batch is None:
                return
            self.clock.waiting += time.perf_counter() - started
            yield batch

    def _save_due(self, step: int) -> bool:
        config = self.run.config.checkpoint
        every = (config.every_steps, config.every_epochs * self.run.plan.steps_per_epoch)
        return step == self.run.total_steps or any(n and step % n == 0 for n in every)

    def _evaluation_due(self, step: int) -> bool:
        if self.run.validation is None or step == 0:
            return False
        every = self.run.config.eval_every * self.run.plan.steps_per_epoch
        return step == self.run.total_steps or bool(every and step % every == 0)

    def _save(self, state: TrainState, step: int, *, evaluated: bool, ap: float | None = None):
        extra: dict[str, Any] = {"evaluated": evaluated, "without_gain": self.without_gain}
        self.checkpoints.save(state, ap=ap, extra=extra)

    def _evaluate(self, state: TrainState, step: int) -> None:
        """AP of the state, a row of the log, pictures, and a checkpoint that knows its AP."""
        validation = self.run.validation
        if validation is None:
            return
        started = time.perf_counter()
        with compile_times() as compiling:
            scores, unreadable = validation.scores(state, progress=_watched())
        self._skipped(unreadable)
        best = self.checkpoints.best()
        self.without_gain = 0 if best is None or scores.ap > best[1] else self.without_gain + 1
        row = dict(zip(STAT_NAMES, scores.stats, strict=True))
        row["epoch"] = step / self.run.plan.steps_per_epoch
        self._write("eval", step, row)
        say(scores.summary)
        self._draw(validation, step)
        self._save(state, step, evaluated=True, ap=scores.ap)
        compiled = f", {sum(compiling):.1f} s of it to compile {len(compiling)} programs"
        say(
            f"evaluated after step {step} in {time.perf_counter() - started:.1f} s"
            + (compiled if compiling else "")
        )
        self.clock = StepClock()

    def _draw(self, validation: Validation, step: int) -> None:
        """Pictures of ground truth beside what was found, if their turn is come."""
        config = self.run.config
        steps_between = config.eval_every * self.run.plan.steps_per_epoch
        number = -(-step // steps_between) if steps_between else 1
        every = config.log.pictures_every
        if self.log and every and (number % every == 0 or step == self.run.total_steps):
            for i, picture in enumerate(validation.pictures(config.log.pictures)):
                self.log.picture(f"val{i}", step, picture)

    def _write(self, kind: str, step: int, row: dict[str, float]) -> None:
        if self.log:
            self.log.write(kind, step, row)

    def _skipped(self, messages: list[str]) -> None:
        """Say and write down what was left out, each once."""
        new = [message for message in messages if message not in self.skipped]
        self.skipped.update(new)
        if new:
            host = jax.process_index()
            _append(self.run.folder / ("skipped.txt" if host == 0 else f"skipped_{host}.txt"), new)
            say(*(f"skipped ({len(self.skipped)} so far): {message}" for message in new))

    def _compiled(self, done: object) -> None:
        say(f"{done} (at most {len(self.run.plan.buckets)} shapes)")

    def _end(self, step: int, reason: str) -> RunEnd:
        self._check()
        self.checkpoints.wait()
        return RunEnd(step, reason, self.checkpoints.best())


def _append(file: Path, lines: list[str]) -> None:
    with file.open("a", encoding="utf-8") as stream:
        stream.writelines(f"{line}\n" for line in lines)


def _watched() -> bool:
    """Whether someone looks at this host's progress bars."""
    return jax.process_index() == 0 and sys.stderr.isatty()
