"""All measurements that were asked for, one after another."""

from __future__ import annotations

import dataclasses
import gc
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from anchor_detr_jax.benchmark.flops import count_detection, count_training_step
from anchor_detr_jax.benchmark.memory import load_program, memory_alone
from anchor_detr_jax.benchmark.opponents import Opponent
from anchor_detr_jax.benchmark.parts import detection_parts, step_parts
from anchor_detr_jax.benchmark.photographs import read_photographs
from anchor_detr_jax.benchmark.tasks import Measurement, Program, Task, made_images
from anchor_detr_jax.benchmark.timing import is_out_of_memory, stage, timed_in_turn
from anchor_detr_jax.training.config import TrainConfig

__all__ = ["DETECTION", "ON_DEVICE", "PHOTOGRAPHS", "STEP", "Plan", "measurements"]

DETECTION = "detection, host to host"
ON_DEVICE = "detection, on the device"
PHOTOGRAPHS = "photographs, host to host"
STEP = "training step"

_REPEATS = 10
"""Runs on an accelerator that are timed together, so that handing them over is not what counts."""

Side = Opponent | None
"""None: ours."""


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        configs: by name.
        precisions: of `tasks.PRECISIONS`.
        hw: size of the images for detection,
        step_hw: and for training steps.
        batch_sizes: for detection, ascending; a side stops at the first that does not fit.
        step_batch_size: images in a training step, over all devices.
        targets: boxes in each of its images.
        runs: timed runs at batch 1 and of steps; fewer of larger batches.
        opponents: to compare with.
        sections: of "inference", "train", "parts" and "memory".
        photographs: a folder, or None.
        data: folder and split of a data set whose pictures are to be read as for training, or None.
    """

    configs: Mapping[str, TrainConfig]
    precisions: Sequence[str]
    hw: tuple[int, int]
    step_hw: tuple[int, int]
    batch_sizes: Sequence[int]
    step_batch_size: int
    targets: int
    runs: int
    opponents: Sequence[Opponent]
    sections: frozenset[str]
    photographs: str | None = None
    data: tuple[str, str] | None = None


def measurements(plan: Plan) -> Iterator[Measurement]:
    """Each as soon as it is made; progress is said on the screen."""
    if plan.data:
        yield from _input_pipeline(plan, plan.data)
    for name, config in plan.configs.items():
        for precision in plan.precisions:
            config = dataclasses.replace(config, precision=precision)
            task = Task(name, config, precision, plan.hw)
            step = dataclasses.replace(
                task, hw=plan.step_hw, batch_size=plan.step_batch_size, targets=plan.targets
            )
            if "inference" in plan.sections:
                yield from _detection(plan, task)
            if plan.photographs:
                yield from _photographs(plan, task, plan.photographs)
            if "train" in plan.sections:
                yield from _step(plan, step)
            if "parts" in plan.sections:
                yield from _parts(plan, task, step)


def _detection(plan: Plan, task: Task) -> Iterator[Measurement]:
    """Batch 1 from host to host, and each batch size on the device."""
    sides = _sides(plan, DETECTION)
    for batch_size in plan.batch_sizes:
        batch = dataclasses.replace(task, batch_size=batch_size)
        programs, failures = _programs(ON_DEVICE, batch, sides)
        yield from failures
        if not programs:
            return
        yield from _detection_of_batch(plan, batch, programs)
        sides = list(programs)
        programs.clear()
        _free_memory()


def _detection_of_batch(
    plan: Plan, task: Task, programs: Mapping[Side, Program]
) -> Iterator[Measurement]:
    first, repeats = task.batch_size == 1, _repeats()
    images, runs = made_images(task), {}
    for side, program in programs.items():
        if first:
            runs[DETECTION, side] = lambda program=program: program.run(images)
        runs[ON_DEVICE, side] = lambda program=program: _repeat(program, repeats)
    count = plan.runs if first else max(3, plan.runs // task.batch_size)
    with stage(f"{task}: {count} runs of each in turn"):
        seconds = timed_in_turn(runs, count, warm_up=1)
    for (what, side), times in seconds.items():
        if what == ON_DEVICE:
            times = [one / repeats for one in times]
        found = _measured(task, what, side, programs[side], seconds=times)
        yield _with_memory(plan, task, found, side) if what == DETECTION else found


def _photographs(plan: Plan, task: Task, folder: str) -> Iterator[Measurement]:
    """Pictures one by one: ours padded to one of a few sizes, theirs each at its own."""
    pictures = read_photographs(folder, task.config.evaluation)
    own: dict[tuple[int, ...], Program] = {}
    for height, width in sorted({picture.pixels.shape[1:3] for picture in pictures}):
        sized = dataclasses.replace(task, hw=(height, width))
        programs, failures = _programs(PHOTOGRAPHS, sized, [None])
        if failures:
            yield from failures
            return
        own[height, width] = programs[None]
    eager = [side for side in _sides(plan, PHOTOGRAPHS) if side and not side.compiled]
    theirs, failures = _programs(PHOTOGRAPHS, task, eager)
    yield from failures
    seconds: dict[Side, list[float]] = {side: [] for side in (None, *theirs)}
    with stage(f"{task.name}, {task.precision}: {len(pictures)} photographs, sides in turn"):
        for images in pictures:
            programs = {None: own[images.pixels.shape[1:3]], **theirs}
            runs = {
                side: lambda program=program, images=images: program.run(images)
                for side, program in programs.items()
            }
            for side, times in timed_in_turn(runs, 1, warm_up=1).items():
                seconds[side] += times
    for side, times in seconds.items():
        note = f"{len(times)} photographs" + ("" if side else f", {len(own)} programs")
        found = _measured(task, PHOTOGRAPHS, side, seconds=times, note=note)
        compile_s = None if side else sum(program.compile_s or 0 for program in own.values())
        yield dataclasses.replace(found, hw=None, multiply_adds=None, compile_s=compile_s)


def _step(plan: Plan, task: Task) -> Iterator[Measurement]:
    programs, failures = _programs(STEP, task, _sides(plan, STEP))
    yield from failures
    with stage(f"{task}: {plan.runs} steps of each in turn"):
        runs = {side: program.run for side, program in programs.items()}
        seconds = timed_in_turn(runs, plan.runs, warm_up=1)
    for side, times in seconds.items():
        found = _measured(task, STEP, side, programs[side], seconds=times)
        yield _with_memory(plan, task, found, side)
    programs.clear()
    _free_memory()


def _parts(plan: Plan, task: Task, step: Task) -> Iterator[Measurement]:
    counted = count_detection(task.config.model, task.hw)._asdict()
    for sizes, function in ((task, detection_parts), (step, step_parts)):
        with stage(f"{sizes}: parts"):
            parts = function(sizes, plan.runs)
        for name, seconds in parts.items():
            found = _measured(sizes, f"part: {name}", None, seconds=seconds)
            own = counted.get(name.split()[0]) if sizes is task else None
            yield dataclasses.replace(found, multiply_adds=own)


def _input_pipeline(plan: Plan, data: tuple[str, str]) -> Iterator[Measurement]:
    """Processor time for each picture, by the first configuration's augmentation."""
    try:
        from anchor_detr_jax.benchmark.input_pipeline import input_seconds
    except ImportError as error:
        raise ValueError(f"the input pipeline needs a package that is not here: {error}") from None
    name, config = next(iter(plan.configs.items()))
    with stage(f"{name}: input pipeline, {data[0]}"):
        parts = input_seconds(*data, config)
    for part, seconds in parts.items():
        note = "processor time for a picture"
        yield Measurement(
            name, "", f"input: {part}", "ours", 1, None, seconds=(seconds,), note=note
        )


