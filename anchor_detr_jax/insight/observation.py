"""A detector at work on one image, with all that a picture of it may show."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from PIL import Image

from anchor_detr_jax.boxes import cxcywh_to_xyxy
from anchor_detr_jax.data.batching import pad_images, prepare
from anchor_detr_jax.data.buckets import inference_buckets, smallest_bucket
from anchor_detr_jax.data.categories import Categories
from anchor_detr_jax.data.image_source import ImageSource, check_request, open_source
from anchor_detr_jax.detector import Detector
from anchor_detr_jax.insight.attention_maps import (
    AttentionMaps,
    PlainLooks,
    RcdaLooks,
    noted,
    noted_looks,
)
from anchor_detr_jax.models.anchor_detr import AnchorDETRConfig
from anchor_detr_jax.structures import Detections, Images, Outputs

__all__ = ["Observation", "checked_number", "observe"]


@dataclass(frozen=True)
class Observation:
    """What a detector did with one image; host arrays.

    Axes: L decoder layers, Q queries (pattern-major), C columns of the logits, A anchor points,
    n detections.

    Attributes:
        picture: RGB, upright.
        found: the detections above the threshold, best first, as `Detector.predict` gives them.
        query: the query of each detection.
        column: the column of the logits of each detection.
        scores: of all queries and columns after each layer, in [0, 1]; 0 for columns that stand
            for no category.
        boxes: (cx, cy, w, h) of all queries after each layer, as fractions of the picture.
        anchors: (x, y) of the anchor points, as fractions of the picture.
        anchor_kind: `learned` or `grid`.
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
    anchors: Float[np.ndarray, "a 2"]
    anchor_kind: str
    threshold: float
    looks: RcdaLooks | PlainLooks
    map_hw: tuple[int, int]

    @property
    def num_patterns(self) -> int:
        """Queries at each anchor point."""
        return self.boxes.shape[1] // len(self.anchors)

    @property
    def pattern(self) -> Int[np.ndarray, " n"]:
        """The pattern of each detection."""
        return self.query // len(self.anchors)

    @property
    def anchor(self) -> Int[np.ndarray, " n"]:
        """The anchor point of each detection."""
        return self.query % len(self.anchors)

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the feature levels that the decoder looks at, the finest first."""
        return ("C3", "C4", "C5")[-self.looks.levels :]

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
) -> Observation:
    """Run a detector on one image and keep what its decoder saw.

    The arguments are those of `Detector.predict`, and so are the detections.

    Raises:
        ValueError: for what is no image, or a damaged one.
        OSError: for a file that is not there.
    """
    check_request(threshold, top_k, short_side, long_side, None)
    picture = open_source(image)
    images = _padded(picture, short_side, long_side)
    outputs, anchors, looks = jax.device_get(_run(detector.model, detector.variables, images))
    logits = np.where(detector.categories.in_use, outputs.logits[:, 0], -np.inf)
    scores, boxes = np.asarray(jax.nn.sigmoid(logits)), outputs.boxes[:, 0]
    good = (scores[-1] >= threshold) & detector.categories.in_use
    query, column = _best(logits[-1], good, top_k)
    found_boxes = _in_pixels(boxes[-1, query], picture)
    return Observation(
        picture=picture,
        found=_found(found_boxes, scores[-1, query, column], column, detector.categories),
        query=query,
        column=column,
        scores=scores,
        boxes=boxes,
        anchors=anchors,
        anchor_kind=detector.config.anchors,
        threshold=threshold,
        looks=looks,
        map_hw=_map_hw(images, detector.config),
    )


def _padded(picture: Image.Image, short_side: int, long_side: int) -> Images:
    """A batch of one, of the size that `Detector.predict` would pad it to."""
    pixels = prepare(0, picture, short_side, long_side).pixels
    buckets = inference_buckets(short_side, long_side)
    return pad_images([pixels], smallest_bucket((pixels.shape[0], pixels.shape[1]), buckets), 1)


@partial(jax.jit, static_argnames="model")
def _run(
    model: Any, variables: Any, images: Images
) -> tuple[Outputs, Float[Array, "a 2"], RcdaLooks | PlainLooks]:
    """Outputs, anchor points, and where the queries looked; what else was noted is not computed."""
    with jax.default_matmul_precision("float32"):
        outputs, notes = model.apply(
            variables, images, mutable=["intermediates"], capture_intermediates=noted
        )
    config: AnchorDETRConfig = model.config
    points = model.apply(variables, method="query_points")[: config.num_anchors]
    _, height, width, _ = images.pixels.shape
    map_hw = height // _stride(config), width // _stride(config)
    return outputs, points, noted_looks(notes["intermediates"], config, map_hw)


def _stride(config: AnchorDETRConfig) -> int:
    """Pixels from one cell of the map to the next, of any level."""
    return 16 if config.backbone.dilation else 32


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


def _map_hw(images: Images, config: AnchorDETRConfig) -> tuple[int, int]:
    """Cells that show the first image."""
    height, width = (-(-side // _stride(config)) for side in images.valid_hw[0].tolist())
    return height, width


def _best(
    logits: Float[np.ndarray, "q c"], good: Bool[np.ndarray, "q c"], count: int
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Queries and columns of the good ones of the best, in `best_detections`' order."""
    best = np.argsort(-logits, axis=None, kind="stable")[:count]
    query, column = np.divmod(best[good.ravel()[best]], logits.shape[1])
    return query, column


def _in_pixels(
    boxes_cxcywh: Float[np.ndarray, "n 4"], picture: Image.Image
) -> Float[np.ndarray, "n 4"]:
    width, height = picture.size
    scale = np.array([width, height, width, height], np.float32)
    return np.asarray(cxcywh_to_xyxy(jnp.asarray(boxes_cxcywh))) * scale
