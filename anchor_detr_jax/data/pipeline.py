"""From planned batches to arrays: pictures are decoded and augmented by threads or processes.

Grain runs it. One element of its data set is one step's batch, so the order is the plan's whatever
the number of workers, and a run goes on at any step without having read those before it.
"""

from __future__ import annotations

import atexit
import gc
import io
import shutil
import signal
import sys
import weakref
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grain
import numpy as np

from anchor_detr_jax.data.annotated import AnnotatedDataset
from anchor_detr_jax.data.augmentation import Augmentation
from anchor_detr_jax.data.batching import pad_images
from anchor_detr_jax.data.pixel_boxes import xyxy_to_fractions
from anchor_detr_jax.data.plan import Plan, PlannedBatch
from anchor_detr_jax.data.steps import Sample
from anchor_detr_jax.data.transforms import open_rgb
from anchor_detr_jax.structures import Images, Targets

__all__ = ["BatchReader", "ReadingConfig", "TrainingBatch", "training_batches"]


@dataclass(frozen=True)
class ReadingConfig:
    """How pictures are read.

    Attributes:
        workers: processes that prepare batches; 0: threads of this one.
        threads: threads that prepare batches, in this process or in each worker.
        prefetch: batches that are ready in advance, in this process or in each worker.
    """

    workers: int = 0
    threads: int = 4
    prefetch: int = 4

    def __post_init__(self) -> None:
        for name, least in (("workers", 0), ("threads", 1), ("prefetch", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, and must be at least {least}")


@dataclass(frozen=True)
class TrainingBatch:
    """A step's images and targets, or one host's part of them; host arrays.

    Attributes:
        step: whose they are.
        images: padded to the plan's bucket.
        targets: padded to the data set's number of targets.
        names: of the pictures, for messages; "" for what only fills up the batch.
        unreadable: a message for each picture that was left out.
        waste: share of the whole batch's pixels that are padding, as planned.
    """

    step: int
    images: Images
    targets: Targets
    names: list[str]
    unreadable: list[str]
    waste: float


@dataclass(frozen=True)
class BatchReader:
    """Makes the batch of a step, or one host's equal part of it.

    Attributes:
        dataset: what is read.
        plan: which of it, when.
        max_targets: what targets are padded to.
        on_bad: "stop" or "skip".
        host: which part, of
        hosts: how many.
    """

    dataset: AnnotatedDataset
    plan: Plan
    max_targets: int
    on_bad: str = "stop"
    host: int = 0
    hosts: int = 1

    def __post_init__(self) -> None:
        if self.on_bad not in ("stop", "skip"):
            raise ValueError(f"on_bad is {self.on_bad!r}, and must be 'stop' or 'skip'")
        if not 0 <= self.host < self.hosts:
            raise ValueError(f"host is {self.host}, expected 0 to {self.hosts - 1}")
        if self.plan.batch_size % self.hosts:
            raise ValueError(
                f"batch_size is {self.plan.batch_size}, and must be a multiple of the number of "
                f"hosts, {self.hosts}"
            )

    def __call__(self, step: int) -> TrainingBatch:
        """The batch.

        Raises:
            ValueError: if a picture cannot be read and that is to stop, or has too many targets.
            OSError: if a file is not there, and that is to stop.
        """
        planned = self.plan.batch(step)
        rows = self.plan.batch_size // self.hosts
        mine = planned.pictures[self.host * rows : (self.host + 1) * rows]
        samples: list[Sample | None] = []
        unreadable: list[str] = []
        for picture in mine:
            try:
                samples.append(self.augmented(picture))
            except (ValueError, OSError) as error:
                if self.on_bad == "stop":
                    raise
                samples.append(None)
                unreadable.append(str(error))
        return self._batch(planned, mine, samples, unreadable)

    def augmented(self, picture: Augmentation) -> Sample:
        """A picture and its boxes as the plan wants them.

        Raises:
            ValueError: if it cannot be read, or is not of the size that the data set says.
            OSError: if its file cannot be read.
        """
        sample = picture.mosaic(self.read) if picture.mosaic else self.read(picture.index)
        for step in picture.steps:
            sample = step(sample)
        return sample

    def read(self, index: int) -> Sample:
        """A picture and its boxes as they are.

        Raises:
            ValueError, OSError: as `augmented`.
        """
        pictures = self.dataset.pictures
        name = pictures.name(index)
        image = open_rgb(io.BytesIO(pictures.encoded(index)), apply_exif_rotation=False, name=name)
        height, width = self.dataset.hw[index]
        if image.size != (width, height):
            raise ValueError(
                f"{name} is {image.width}x{image.height}, but its annotations are of a picture of "
                f"{width}x{height}"
            )
        return Sample(image, *self.dataset.targets(index))

    def _batch(
        self,
        planned: PlannedBatch,
        mine: tuple[Augmentation, ...],
        samples: list[Sample | None],
        unreadable: list[str],
    ) -> TrainingBatch:
        rows = self.plan.batch_size // self.hosts
        boxes = np.full((rows, self.max_targets, 4), 0.5, np.float32)
        labels = np.zeros((rows, self.max_targets), np.int32)
        count, in_batch = np.zeros(rows, np.int32), np.zeros(rows, bool)
        blank = np.zeros((1, 1, 3), np.uint8)
        pixels = [blank if sample is None else np.asarray(sample.image) for sample in samples]
        for row, sample in enumerate(samples):
            if sample is None:
                continue
            n = len(sample.labels)
            if n > self.max_targets:
                name = self.dataset.pictures.name(mine[row].index)
                raise ValueError(f"{name} has {n} targets, more than the {self.max_targets}")
            hw = (sample.image.height, sample.image.width)
            boxes[row, :n] = xyxy_to_fractions(sample.boxes_xyxy_px, hw)
            labels[row, :n], count[row], in_batch[row] = sample.labels, n, True
        names = [self.dataset.pictures.name(picture.index) for picture in mine]
        return TrainingBatch(
            step=planned.step,
            images=pad_images(pixels, planned.bucket, rows),
            targets=Targets(boxes, labels, count, in_batch),
            names=names + [""] * (rows - len(names)),
            unreadable=unreadable,
            waste=planned.waste,
        )


def training_batches(
    reader: BatchReader, reading: ReadingConfig, *, first_step: int, last_step: int
) -> Generator[TrainingBatch, None, None]:
    """The batches of these steps, the last one left out, prepared in advance and in order.

    Closing it, or losing it, ends its threads and processes. Processes need absl's flags to be
    parsed, and a main program that can be imported.

    Raises:
        ValueError, OSError: what the reader raises, wherever it runs.
        RuntimeError: if a process ends unexpectedly.
    """
    batches = _batches(reader, reading, first_step, last_step)
    # A program that fails keeps it until it is too late to end processes.
    atexit.register(_close, weakref.ref(batches))
    return batches


def _batches(
    reader: BatchReader, reading: ReadingConfig, first_step: int, last_step: int
) -> Generator[TrainingBatch, None, None]:
    steps = grain.MapDataset.range(first_step, last_step).map(reader)
    options = grain.ReadOptions(
        num_threads=reading.threads, prefetch_buffer_size=max(reading.prefetch, reading.threads)
    )
    if reading.workers:
        parts = iter(_in_workers(steps.map(_taken_apart).to_iter_dataset(options), reader, reading))
        iterator, batches = parts, map(_put_together, parts)
        del parts
    else:
        iterator = batches = iter(steps.to_iter_dataset(options))
    try:
        yield from batches
    finally:
        iterator.close()
        del iterator, batches
        if reading.workers:
            gc.collect()  # cycles in Grain keep the last batches' shared memory


def _close(batches: weakref.ref[Generator[TrainingBatch, None, None]]) -> None:
    alive = batches()
    if alive is not None:
        alive.close()


def _in_workers(
    batches: grain.IterDataset[dict[str, Any]], reader: BatchReader, reading: ReadingConfig
) -> grain.IterDataset[dict[str, Any]]:
    """Batches prepared by processes, each of which takes every so many of the steps."""
    options = grain.experimental.DatasetOptions(min_shm_size=_least_shared(reader, reading))
    workers = grain.MultiprocessingOptions(
        num_workers=reading.workers, per_worker_buffer_size=reading.prefetch
    )
    return grain.experimental.WithOptionsIterDataset(batches, options).mp_prefetch(
        workers, worker_init_fn=_leave_interrupts_to_the_parent
    )


def _leave_interrupts_to_the_parent(*_: int) -> None:
    """Ctrl-C reaches all processes of a terminal, and the parent still needs batches."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _taken_apart(batch: TrainingBatch) -> dict[str, Any]:
    """Plain containers, whose arrays go from process to process in shared memory."""
    images, targets = vars(batch.images), vars(batch.targets)
    return {**vars(batch), "images": dict(images), "targets": dict(targets)}


def _put_together(parts: dict[str, Any]) -> TrainingBatch:
    # Copies, because shared memory is scarce, and must be given back before the program ends.
    images = Images(**{name: np.array(array) for name, array in parts["images"].items()})
    targets = Targets(**{name: np.array(array) for name, array in parts["targets"].items()})
    return TrainingBatch(**{**parts, "images": images, "targets": targets})


def _least_shared(reader: BatchReader, reading: ReadingConfig) -> int:
    """Bytes from which on an array goes through shared memory: none where there is little of it.

    A process that writes to more of it than there is dies without a word; containers often have
    64 MB of it.
    """
    folder = Path("/dev/shm")  # noqa: S108
    rows = reader.plan.batch_size // reader.hosts
    largest = max(3 * rows * height * width for height, width in reader.plan.buckets)
    waiting = reading.workers * (reading.prefetch + 2)
    if folder.is_dir() and shutil.disk_usage(folder).free < waiting * largest:
        return sys.maxsize
    return 1 << 16