def _sides(plan: Plan, what: str) -> list[Side]:
    return [None, *(one for one in plan.opponents if one.has(_kind(what)))]


def _programs(
    what: str, task: Task, sides: Sequence[Side]
) -> tuple[dict[Side, Program], list[Measurement]]:
    """The programs of those sides that can run the task, and a row for each that cannot.

    Whatever fails in another's model ends no run of hours; ours may only lack memory.
    """
    programs, failures = {}, []
    for side in sides:
        try:
            with stage(f"{task}: {_label(side, what)}, {_kind(what)}, compilation"):
                program = load_program(_kind(what), task, side)()
                _repeat(program, _repeats())  # as much at a time as will be timed
            programs[side] = program
        except Exception as error:
            full = is_out_of_memory(error)
            if side is None and not full:
                raise
            lines = str(error).splitlines() or [type(error).__name__]
            note = "out of memory" if full else f"failed: {lines[0]}"
            failures.append(_measured(task, what, side, note=note))
    return programs, failures


def _measured(
    task: Task,
    what: str,
    side: Side,
    program: Program | None = None,
    *,
    seconds: Sequence[float] = (),
    note: str = "",
) -> Measurement:
    """A measurement of a task; the model's own count of multiply-adds only where it is ours."""
    count = count_training_step if what == STEP else _count_detection
    return Measurement(
        config=task.name,
        precision=task.precision,
        what=what,
        side=_label(side, what),
        batch_size=task.batch_size,
        hw=task.hw,
        seconds=seconds,
        multiply_adds=None if side else task.batch_size * count(task.config.model, task.hw),
        compiler_multiply_adds=program and program.count(),
        planned_bytes=program and program.planned_bytes,
        compile_s=program and program.compile_s,
        note=note,
    )


def _count_detection(model: Any, hw: tuple[int, int]) -> int:
    return count_detection(model, hw).total


def _with_memory(plan: Plan, task: Task, found: Measurement, side: Side) -> Measurement:
    if "memory" not in plan.sections:
        return found
    try:
        with stage(f"{task}: memory of {found.side}, {_kind(found.what)}"):
            memory = memory_alone(_kind(found.what), task, side)
    except ValueError as error:  # its times are good all the same
        print(error, file=sys.stderr)
        return dataclasses.replace(found, note="memory: failed")
    return dataclasses.replace(found, memory_bytes=memory)


def _kind(what: str) -> str:
    return "step" if what == STEP else "detection"


def _label(side: Side, what: str) -> str:
    return side.label(_kind(what)) if side else "ours"


def _repeat(program: Program, times: int) -> None:
    if program.on_device:
        program.on_device(times)


def _repeats() -> int:
    return 1 if jax.default_backend() == "cpu" else _REPEATS


def _free_memory() -> None:
    """Give back what PyTorch keeps of the memory that both sides share."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available():
        torch.cuda.empty_cache()
