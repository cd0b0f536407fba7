"""How batches run on all of a process's devices."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from anchor_detr_jax.data.batching import Batch
from anchor_detr_jax.structures import RankedDetections

__all__ = ["DetectedBatch", "LocalDevices", "one_ahead", "unbatched"]

T = TypeVar("T")

_SPLIT, _WHOLE = PartitionSpec("data"), PartitionSpec()


@dataclass(frozen=True)
class DetectedBatch:
    """What was found in a batch.

    Attributes:
        batch: the images; those that only filled it up come last.
        ranked: a row for each image of the batch.
        handing_over: the seconds until the devices had it, in which a batch's program is compiled
            where there is none for its shape.
    """

    batch: Batch
    ranked: RankedDetections
    handing_over: float


class LocalDevices:
    """The devices of this process: a batch is split over them, variables stand whole on each.

    With one device nothing is moved or copied.

    Attributes:
        count: how many they are.
    """

    def __init__(self) -> None:
        devices = jax.local_devices()
        mesh = Mesh(np.array(devices), ("data",))
        self.count = len(devices)
        self._split = NamedSharding(mesh, _SPLIT)
        self._whole = NamedSharding(mesh, _WHOLE)
        self._given: list[jax.Array] = []
        self._copied: list[jax.Array] = []

    def compiled(self, detect: Callable[..., RankedDetections]) -> Callable[..., RankedDetections]:
        """`jax.jit` of a function of variables, images, original_hw, columns and a static `count`.

        Each device runs it on its own images, and none waits for another: left to itself, XLA
        gathers everyone's logits before `top_k`.
        """
        if self.count == 1:
            return jax.jit(detect, static_argnames="count")

        def on_each(*arrays: Any, count: int) -> RankedDetections:
            return jax.shard_map(
                partial(detect, count=count),
                mesh=self._split.mesh,
                in_specs=(_WHOLE, _SPLIT, _SPLIT, _WHOLE),
                out_specs=_SPLIT,
                check_vma=False,  # the loops in the model start from constants
            )(*arrays)

        return jax.jit(on_each, static_argnames="count")

    def rounded(self, batch_size: int) -> int:
        """The next larger batch that has as many images for each device."""
        return -(-batch_size // self.count) * self.count

    def split(self, batch: T) -> T:
        """Arrays of a batch, an equal part of their first axis on each device."""
        return batch if self.count == 1 else jax.device_put(batch, self._split)

    def copied(self, variables: T) -> T:
        """Variables, whole on each device; kept, and copied anew when any of them is another."""
        if self.count == 1:
            return variables
        leaves, structure = jax.tree.flatten(variables)
        if len(leaves) != len(self._given) or not all(map(_is, leaves, self._given)):
            self._given, self._copied = leaves, jax.device_put(leaves, self._whole)
        return jax.tree.unflatten(structure, self._copied)


def one_ahead(
    program: Callable[[Batch], RankedDetections], batches: Iterable[Batch]
) -> Iterator[DetectedBatch]:
    """What a program finds in each batch, as host arrays.

    The devices work on one batch while the host prepares the next.
    """
    running: DetectedBatch | None = None
    for batch in batches:
        started = time.perf_counter()
        ranked = program(batch)
        handed_over = DetectedBatch(batch, ranked, time.perf_counter() - started)
        if running:
            yield _on_host(running)
        running = handed_over
    if running:
        yield _on_host(running)


def unbatched(found: DetectedBatch) -> Iterator[tuple[int, RankedDetections]]:
    """Each image's index, and what was found in it."""
    for row, index in enumerate(found.batch.indices):
        yield index, jax.tree.map(lambda leaf, row=row: leaf[row], found.ranked)


def _on_host(found: DetectedBatch) -> DetectedBatch:
    return replace(found, ranked=jax.device_get(found.ranked))


def _is(a: object, b: object) -> bool:
    return a is b
