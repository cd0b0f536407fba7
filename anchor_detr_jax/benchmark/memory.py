"""How much memory a program takes: measured in a process of its own, for both sides alike.

On the CPU it is the peak of the resident size, after warm-up, less what stood after loading when
all that was freed by then had been given back to the system: else as much of what a run needs would
be found there, unseen. On other devices it is the peak that the allocator has seen. Programs come
from JAX's compilation cache.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from anchor_detr_jax.benchmark.opponents import Opponent
from anchor_detr_jax.benchmark.ours import load_detection, load_step
from anchor_detr_jax.benchmark.tasks import Program, Task, made_images
from anchor_detr_jax.host_memory import give_back_freed_memory
from anchor_detr_jax.training.config import train_config_from_dict, train_config_to_dict

__all__ = ["load_program", "measured_here", "memory_alone"]

_WHAT = ("detection", "step")


def memory_alone(what: str, task: Task, opponent: Opponent | None) -> int | None:
    """Bytes at the peak of a run, in a process of its own; None where the system does not say.

    Args:
        what: "detection" or "step".
        task: of what.
        opponent: whose; None: ours.

    Raises:
        ValueError: if that process fails; with what it said.
    """
    job = {
        "what": what,
        "task": {**dataclasses.asdict(task), "config": train_config_to_dict(task.config)},
        "opponent": opponent and dataclasses.asdict(opponent),
    }
    command = [sys.executable, "-m", "anchor_detr_jax.benchmark.memory", json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise ValueError(f"measuring the memory of {what} for {task} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def load_program(what: str, task: Task, opponent: Opponent | None) -> Callable[[], Program]:
    """One side's model, loaded; called, its program is there."""
    if what not in _WHAT:
        raise ValueError(f"what is {what!r}, and must be one of {_WHAT}")
    if opponent:
        return opponent.load_detection(task) if what == "detection" else opponent.load_step(task)
    return load_detection(task) if what == "detection" else load_step(task)


def measured_here(what: str, task: Task, opponent: Opponent | None) -> int | None:
    """Bytes at the peak of a run in this process, less what stood before its first one."""
    loaded = load_program(what, task, opponent)
    meter = _Resident() if jax.default_backend() == "cpu" else _Allocated(opponent is not None)
    if not meter.works():
        return None
    give_back_freed_memory()
    before = meter.now()
    program = loaded()
    arguments = (made_images(task),) if what == "detection" else ()
    program.run(*arguments)
    meter.start()
    for _ in range(2):
        program.run(*arguments)
    return meter.peak() - before


class _Resident:
    """The resident size of this process, as Linux knows it."""

    def works(self) -> bool:
        return Path("/proc/self/clear_refs").exists()

    def now(self) -> int:
        return _status("VmRSS")

    def start(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here

    def peak(self) -> int:
        return _status("VmHWM")


class _Allocated:
    """The memory of a device, as the allocator of JAX or PyTorch knows it."""

    def __init__(self, of_torch: bool) -> None:
        self._torch: Any = sys.modules["torch"] if of_torch else None

    def works(self) -> bool:
        return bool(self._torch or jax.devices()[0].memory_stats())

    def now(self) -> int:
        if self._torch:
            return self._torch.cuda.memory_allocated()
        return self._stats()["bytes_in_use"]

    def start(self) -> None:
        if self._torch:
            self._torch.cuda.reset_peak_memory_stats()  # JAX's peak cannot be set back

    def peak(self) -> int:
        if self._torch:
            return self._torch.cuda.max_memory_allocated()
        return self._stats()["peak_bytes_in_use"]

    def _stats(self) -> dict[str, int]:
        return jax.devices()[0].memory_stats() or {}


def _status(field: str) -> int:
    """A size of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise ValueError(f"this system does not say {field}")


def _main(text: str) -> None:
    job = json.loads(text)
    values = {**job["task"], "hw": tuple(job["task"]["hw"])}
    task = Task(**{**values, "config": train_config_from_dict(values["config"])})
    opponent = Opponent(**job["opponent"]) if job["opponent"] else None
    print(json.dumps(measured_here(job["what"], task, opponent)))


if __name__ == "__main__":
    _main(sys.argv[1])
