"""The programs that find things in batches of images: one for each shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool

from anchor_detr_jax.data.batching import Batch
from anchor_detr_jax.devices import DetectedBatch, LocalDevices, one_ahead
from anchor_detr_jax.host_memory import give_back_freed_memory
from anchor_detr_jax.models.build import Model
from anchor_detr_jax.models.inference import infer, inference_model, inference_variables
from anchor_detr_jax.postprocess import best_detections
from anchor_detr_jax.structures import Images, Outputs, RankedDetections

__all__ = ["DetectionPrograms", "WarmUp", "detect"]


@dataclass(frozen=True)
class WarmUp:
    """What was made ready.

    Attributes:
        programs: how many.
        seconds: that their compilation took, or their reading from the cache.
    """

    programs: int
    seconds: float

    def __str__(self) -> str:
        s = "" if self.programs == 1 else "s"
        return f"{self.programs} program{s} ready in {self.seconds:.1f} s"


class DetectionPrograms:
    """A model for inference, on all of this process's devices.

    Each shape of a batch has a program of its own, compiled when the first such batch comes.
    """

    def __init__(self, model: Model) -> None:
        self._model = inference_model(model)
        self._devices = LocalDevices()
        self._detect = self._devices.compiled(partial(detect, partial(infer, self._model)))
        self._shapes: set[tuple[int, ...]] = set()
        self._given: list[Any] = []
        self._prepared: dict[str, Any] = {}

    def rounded(self, batch_size: int) -> int:
        """The next larger batch that has as many images for each device."""
        return self._devices.rounded(batch_size)

    def run(
        self,
        variables: Mapping[str, Any],
        batches: Iterable[Batch],
        *,
        columns: Bool[np.ndarray, " c"],
        count: int,
    ) -> Iterator[DetectedBatch]:
        """The `count` best detections of each image of each batch, as host arrays.

        Args:
            variables: of the model as it is trained.
            batches: of a `rounded` size.
            columns: False for classes to leave out.
            count: at most queries x classes.
        """
        prepared = self._devices.copied(self._for_inference(variables))

        def program(batch: Batch) -> RankedDetections:
            images, original_hw = self._devices.split((batch.images, batch.original_hw))
            found = self._detect(prepared, images, original_hw, columns, count=count)
            self._give_back_if_new(batch.images.pixels.shape)
            return found

        return one_ahead(program, batches)

    def _give_back_if_new(self, shape: tuple[int, ...]) -> None:
        """Compiling a program, or reading it from the cache, leaves hundreds of MB free."""
        if shape not in self._shapes:
            self._shapes.add(shape)
            give_back_freed_memory()

    def _for_inference(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Kept, and made anew when any of the variables is another."""
        leaves = jax.tree.leaves(variables)
        if [id(leaf) for leaf in leaves] != [id(leaf) for leaf in self._given]:
            self._given, self._prepared = leaves, inference_variables(self._model, variables)
        return self._prepared


def detect(
    forward: Callable[[Any, Images], Outputs],
    variables: Any,
    images: Images,
    original_hw: Any,
    columns: Any,
    *,
    count: int,
) -> RankedDetections:
    """The `count` best detections of each image.

    Args:
        forward: gives a model's outputs, such as `partial(infer, model)`.
        variables: for it.
        images: a padded batch.
        original_hw: as for `best_detections`,
        columns: likewise,
        count: likewise.
    """
    return best_detections(forward(variables, images), original_hw, columns, count=count)
