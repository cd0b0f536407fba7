"""One compiled program for each shape of batch, made explicitly and reported."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from anchor_detr_jax.structures import Images, Targets
from anchor_detr_jax.training.sharding import Placement
from anchor_detr_jax.training.state import TrainState
from anchor_detr_jax.training.step import StepMetrics, TrainStep

__all__ = [
    "Compilation",
    "CompiledSteps",
    "compile_times",
    "jitted_step",
    "planned_memory",
    "state_shapes",
]

_COMPILED = "/jax/core/compile/backend_compile_duration"
_SLOW = 0.1
"""Seconds below which a program is one of JAX's own small ones, or comes from its cache."""


@dataclass(frozen=True)
class Compilation:
    """A program that was made.

    Attributes:
        batch: images, height, width.
        seconds: that it took.
        number: which one it is in this run, counted from 1.
        memory: bytes that a device needs for it, state and batch included, or None where XLA does
            not say.
    """

    batch: tuple[int, int, int]
    seconds: float
    number: int
    memory: int | None

    def __str__(self) -> str:
        size = "x".join(map(str, self.batch))
        memory = f", {self.memory / 2**30:.2f} GiB" if self.memory else ""
        return f"compiled step {self.number} for {size} in {self.seconds:.1f} s{memory}"


class CompiledSteps:
    """A train step for batches of any of a plan's shapes.

    The state that goes in is given up: its memory becomes that of the state that comes out.

    Attributes:
        done: what was compiled so far.
    """

    def __init__(
        self,
        step: TrainStep,
        placement: Placement,
        shapes: TrainState,
        *,
        report: Callable[[Compilation], object],
    ):
        self._placement, self._report = placement, report
        self._state = shapes
        self._step = jitted_step(step, placement, shapes)
        self._programs: dict[tuple[int, ...], Callable[..., Any]] = {}
        self.done: list[Compilation] = []

    def __call__(
        self, state: TrainState, images: Images, targets: Targets
    ) -> tuple[TrainState, StepMetrics]:
        """Do a step, on this host's part of a batch; metrics are those of the whole batch."""
        images, targets = self._placement.put_batch((images, targets))
        shape = (*images.pixels.shape, targets.labels.shape[1])
        if shape not in self._programs:
            self._programs[shape] = self._compiled(images, targets)
        return self._programs[shape](state, images, targets)

    def _compiled(self, images: Images, targets: Targets) -> Callable[..., Any]:
        started = time.perf_counter()
        program = self._step.lower(self._state, images, targets).compile()
        b, h, w, _ = images.pixels.shape
        seconds, number = time.perf_counter() - started, len(self.done) + 1
        self.done.append(Compilation((b, h, w), seconds, number, planned_memory(program)))
        self._report(self.done[-1])
        return program


@contextmanager
def compile_times() -> Iterator[list[float]]:
    """The seconds that each program takes which is compiled meanwhile, wherever."""
    times: list[float] = []

    def note(event: str, duration_secs: float, **_: str | int) -> None:
        if event == _COMPILED and duration_secs >= _SLOW:
            times.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield times
    finally:
        jax.monitoring.unregister_event_duration_listener(note)


def jitted_step(step: TrainStep, placement: Placement, shapes: TrainState) -> Any:
    """`jax.jit` of a step; the old state's memory becomes the new one's.

    Args:
        step: to be compiled.
        placement: where a batch lies.
        shapes: of the state, with their places.
    """
    state, batch = jax.tree.map(lambda leaf: leaf.sharding, shapes), placement.batch()
    return jax.jit(
        step,
        donate_argnums=0,
        in_shardings=(state, batch, batch),
        out_shardings=(state, placement.whole),
    )


def planned_memory(program: Any) -> int | None:
    """Bytes of a device that a compiled program needs, as XLA planned it; None: it does not say."""
    try:
        plan = program.memory_analysis()
    except (NotImplementedError, RuntimeError):
        return None
    if plan is None:
        return None
    return int(
        plan.argument_size_in_bytes
        + plan.output_size_in_bytes
        + plan.temp_size_in_bytes
        - plan.alias_size_in_bytes
    )


def state_shapes(shapes: TrainState, placement: Placement) -> TrainState:
    """Shapes of a state (`jax.eval_shape`) with where each array is to lie."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(
            leaf.shape, np.dtype(leaf.dtype), sharding=sharding
        ),
        shapes,
        placement.state(shapes),
    )
