"""A detector at work on one image, with all that a picture of it may show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from PIL import Image

from anchor_detr_jax.boxes import cxcywh_to_xyxy
from anchor_detr_jax.class_scores import log_probabilities
from anchor_detr_jax.data.batching import pad_images, prepare
from anchor_detr_jax.data.buckets import smallest_bucket
from anchor_detr_jax.data.categories import Categories
from anchor_detr_jax.data.image_size import ImageSize
from anchor_detr_jax.data.image_source import ImageSource, check_request, open_source
from anchor_detr_jax.detector import Detector
from anchor_detr_jax.insight.attention_maps import (
    AttentionMaps,
    GaussianMaps,
    PlainLooks,
    RcdaLooks,
    gaussian_maps,
    noted,
    noted_looks,
)
from anchor_detr_jax.insight.query_points import QueryKind, query_kind, query_points
from anchor_detr_jax.models.build import ModelConfig
from anchor_detr_jax.structures import Detections, Images, Outputs

__all__ = ["Observation", "checked_number", "observe"]


@dataclass(frozen=True)
class Observation:
    """What a detector did with one image; host arrays.

    Axes: L decoder layers, Q queries (pattern-major), C columns that may stand for categories, A
    points that queries start from, n detections.

    Attributes:
        picture: RGB, upright.
        found: the detections above the threshold, best first, as `Detector.predict` gives them.
        query: the query of each detection.
        column: the column of each detection.
        scores: of all queries and columns after each layer, in [0, 1]; 0 for columns that stand
            for no category.
        boxes: (cx, cy, w, h) of all queries after each layer, as fractions of the picture.
        points: (x, y) of the points that queries start from, as fractions of the picture; NaN for
            those of which their queries know nothing; none for DETR's.
        kind: what these points are.
        threshold: the lowest score of what was found.
        looks: where each query looked; `attention` says it of one.
        map_hw: rows and columns of the feature map that show the picture.
    """

    picture: Image.Image
    found: Detections
    query: Int[np.ndarray, " n"]
    column: Int[np.ndarray, " n"]
    scores: Float[np.ndarray, "l q c"]
    boxes: Float[np.ndarray, "l q 4"]
    points: Float[np.ndarray, "a 2"]
    kind: QueryKind
    threshold: float
    looks: RcdaLooks | PlainLooks
    map_hw: tuple[int, int]

    @property
    def pattern(self) -> Int[np.ndarray, " n"]:
        """The pattern of each detection; 0 where there are none."""
        return self.query // (self.boxes.shape[1] // self.kind.at_each_point)

    @property
    def point(self) -> Int[np.ndarray, " n"]:
        """The point of each detection, where there are points."""
        return self.query % (self.boxes.shape[1] // self.kind.at_each_point)

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the feature levels that the decoder looks at, the finest first."""
        return ("C3", "C4", "C5")[-self.looks.levels :]

    def query_name(self, detection: int) -> str:
        """Which query gave a detection."""
        if self.kind.patterns:
            return f"pattern {self.pattern[detection]}, anchor point {self.point[detection]}"
        return f"query {self.query[detection]}"

    def point_in_pixels(self, detection: int) -> Float[np.ndarray, " 2"] | None:
        """(x, y) that a detection's query started from, in pixels of the picture; None for none."""
        if not len(self.points) or np.isnan(self.points[self.point[detection]]).any():
            return None
        return self.points[self.point[detection]] * self.picture.size

    def boxes_in_pixels(self, layer: int) -> Float[np.ndarray, "n 4"]:
        """(x1, y1, x2, y2) of each detection's query after a layer, in pixels of the picture."""
        return _in_pixels(self.boxes[layer, self.query], self.picture)

    def attention(self, detection: int = 0, *, level: int = -1) -> AttentionMaps:
        """Where the query of a detection looked, on one feature level.

        Args:
            detection: its place in `found`.
            level: the last one is the coarsest, C5.

        Raises:
            ValueError: if there is no such detection or level; it says which there are.
        """
        self.check_detection(detection)
        level = checked_number("level", level, len(self.levels))
        return self.looks.maps(int(self.query[detection]), level, self.map_hw)

    def gaussians(self, detection: int = 0) -> GaussianMaps:
        """What modulated the attention of a detection's query.

        Raises:
            ValueError: if there is no such detection, or if no Gaussians modulate the attention.
        """
        self.check_detection(detection)
        if not isinstance(self.looks, PlainLooks) or self.looks.gaussians is None:
            raise ValueError("no Gaussians modulate this detector's attention; SMCA has them")
        return gaussian_maps(self.looks.gaussians, int(self.query[detection]), self.map_hw)

    def check_detection(self, detection: int) -> None:
        """Refuse a detection that there is not.

        Raises:
            ValueError: it says which there are.
        """
        if len(self.found) == 0:
            raise ValueError(
                f"no detection reaches the threshold of {self.threshold:g}; the best has "
                f"{self.scores[-1].max():.3f}: choose a lower threshold"
            )
        if not 0 <= detection < len(self.found):
            raise ValueError(
                f"detection is {detection}, and must be from 0 to {len(self.found) - 1}: "
                f"{len(self.found)} reach the threshold of {self.threshold:g}"
            )


