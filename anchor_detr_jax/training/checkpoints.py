"""Checkpoints of a run: written while training goes on, whole or not at all, and read again."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from anchor_detr_jax.checkpoint import DamagedCheckpointError, check_arrays, said_in_one_line
from anchor_detr_jax.run_folder import (
    ABOUT,
    CHECKPOINTS,
    About,
    RunDescription,
    about_file,
    best_step,
    check_same_model,
    differences,
    finished_steps,
    read_about,
)
from anchor_detr_jax.training.first_host import from_first_host
from anchor_detr_jax.training.orbax_errors import quiet_orbax, system_error
from anchor_detr_jax.training.state import TrainState
from anchor_detr_jax.training.state_trees import by_tree, check_same_arrays, described, refilled
from anchor_detr_jax.whole_files import file_written_whole

__all__ = ["RunCheckpoints", "RunDescription", "differences"]


class RunCheckpoints:
    """The checkpoints of one run: the latest ones, and the best by AP.

    On several hosts, all of them make one, and call the same methods; what is there and whether it
    is whole is for the first one to say. Later checkpoints than the step that was restored or saved
    last do not count: they are damaged or given up, and removed at the next save.

    Attributes:
        earlier: what the folder says the run is; None for a new one.
    """

    def __init__(self, folder: Path, description: RunDescription, *, keep: int = 2) -> None:
        """Open a run's folder, or begin one.

        Args:
            folder: of the run; checkpoints go to `checkpoints/` in it.
            description: of the run as it is now.
            keep: latest checkpoints that are kept, beside the best one.

        Raises:
            ValueError: if the run there has another model or other categories.
            OSError: if the folder cannot be made or read.
        """
        if keep < 1:
            raise ValueError(f"keep is {keep}, and must be at least 1")
        self._run = Path(folder).resolve()  # TensorStore takes no ".."
        self._description = description
        self._last: int | None = None
        abouts = from_first_host(self._readable)
        self.earlier: RunDescription | None = None
        if abouts:
            self.earlier = abouts[max(abouts)].run
            check_same_model(self.earlier, description, self._run)
        self._kept = _LatestAndBest(keep, {step: about.ap for step, about in abouts.items()})
        quiet_orbax()
        self._manager = ocp.CheckpointManager(
            self._run / CHECKPOINTS,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=self._kept,
                cleanup_tmp_directories=True,
                save_root_metadata=False,
                single_host_load_and_broadcast=True,
            ),
        )

    def __enter__(self) -> RunCheckpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def latest_step(self) -> int | None:
        """The step of the last checkpoint, be it still on its way to the disk."""
        return max(self._steps(), default=None)

    def best(self) -> tuple[int, float] | None:
        """Step and AP of the best checkpoint that is there; None where no AP is known."""
        step = best_step(self._kept.scores, self._steps())
        ap = None if step is None else self._kept.scores[step]
        return None if step is None or ap is None else (step, ap)

    def extra(self, step: int) -> dict[str, Any]:
        """What was given to `save` with a step.

        Raises:
            ValueError: if there is no such checkpoint, or it cannot be read.
        """
        self.wait()
        return from_first_host(lambda: read_about(self._run, step)).extra

    def restore(self, like: TrainState, step: int | None = None) -> TrainState:
        """A state from disk, to the bit as it was saved, by however many hosts or devices.

        A moving average that is new to the run starts as a copy of the weights.

        Args:
            like: `jax.ShapeDtypeStruct`s that say where each array is to lie.
            step: which one; None: the last that can be read, with a warning if it is not the last.

        Raises:
            ValueError: if there is none that can be read, or its arrays are not those of `like`.
        """
        self.wait()
        steps = self._steps()[::-1] if step is None else [step]
        faults: list[str] = []
        for candidate in steps:
            try:
                state = self._read(candidate, like)
            except DamagedCheckpointError as error:
                faults.append(str(error))
                continue
            if faults:
                warnings.warn(f"{faults[0]}; goes back to step {candidate}", stacklevel=2)
            self._last = candidate
            return state
        found = "; ".join(faults) if faults else "there is none"
        raise ValueError(f"{self._run} has no checkpoint that can be restored: {found}")

    def save(
        self, state: TrainState, *, ap: float | None = None, extra: dict[str, Any] | None = None
    ) -> None:
        """Write a state in the background; its arrays may be donated at once.

        A step that was saved already is not written again: its AP and `extra` are added.

        Args:
            state: a whole one.
            ap: COCO's AP of its weights, if it was measured.
            extra: what JSON can hold, to be remembered with it.

        Raises:
            ValueError: if the folder has checkpoints and none of them was restored.
            OSError: if this checkpoint, or the one before it, cannot be written.
        """
        step = int(state.step)
        ap = float(ap) if ap is not None and math.isfinite(ap) else None
        extra = None if extra is None else json.loads(json.dumps(extra))  # as it is now
        self.wait()
        if step == self._last and step in self._manager.all_steps():
            self._amend(step, ap, extra)
            return
        self._give_up_from(step)
        arrays = by_tree(state)
        about = About(self._description, ap, extra or {}, described(arrays))
        trees = {tree: ocp.args.StandardSave(named) for tree, named in arrays.items()}
        said = {ABOUT: ocp.args.JsonSave(about.to_json())}
        self._kept.scores[step] = ap
        with self._written(step):
            self._manager.save(step, args=ocp.args.Composite(**trees, **said), force=True)
        self._last = step

    def wait(self) -> None:
        """Until all is on disk.

        Raises:
            OSError: if it could not be written; what was there before still is.
        """
        with self._written(self._last):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait, and end the threads.

        Raises:
            OSError: as by `wait`.
        """
        try:
            self.wait()
        finally:
            self._manager.close()

    def _steps(self) -> list[int]:
        steps = sorted(self._manager.all_steps())
        return [step for step in steps if self._last is None or step <= self._last]

    def _readable(self) -> dict[int, About]:
        """What the checkpoints say of themselves, of those that can be read."""
        found = {}
        for step in finished_steps(self._run):
            with suppress(DamagedCheckpointError):  # `restore` says so, if it comes to it
                found[step] = read_about(self._run, step)
        return found

    def _read(self, step: int, like: TrainState) -> TrainState:
        folder, wanted = self._run / CHECKPOINTS / str(step), by_tree(like)
        about = from_first_host(lambda: _checked(self._run, step, wanted))
        new_average = "average" in wanted and "average" not in about.arrays
        if new_average:
            del wanted["average"]
        check_same_arrays(wanted, about.arrays, folder)
        trees = {tree: ocp.args.StandardRestore(named) for tree, named in wanted.items()}
        try:
            with said_in_one_line(folder):
                found = self._manager.restore(step, args=ocp.args.Composite(**trees))
        except DamagedCheckpointError as error:
            if jax.process_count() == 1:
                raise
            # The first host has read it, and does not go back with this one.
            raise OSError(str(error)) from error
        restored = dict(found.items())
        if new_average:
            restored["average"] = jax.tree.map(jnp.copy, restored["trained"])
        return refilled(like, restored)

    def _amend(self, step: int, ap: float | None, extra: dict[str, Any] | None) -> None:
        """Add to what a checkpoint says of itself."""

        def amended() -> About:
            about = read_about(self._run, step)
            about = dataclasses.replace(
                about,
                ap=about.ap if ap is None else ap,
                extra=about.extra if extra is None else extra,
            )
            with file_written_whole(about_file(self._run, step)) as file:
                file.write(json.dumps(about.to_json()).encode())
            return about

        self._kept.scores[step] = from_first_host(amended).ap

    def _give_up_from(self, step: int) -> None:
        """Remove what is in the way of a checkpoint: later ones, after a return to an earlier."""
        there = self._manager.all_steps()
        if there and (self._last is None or step < self._last):
            raise ValueError(
                f"{self._run} has checkpoints up to step {max(there)}, so step {step} cannot be "
                "saved; restore one first, or choose another folder"
            )
        for later in there:
            if later >= step:
                self._manager.delete(later)
                self._kept.scores.pop(later, None)

    @contextmanager
    def _written(self, step: int | None) -> Iterator[None]:
        """Whatever goes wrong in writing is an OSError that names the folder."""
        try:
            yield
        except Exception as error:
            if jax.process_count() == 1:  # several end with it, and cannot ask each other here
                self._manager.reload()
                self._kept.scores.clear()
                self._kept.scores.update((s, a.ap) for s, a in self._readable().items())
            what = f"the checkpoint of step {step} could not be written"
            number = system_error(error)
            if number is None:
                raise OSError(f"{self._run / CHECKPOINTS}: {what} ({error})") from error
            said = f"{os.strerror(number)}; {what}"
            raise OSError(number, said, str(self._run / CHECKPOINTS)) from error


@dataclass(frozen=True)
class _LatestAndBest:
    """Which checkpoints stay; `scores` is AP by step."""

    keep: int
    scores: dict[int, float | None]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: object) -> list[bool]:
        """One answer for each checkpoint; Orbax asks."""
        del context
        steps = [checkpoint.step for checkpoint in checkpoints]
        stay = {*sorted(steps)[-self.keep :], best_step(self.scores, steps)}
        return [step in stay for step in steps]


def _checked(run: Path, step: int, trees: Iterable[str]) -> About:
    """What a checkpoint says of itself, once all of these trees that it has could be read."""
    about = read_about(run, step)
    for tree in trees:
        if tree in about.arrays:
            check_arrays(run / CHECKPOINTS / str(step) / tree)
    return about
