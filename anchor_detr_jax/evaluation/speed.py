"""How fast a data set was run through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from anchor_detr_jax.devices import DetectedBatch

__all__ = ["BatchCost", "RunSpeed", "batch_cost", "run_speed"]


@dataclass(frozen=True)
class BatchCost:
    """What a batch took.

    Attributes:
        shape: of its pixels: a program was compiled for each.
        valid_pixels: those of images, not of padding.
        seconds: until the devices had it; for the first of a shape, its program's compilation.
    """

    shape: tuple[int, ...]
    valid_pixels: int
    seconds: float


@dataclass(frozen=True)
class RunSpeed:
    """How fast a run was.

    Attributes:
        images: how many were run.
        seconds: from the first file to the last detection.
        compiling: seconds of these in which a program was compiled, or read from a cache.
        programs: how many: one for each shape of a batch.
        padding: the share of the pixels that the devices saw for nothing, in [0, 1].
    """

    images: int
    seconds: float
    compiling: float
    programs: int
    padding: float

    def __str__(self) -> str:
        overall = self.images / max(self.seconds, 1e-9)
        compiled = self.images / max(self.seconds - self.compiling, 1e-9)
        return (
            f"{self.images} images in {self.seconds:.1f} s: {overall:.2f} images/s, {compiled:.2f} "
            f"without the {self.compiling:.1f} s of compilation (programs: {self.programs}); "
            f"{self.padding:.0%} of the pixels were padding"
        )


def batch_cost(found: DetectedBatch) -> BatchCost:
    """What a batch took; images that only filled it up are padding."""
    images, members = found.batch.images, len(found.batch.indices)
    valid_pixels = int(images.valid_hw[:members].prod(axis=1).sum())
    return BatchCost(images.pixels.shape, valid_pixels, found.handing_over)


def run_speed(images: int, seconds: float, batches: Sequence[BatchCost]) -> RunSpeed:
    """The speed of a run from its batches, in the order in which they ran."""
    first: dict[tuple[int, ...], float] = {}
    for batch in batches:
        first.setdefault(batch.shape, batch.seconds)
    pixels = sum(b.shape[0] * b.shape[1] * b.shape[2] for b in batches)
    return RunSpeed(
        images=images,
        seconds=seconds,
        compiling=sum(first.values(), 0.0),
        programs=len(first),
        padding=1 - sum(b.valid_pixels for b in batches) / pixels if pixels else 0.0,
    )
