"""Which pictures make up the batch of each step, how each is augmented and how far it is padded.

All of it follows from the sizes of the pictures, the seed and the number of the step: nothing is
decoded, nothing is remembered, and every host comes to the same plan.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from anchor_detr_jax.data.augmentation import Augmentation, AugmentationConfig, largest_hw
from anchor_detr_jax.data.buckets import chosen_buckets
from anchor_detr_jax.data.draws import AugmentedEpoch, augmented_epoch, random_numbers

__all__ = ["Plan", "PlannedBatch", "make_plan"]

_SAMPLE = 20_000
"""Augmented sizes that buckets are chosen from; more change little."""

_SMALL = 10_000
"""Pictures below which 8 shapes are enough: compiling more would take longer than it saves."""


@dataclass(frozen=True)
class PlannedBatch:
    """A batch to be.

    Attributes:
        step: counted from 0 over all epochs.
        epoch: counted from 0.
        bucket: height and width that all of it is padded to.
        pictures: as many as the batch has, but for the last of an epoch, which may have fewer.
        waste: share of the pixels that are padding.
    """

    step: int
    epoch: int
    bucket: tuple[int, int]
    pictures: tuple[Augmentation, ...]
    waste: float


@dataclass(frozen=True)
class _PlannedEpoch:
    """What is kept of an epoch: few numbers for each picture, of which batches are made."""

    augmented: AugmentedEpoch
    batches: list[tuple[tuple[int, int], list[int]]]


class Plan:
    """The batches of all epochs; each picture comes once in each.

    Attributes:
        buckets: all sizes that batches can have.
        batch_size: pictures in a batch, over all hosts.
        steps_per_epoch: the same for every epoch.
    """

    def __init__(
        self,
        hws: Int[np.ndarray, "n 2"],
        buckets: Sequence[tuple[int, int]],
        *,
        batch_size: int,
        augmentation: AugmentationConfig,
        seed: int,
    ):
        if not len(hws):
            raise ValueError("there are no pictures to train on")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, and must be at least 1")
        self.buckets = list(buckets)
        self.batch_size = batch_size
        self.steps_per_epoch = -(-len(hws) // batch_size)
        self._hws = hws.astype(np.int64)
        self._augmentation, self._seed = augmentation, seed
        self._epoch = functools.lru_cache(maxsize=2)(self._planned_epoch)

    def __reduce__(self):
        make = functools.partial(
            Plan, batch_size=self.batch_size, augmentation=self._augmentation, seed=self._seed
        )
        return make, (self._hws, self.buckets)

    def batch(self, step: int) -> PlannedBatch:
        """The batch of a step."""
        epoch, place = divmod(step, self.steps_per_epoch)
        planned = self._epoch(epoch)
        bucket, members = planned.batches[place]
        pictures = tuple(planned.augmented.picture(i) for i in members)
        return PlannedBatch(step, epoch, bucket, pictures, self.waste(step, step + 1))

    def waste(self, first_step: int, last_step: int) -> float:
        """Share of pixels that are padding, over these steps, the last one left out."""
        real = padded = 0
        for step in range(first_step, last_step):
            epoch, place = divmod(step, self.steps_per_epoch)
            planned = self._epoch(epoch)
            (height, width), members = planned.batches[place]
            real += int(planned.augmented.hw[members].prod(axis=1).sum())
            padded += height * width * self.batch_size
        return 1 - real / padded if padded else 0.0

    def _planned_epoch(self, epoch: int) -> _PlannedEpoch:
        augmented = augmented_epoch(self._augmentation, self._hws, seed=self._seed, epoch=epoch)
        batches = _grouped(augmented.hw, augmented.order, self.buckets, self.batch_size)
        shuffled = random_numbers(self._seed, epoch, "batches").permutation(len(batches))
        return _PlannedEpoch(augmented, [batches[i] for i in shuffled])


def make_plan(
    hws: Int[np.ndarray, "n 2"],
    *,
    batch_size: int,
    augmentation: AugmentationConfig,
    seed: int = 42,
    buckets: int = 0,
) -> Plan:
    """A plan for pictures of these sizes, with buckets that fit what augmentation makes of them.

    Args:
        hws: height and width of each picture in pixels.
        batch_size: pictures in a batch, over all hosts.
        augmentation: how pictures are varied.
        seed: of order and augmentation.
        buckets: shapes at most; 0: 16, or 8 for less than 10,000 pictures.

    Raises:
        ValueError: if there are no pictures, the batch size is less than 1, or the seed or the
            number of buckets less than 0.
    """
    if not len(hws):
        raise ValueError("there are no pictures to train on")
    if buckets < 0:
        raise ValueError(f"buckets is {buckets}, and must be at least 1, or 0 for a usual number")
    epochs = min(-(-_SAMPLE // len(hws)), 50)
    drawn = [augmented_epoch(augmentation, hws, seed=seed, epoch=e).hw for e in range(epochs)]
    chosen = chosen_buckets(
        np.concatenate(drawn),
        buckets or (16 if len(hws) >= _SMALL else 8),
        largest=largest_hw(augmentation, hws),
    )
    return Plan(hws, chosen, batch_size=batch_size, augmentation=augmentation, seed=seed)


def _grouped(
    sizes: Int[np.ndarray, "n 2"],
    order: Int[np.ndarray, " n"],
    buckets: Sequence[tuple[int, int]],
    batch_size: int,
) -> list[tuple[tuple[int, int], list[int]]]:
    """Batches of images of one bucket. What is left over in a bucket goes up to a larger one.

    Buckets are gone through from the smallest up, and what does not fill a batch joins the cheapest
    of those after it that holds it; the last one holds everything, and may end in a smaller batch.
    """
    sides = np.array(sorted(buckets, key=lambda bucket: (bucket[0] * bucket[1], bucket)))
    holds = np.all(sides[None] >= sizes[:, None], axis=-1)
    if not holds.any(axis=1).all():
        lost = sizes[~holds.any(axis=1)][0]
        raise ValueError(f"no bucket of {list(buckets)} holds a picture of {lost[0]}x{lost[1]}")
    home = holds.argmax(axis=1)[order]  # the first one that does, which is the smallest
    members: list[list[int]] = [order[home == k].tolist() for k in range(len(sides))]
    batches: list[tuple[tuple[int, int], list[int]]] = []
    for k, (height, width) in enumerate(sides.tolist()):
        mine, last = members[k], k == len(sides) - 1
        whole = len(mine) if last else len(mine) // batch_size * batch_size
        batches += [
            ((height, width), mine[i : i + batch_size]) for i in range(0, whole, batch_size)
        ]
        for image in mine[whole:]:
            members[k + 1 + int(holds[image, k + 1 :].argmax())].append(image)
    return batches
