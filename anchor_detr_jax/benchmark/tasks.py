"""What is to be measured, and what was."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from anchor_detr_jax.models.build import ModelConfig, variable_shapes
from anchor_detr_jax.structures import Images, Targets
from anchor_detr_jax.training.config import TrainConfig

__all__ = [
    "PRECISIONS",
    "Measurement",
    "Program",
    "Task",
    "made_images",
    "made_targets",
    "made_variables",
    "median_ratio",
]

PRECISIONS = ("float32", "tensorfloat32", "bfloat16")


@dataclass(frozen=True)
class Task:
    """A batch for a model.

    Attributes:
        name: of the configuration, such as anchor_detr_r50_dc5.
        config: the configuration.
        precision: one of `PRECISIONS`.
        hw: height and width of the images, in pixels.
        batch_size: images at a time.
        targets: boxes in each image, for a training step.
    """

    name: str
    config: TrainConfig
    precision: str
    hw: tuple[int, int]
    batch_size: int = 1
    targets: int = 7

    def __str__(self) -> str:
        size = "x".join(map(str, self.hw))
        return f"{self.name}, {self.precision}, batch {self.batch_size} of {size}"


@dataclass(frozen=True)
class Program:
    """What a model does for a task, ready to be timed.

    Attributes:
        run: from arrays on the host to a result on the host. Of `Images` for detection; of nothing
            for a training step, which has its batch.
        on_device: the same so many times, one right after the other, with arrays that are on the
            device already; None where there is no such thing.
        compile_s: seconds that compilation took; for PyTorch, the first run.
        count: gives the multiply-adds of the batch, as the compiler counts them; None where it does
            not.
        planned_bytes: memory at the fullest moment, as the compiler plans it.
    """

    run: Callable[..., Any]
    on_device: Callable[[int], Any] | None = None
    compile_s: float | None = None
    count: Callable[[], float | None] = lambda: None
    planned_bytes: int | None = None


@dataclass(frozen=True)
class Measurement:
    """A row of the table.

    Attributes:
        config, precision, batch_size: of the task.
        what: was measured.
        side: "ours", or what it is compared with.
        hw: the images' size; None where they have several.
        seconds: of each run. The runs of several sides took turns.
        multiply_adds: of the batch by the model's own formula,
        compiler_multiply_adds: and as the compiler counts them.
        memory_bytes: at the peak, less what stood after loading.
        planned_bytes: at the peak, as the compiler planned it.
        compile_s: seconds of compilation.
        note: what else is to be said.
    """

    config: str
    precision: str
    what: str
    side: str
    batch_size: int
    hw: tuple[int, int] | None
    seconds: Sequence[float] = field(default=())
    multiply_adds: int | None = None
    compiler_multiply_adds: float | None = None
    memory_bytes: int | None = None
    planned_bytes: int | None = None
    compile_s: float | None = None
    note: str = ""

    @property
    def median(self) -> float | None:
        """Seconds; None where nothing was timed."""
        return statistics.median(self.seconds) if self.seconds else None

    @property
    def p95(self) -> float | None:
        """Seconds that 95 of 100 runs keep within; between two runs, in proportion."""
        return float(np.percentile(self.seconds, 95)) if self.seconds else None

    @property
    def images_per_second(self) -> float | None:
        """By the median."""
        return self.batch_size / self.median if self.median else None

    def share_of(self, peak: float | None) -> float | None:
        """The part of a device's peak, in FLOP/s (a multiply-add is two), that was used."""
        if not (peak and self.median and self.multiply_adds):
            return None
        return 2 * self.multiply_adds / self.median / peak


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios of two sides' runs, which took turns.

    What slows a busy machine for a while slows both of a pair.
    """
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def made_images(task: Task) -> Images:
    """A batch of noise; host arrays."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (task.batch_size, *task.hw, 3), np.uint8)
    return Images(pixels, np.full((task.batch_size, 2), task.hw, np.int32))


def made_targets(task: Task) -> Targets:
    """Boxes of middling sizes, and labels of any class; host arrays."""
    rng, shape = np.random.default_rng(1), (task.batch_size, task.targets)
    centres, sides = rng.uniform(0.3, 0.7, (*shape, 2)), rng.uniform(0.05, 0.5, (*shape, 2))
    return Targets(
        np.concatenate([centres, sides], axis=2).astype(np.float32),
        rng.integers(0, task.config.model.num_classes, shape).astype(np.int32),
        np.full(task.batch_size, task.targets, np.int32),
    )


def made_variables(config: ModelConfig) -> dict[str, Any]:
    """Variables about as training starts with; host arrays.

    By numpy: a compiled program would leave freed memory behind, in which what is measured next
    would find room unseen.
    """
    rng = np.random.default_rng(2)

    def made(path: Sequence[Any], leaf: Any) -> np.ndarray:
        name = path[-1].key
        if name in ("scale", "var"):
            return np.ones(leaf.shape, leaf.dtype)
        if name in ("bias", "mean"):
            return np.zeros(leaf.shape, leaf.dtype)
        if name != "kernel":  # points among them, which lie between 0 and 1
            return rng.random(leaf.shape, leaf.dtype)
        deviation = np.prod(leaf.shape[:-1]) ** -0.5
        return rng.standard_normal(leaf.shape, leaf.dtype) * leaf.dtype.type(deviation)

    return jax.tree_util.tree_map_with_path(made, variable_shapes(config))
