"""AP of the weights as they stand, on all hosts together."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from PIL import Image

from anchor_detr_jax.checkpoint import StoredDetector
from anchor_detr_jax.data.categories import Categories
from anchor_detr_jax.data.formats.coco import CocoDataset
from anchor_detr_jax.detector import Detector
from anchor_detr_jax.evaluation.coco_ap import CocoScores, check_scorer, score_results
from anchor_detr_jax.evaluation.runner import run_dataset
from anchor_detr_jax.evaluation.truth import CocoTruth
from anchor_detr_jax.models.build import ModelConfig, variable_shapes
from anchor_detr_jax.training.config import EvaluationConfig
from anchor_detr_jax.training.sharding import Placement
from anchor_detr_jax.training.state import TrainState
from anchor_detr_jax.visualize import draw_beside

__all__ = ["STAT_NAMES", "Validation"]

STAT_NAMES = (
    *("AP", "AP50", "AP75", "APs", "APm", "APl"),
    *("AR1", "AR10", "AR100", "ARs", "ARm", "ARl"),
)
"""What COCO's 12 numbers are called."""


@dataclass(frozen=True)
class Validation:
    """A data set to evaluate on, again and again; the programs are compiled once.

    Attributes:
        dataset: all of it, on every host.
        truth: what there is to find.
        detector: whose weights change from one evaluation to the next.
        settings: sizes and batch.
        placement: where a state lies.
        skip: go on without pictures that cannot be read.
    """

    dataset: CocoDataset
    truth: CocoTruth
    detector: Detector
    settings: EvaluationConfig
    placement: Placement
    skip: bool = False

    @classmethod
    def of(
        cls,
        evaluated: tuple[CocoDataset, CocoTruth],
        model: ModelConfig,
        categories: Categories,
        settings: EvaluationConfig,
        *,
        placement: Placement,
        bfloat16: bool = False,
        skip: bool = False,
    ) -> Validation:
        """For a model of this shape, and what `read_evaluation_set` gave.

        Raises:
            ValueError: if the scorer is not installed.
        """
        check_scorer(settings.scorer)
        zeros: Any = _zeros(model)
        stored = StoredDetector(model, zeros, categories)
        detector = Detector(stored, dtype=jnp.bfloat16 if bfloat16 else None)
        return cls(*evaluated, detector, settings, placement, skip)

    def scores(self, state: TrainState, *, progress: bool = False) -> tuple[CocoScores, list[str]]:
        """COCO's numbers of a state's averaged weights, where there are any, else of its weights.

        Each host detects in its part of the pictures, and scores all of them.

        Returns:
            The scores, and a message for each picture that could not be read: nothing was found
            in it, if `skip` says that this may be.

        Raises:
            ValueError: if a picture cannot be read, and may not be skipped; it names some.
        """
        self.detector.variables = self._local(state)
        mine = slice(jax.process_index(), None, jax.process_count())
        run = run_dataset(
            self.detector,
            dataclasses.replace(self.dataset, images=self.dataset.images[mine]),
            short_side=self.settings.short_side,
            long_side=self.settings.long_side,
            fixed_hw=self.settings.fixed_hw,
            batch_size=self.settings.batch_size,
            progress=progress,
        )
        parts = _gathered({"results": run.results, "unreadable": run.unreadable})
        unreadable = [message for part in parts for message in part["unreadable"]]
        if unreadable and not self.skip:
            raise ValueError(
                f"{len(unreadable)} pictures of the validation set cannot be read: "
                + "; ".join(unreadable[:5])
            )
        results = [result for part in parts for result in part["results"]]
        return score_results(results, self.truth, scorer=self.settings.scorer), unreadable

    def pictures(self, count: int, *, threshold: float = 0.3) -> list[Image.Image]:
        """Ground truth beside what the weights of the last evaluation find, in the first images."""
        images, pictures = [], []
        for image in self.dataset.images[:count]:
            with suppress(ValueError, OSError):  # said elsewhere
                pictures.append(image.opened())
                images.append(image)
        found = self.detector.predict(
            pictures,
            threshold=threshold,
            short_side=self.settings.short_side,
            long_side=self.settings.long_side,
            fixed_hw=self.settings.fixed_hw,
            batch_size=self.settings.batch_size,
        )
        return [
            draw_beside(picture, self.truth.of_image(image.id), detections)
            for picture, image, detections in zip(pictures, images, found, strict=True)
        ]

    def _local(self, state: TrainState) -> Mapping[str, Any]:
        """Whole weights on this host, however the state is cut."""
        variables = state.variables(state.average)
        if not all(leaf.is_fully_replicated for leaf in jax.tree.leaves(variables)):
            variables = jax.jit(lambda tree: tree, out_shardings=self.placement.whole)(variables)
        return jax.tree.map(lambda leaf: leaf.addressable_data(0), variables)


def _zeros(model: ModelConfig) -> Mapping[str, Any]:
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), variable_shapes(model))


def _gathered(part: dict[str, Any]) -> list[dict[str, Any]]:
    """What every host has, in the order of the hosts."""
    if jax.process_count() == 1:
        return [part]
    text = np.frombuffer(json.dumps(part).encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.array(len(text)))
    padded = np.zeros(int(lengths.max()), np.uint8)
    padded[: len(text)] = text
    texts = multihost_utils.process_allgather(padded)
    return [json.loads(row[:length].tobytes()) for row, length in zip(texts, lengths, strict=True)]