def checked_number(name: str, number: int, count: int) -> int:
    """A place in a list of `count`, from 0; negative ones count from the end, as in Python.

    Raises:
        ValueError: if there is no such place.
    """
    if not -count <= number < count:
        raise ValueError(
            f"{name} is {number}, and must be from 0 to {count - 1}, or -1 for the last"
        )
    return number % count


def observe(
    detector: Detector,
    image: ImageSource,
    *,
    threshold: float = 0.5,
    top_k: int = 100,
    short_side: int = 800,
    long_side: int = 1333,
    fixed_hw: tuple[int, ...] = (),
) -> Observation:
    """Run a detector on one image and keep what its decoder saw.

    The arguments are those of `Detector.predict`, and so are the detections.

    Raises:
        ValueError: for what is no image, or a damaged one.
        OSError: for a file that is not there.
    """
    check_request(threshold, top_k, None)
    picture = open_source(image)
    images = _padded(picture, ImageSize(short_side, long_side, fixed_hw))
    outputs, chances, points, looks = jax.device_get(
        _run(detector.model, detector.variables, images)
    )
    used = detector.categories.in_use
    scores = np.where(used, np.exp(chances[:, 0, :, : len(used)]), 0)
    rank = _rank(outputs, chances, used)
    good = (scores[-1] >= threshold) & np.isfinite(rank)
    query, column = _best(rank, good, top_k)
    boxes = outputs.boxes[:, 0]
    found_boxes = _in_pixels(boxes[-1, query], picture)
    return Observation(
        picture=picture,
        found=_found(found_boxes, scores[-1, query, column], column, detector.categories),
        query=query,
        column=column,
        scores=scores,
        boxes=boxes,
        points=points,
        kind=query_kind(detector.config),
        threshold=threshold,
        looks=looks,
        map_hw=_map_hw(images.valid_hw[0].tolist(), detector.config),
    )


def _padded(picture: Image.Image, size: ImageSize) -> Images:
    """A batch of one, of the size that `Detector.predict` would pad it to."""
    pixels = prepare(0, picture, size).pixels
    hw = (pixels.shape[0], pixels.shape[1])
    return pad_images([pixels], smallest_bucket(hw, size.buckets()), 1)


@partial(jax.jit, static_argnames="model")
def _run(
    model: Any, variables: Any, images: Images
) -> tuple[Outputs, Float[Array, "l 1 q c"], Float[Array, "a 2"], RcdaLooks | PlainLooks]:
    """Outputs, logarithms of probabilities, points, and where the queries looked.

    What else was noted is not computed.
    """
    with jax.default_matmul_precision("float32"):
        outputs, notes = model.apply(
            variables, images, mutable=["intermediates"], capture_intermediates=noted
        )
        points = query_points(model, variables)
    config: ModelConfig = model.config
    looks = noted_looks(
        notes["intermediates"],
        layers=config.decoder_layers,
        heads=config.num_heads,
        map_hw=_map_hw(images.pixels.shape[1:3], config),
    )
    return outputs, log_probabilities(outputs), points, looks


def _rank(
    outputs: Outputs, chances: Float[np.ndarray, "l 1 q c"], used: Bool[np.ndarray, " u"]
) -> Float[np.ndarray, "q u"]:
    """What detections are sorted by, as `best_detections` does; -inf for what is none."""
    # Sigmoids keep the order of logits, which are finer where probabilities round to 1.
    known = np.asarray(chances if outputs.no_object else outputs.logits)
    rank = np.where(used, known[-1, 0, :, : len(used)], -np.inf)
    if outputs.no_object:  # each query gives its best column
        rank = np.where(np.arange(len(used)) == rank.argmax(1)[:, None], rank, -np.inf)
    return rank


def _found(
    boxes: Float[np.ndarray, "n 4"],
    scores: Float[np.ndarray, " n"],
    column: Int[np.ndarray, " n"],
    categories: Categories,
) -> Detections:
    """Detections with the categories that columns stand for."""
    return Detections(
        boxes=boxes,
        scores=scores,
        labels=np.asarray(categories.ids)[column],
        names=[str(categories.names[i]) for i in column],
    )


def _map_hw(image_hw: Sequence[int], config: ModelConfig) -> tuple[int, int]:
    """Cells of the last map, which are those of any level that is looked at."""
    height, width = (-(-side // config.backbone.stride) for side in image_hw)
    return height, width


def _best(
    rank: Float[np.ndarray, "q c"], good: Bool[np.ndarray, "q c"], count: int
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Queries and columns of the good ones of the best, best first."""
    best = np.argsort(-rank, axis=None, kind="stable")[:count]
    query, column = np.divmod(best[good.ravel()[best]], rank.shape[1])
    return query, column


def _in_pixels(
    boxes_cxcywh: Float[np.ndarray, "n 4"], picture: Image.Image
) -> Float[np.ndarray, "n 4"]:
    width, height = picture.size
    scale = np.array([width, height, width, height], np.float32)
    return np.asarray(cxcywh_to_xyxy(jnp.asarray(boxes_cxcywh))) * scale
