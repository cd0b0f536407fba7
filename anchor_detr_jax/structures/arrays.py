"""The arrays that cross from one package to the next, each with its shape and frame.

Axes: B images, H rows, W columns, L decoder layers, Q queries, C classes, K best detections,
N targets.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

__all__ = ["Images", "Outputs", "RankedDetections", "Targets", "pytree"]

T = TypeVar("T")


def pytree(dataclass_: type[T]) -> type[T]:
    """Make a dataclass a pytree of its fields, but for those whose metadata say `static`.

    Unlike `jax.tree_util.register_dataclass`, it rebuilds one without calling its constructor: in
    place of arrays there may stand shapes, shardings or anything else that JAX puts there.
    """
    members = fields(cast(Any, dataclass_))
    names = tuple(field.name for field in members if not field.metadata.get("static"))
    statics = tuple(field.name for field in members if field.metadata.get("static"))

    def settled(whole: T) -> tuple[Any, ...]:
        return tuple(getattr(whole, name) for name in statics)

    def flatten(whole: T) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return tuple(getattr(whole, name) for name in names), settled(whole)

    def flatten_with_keys(whole: T) -> tuple[list[tuple[Any, Any]], tuple[Any, ...]]:
        keyed = [(jax.tree_util.GetAttrKey(name), getattr(whole, name)) for name in names]
        return keyed, settled(whole)

    def unflatten(values: tuple[Any, ...], children: Iterable[Any]) -> T:
        whole = object.__new__(dataclass_)
        for name, value in zip(names + statics, (*children, *values), strict=True):
            object.__setattr__(whole, name, value)
        return whole

    jax.tree_util.register_pytree_with_keys(dataclass_, flatten_with_keys, unflatten, flatten)
    return dataclass_


@pytree
@dataclass(frozen=True)
class Images:
    """A batch of images, padded right and below to one size.

    Attributes:
        pixels: RGB as decoded, 0 to 255. What stands in the padding never matters.
        valid_hw: rows and columns of each image that are real; at least (1, 1).
    """

    pixels: UInt8[Array | np.ndarray, "b h w 3"]
    valid_hw: Int[Array | np.ndarray, "b 2"]


@pytree
@dataclass(frozen=True)
class Outputs:
    """What a detector says of each query, after each decoder layer.

    Attributes:
        logits: a column for each class; some families have one more, the last.
        boxes: (cx, cy, w, h) as fractions of the valid image, in [0, 1].
        no_object: the last column stands for "no object", and a softmax over all columns makes
            probabilities; else a sigmoid of each column does.
    """

    logits: Float[Array, "l b q c"]
    boxes: Float[Array, "l b q 4"]
    no_object: bool = field(default=False, metadata={"static": True})


@pytree
@dataclass(frozen=True)
class Targets:
    """What there is to find in a batch of images, padded to one number of targets.

    Attributes:
        boxes: (cx, cy, w, h) as fractions of the valid image; anything finite in the padding.
        labels: columns of the logits.
        count: how many of each image's are real; they come first.
        in_batch: False for an image that only fills up the batch, and has no loss; None: all count.
    """

    boxes: Float[Array | np.ndarray, "b n 4"]
    labels: Int[Array | np.ndarray, "b n"]
    count: Int[Array | np.ndarray, " b"]
    in_batch: Bool[Array | np.ndarray, " b"] | None = None

    @property
    def real(self) -> Bool[Array, "b n"]:
        """True on real targets, False on padding."""
        return jnp.arange(self.labels.shape[1]) < jnp.asarray(self.count)[:, None]


@pytree
@dataclass(frozen=True)
class RankedDetections:
    """The K best pairs of query and class of each image of a batch (or of one), best first.

    Attributes:
        boxes: (x1, y1, x2, y2) in pixels of the original image, not clipped to it.
        scores: probability of the class, in [0, 1].
        labels: column of the logits, which in COCO's models is the category id.
    """

    boxes: Float[Array | np.ndarray, "*b k 4"]
    scores: Float[Array | np.ndarray, "*b k"]
    labels: Int[Array | np.ndarray, "*b k"]
