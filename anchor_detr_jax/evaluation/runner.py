"""From a data set to detections in COCO's results format."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from anchor_detr_jax.data.batching import PreparedImage, in_threads, prepare
from anchor_detr_jax.data.formats.coco import CocoDataset, CocoImage
from anchor_detr_jax.data.image_size import ImageSize
from anchor_detr_jax.detector import Detector
from anchor_detr_jax.devices import DetectedBatch, unbatched
from anchor_detr_jax.evaluation.speed import BatchCost, RunSpeed, batch_cost, run_speed
from anchor_detr_jax.structures import coco_results

__all__ = ["DatasetRun", "InterruptedRun", "detect_dataset", "run_dataset"]

_DETECTIONS = 100
"""What COCO's AP looks at, and what the reference reports, for each image."""

_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}]"
"""tqdm's own, but always images a second, never seconds an image."""


@dataclass(frozen=True)
class DatasetRun:
    """What came of running a detector on a data set.

    Attributes:
        results: image_id, category_id, bbox [x, y, w, h] in pixels and not clipped, score; in the
            data set's order.
        unreadable: a message for each picture that could not be read, and was left out.
        speed: how fast it was.
    """

    results: list[dict[str, Any]]
    unreadable: list[str]
    speed: RunSpeed


class InterruptedRun(KeyboardInterrupt):
    """Ctrl-C, with what had been found until then.

    Attributes:
        run: the part of the run that was done.
    """

    def __init__(self, run: DatasetRun) -> None:
        super().__init__()
        self.run = run


def detect_dataset(
    detector: Detector,
    dataset: CocoDataset,
    *,
    short_side: int = 800,
    long_side: int = 1333,
    fixed_hw: tuple[int, ...] = (),
    batch_size: int = 1,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """The results of `run_dataset`, if every picture could be read.

    Raises:
        ValueError: if one could not; the message names it.
    """
    run = run_dataset(
        detector,
        dataset,
        short_side=short_side,
        long_side=long_side,
        fixed_hw=fixed_hw,
        batch_size=batch_size,
        progress=progress,
    )
    if run.unreadable:
        raise ValueError("; ".join(run.unreadable))
    return run.results


def run_dataset(
    detector: Detector,
    dataset: CocoDataset,
    *,
    short_side: int = 800,
    long_side: int = 1333,
    fixed_hw: tuple[int, ...] = (),
    batch_size: int = 1,
    progress: bool = False,
) -> DatasetRun:
    """The 100 best detections of each image, of all columns.

    Pictures are taken as they are stored, without EXIF rotation, as their annotations are. One
    that cannot be read does not end the run: hours of work may lie before it.

    Args:
        detector: what to run.
        dataset: what to run it on.
        short_side: images are resized until their short side is this long,
        long_side: unless their long side would be longer than this.
        fixed_hw: height and width of all instead of these, whatever their aspect was; (): none.
        batch_size: images at a time, over all devices; the numbers do not depend on it.
        progress: show a progress bar.

    Raises:
        InterruptedRun: at Ctrl-C; it has what was found.
    """
    gathered = _Gathered(dataset, detector.categories.ids)
    size = ImageSize(short_side, long_side, fixed_hw)
    prepared = partial(_prepared, size=size)
    batches = detector.detect_batches(
        _readable(in_threads(prepared, enumerate(dataset.images)), gathered.unreadable),
        buckets=size.buckets(),
        batch_size=batch_size,
        top_k=_DETECTIONS,
        columns=np.ones(len(detector.categories), bool),
    )
    with tqdm(
        total=len(dataset.images), unit=" images", bar_format=_BAR, disable=not progress
    ) as bar:
        try:
            for batch in batches:
                gathered.add(batch)
                bar.update(len(batch.batch.indices))
        except KeyboardInterrupt:
            raise InterruptedRun(gathered.run()) from None
    return gathered.run()


class _Gathered:
    """What a run has come to, from now on."""

    def __init__(self, dataset: CocoDataset, category_ids: tuple[int, ...]) -> None:
        self.dataset, self.category_ids = dataset, np.asarray(category_ids)
        self.unreadable: list[str] = []
        self._started = time.perf_counter()
        self._found: dict[int, list[dict[str, Any]]] = {}
        self._costs: list[BatchCost] = []

    def add(self, batch: DetectedBatch) -> None:
        for index, best in unbatched(batch):
            self._found[index] = coco_results(
                np.asarray(best.boxes),
                np.asarray(best.scores),
                self.category_ids[np.asarray(best.labels)],
                image_id=self.dataset.images[index].id,
            )
        self._costs.append(batch_cost(batch))

    def run(self) -> DatasetRun:
        seconds = time.perf_counter() - self._started
        return DatasetRun(
            results=[result for index in sorted(self._found) for result in self._found[index]],
            unreadable=self.unreadable,
            speed=run_speed(len(self._found), seconds, self._costs),
        )


def _prepared(item: tuple[int, CocoImage], *, size: ImageSize) -> PreparedImage | str:
    """A picture, or why it could not be read."""
    index, image = item
    try:
        return prepare(index, image.opened(), size)
    except (ValueError, OSError) as error:
        return str(error)


def _readable(
    prepared: Iterable[PreparedImage | str], unreadable: list[str]
) -> Iterator[PreparedImage]:
    """Pictures; the messages of those that are none go to `unreadable`."""
    for item in prepared:
        if isinstance(item, PreparedImage):
            yield item
        else:
            unreadable.append(item)
