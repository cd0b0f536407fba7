"""From images to outputs: the methods that several families' modules have in common.

Each takes them over by name in its class; what they ask of it are its own methods and parts.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from anchor_detr_jax.layers.padding import FeatureMap
from anchor_detr_jax.layers.recomputation import recomputed
from anchor_detr_jax.models.pixels import normalised
from anchor_detr_jax.structures import Images, Outputs

__all__ = ["constants", "decoded", "empty_queries", "encode", "outputs_of"]


def outputs_of(
    self: Any, images: Images | FeatureMap, *, train: bool = False, last_layer_only: bool = False
) -> Outputs:
    """Logits and boxes of every decoder layer, or (L = 1) of the last alone.

    Args:
        self: a module with `encode`, `decode` and `predict_boxes`.
        images: a padded batch.
        train: drop out; needs the random stream `dropout` where the rate is not 0.
        last_layer_only: spare the heads of all other layers.
    """
    memory, places = self.encode(images, train=train)
    hidden = self.decode(memory, places, train=train)
    return self.predict_boxes(hidden[-1:] if last_layer_only else hidden)


def encode(
    self: Any, images: Images | FeatureMap, *, train: bool = False
) -> tuple[Float[Array, "b h w e"], Any]:
    """Pixels to the encoded map, and where its cells are; of a module with DETR's encoder."""
    pixels = normalised(images)
    return self.encoder(self.backbone(pixels)[-1], pixels.valid_hw, train)


def empty_queries(self: Any) -> Float[Array, "1 q e"]:
    """Nothing is known of any image yet, and all that tells queries apart is `query_places`."""
    return jnp.zeros((1, *self.query_places.shape), self.dtype or jnp.float32)


def decoded(
    self: Any, layer: int, queries: Float[Array, "m q e"], *arrays: Any, train: bool
) -> Float[Array, "b q e"]:
    """The queries after a decoder layer, which is given `arrays`, too."""
    where = self.query_places[None]
    return recomputed(
        self.decoder[layer], queries, where, *arrays, what=self.remat, static=(train,)
    )


def constants(self: Any) -> dict[str, Any]:
    """What is the same for every image: the collection `constants`, for inference.

    The queries up to their first look at the image; of a module that starts from `empty_queries`.
    """
    queries, where = self.empty_queries(), self.query_places[None]
    return {"decoder": self.decoder[0].among_queries(queries, where, False)}
