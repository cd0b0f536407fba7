"""The whole of DETR, from a batch of images to logits and boxes."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype
from jaxtyping import Array, Float

from anchor_detr_jax.backbones.resnet import ResNet
from anchor_detr_jax.layers.linear import linear
from anchor_detr_jax.layers.normalization import layer_norm
from anchor_detr_jax.layers.padding import FeatureMap
from anchor_detr_jax.layers.recomputation import recomputed
from anchor_detr_jax.models.detr.config import DETRConfig
from anchor_detr_jax.models.detr.decoder import DecoderLayer
from anchor_detr_jax.models.detr.encoder import Encoder, MapPlaces
from anchor_detr_jax.models.heads import BoxHead
from anchor_detr_jax.models.pixels import normalised
from anchor_detr_jax.structures import Images, Outputs

__all__ = ["DETR"]


class DETR(nn.Module):
    """Detector with learned queries.

    An image's outputs depend on nothing but its real pixels: not on what it is batched with, nor on
    how far it is padded.

    Attributes:
        config: the model's shape.
        dtype: what is computed in; None: float32. Parameters stay float32, and so do positions and
            heads.
        remat: what the backward pass computes again, one of `RECOMPUTATION`.
        folded, in_parts: for inference; see `models/inference.py`.
    """

    config: DETRConfig
    dtype: Dtype | None = None
    remat: str = "none"
    folded: bool = False
    in_parts: bool = False

    def setup(self) -> None:
        """Name every part; the names are the parameter tree."""
        c, dtype = self.config, self.dtype
        self.backbone = ResNet(c.backbone, dtype, self.remat, self.folded, self.in_parts)
        self.encoder = Encoder(
            c.layer, c.encoder_layers, c.positions, dtype, self.remat, self.in_parts
        )
        self.decoder = [
            DecoderLayer(c.layer, dtype, self.in_parts) for _ in range(c.decoder_layers)
        ]
        self.decoder_norm = layer_norm(None)
        normal = nn.initializers.normal(1.0)
        self.query_places = self.param("query_places", normal, (c.num_queries, c.hidden_dim))
        self.class_head = linear(c.num_classes + 1, fan_in=c.hidden_dim)
        self.box_head = BoxHead(c.hidden_dim)

    def __call__(
        self, images: Images | FeatureMap, *, train: bool = False, last_layer_only: bool = False
    ) -> Outputs:
        """Logits and boxes of every decoder layer, or (L = 1) of the last alone.

        Args:
            images: a padded batch.
            train: drop out; needs the random stream `dropout` where the rate is not 0.
            last_layer_only: spare the heads of all other layers.
        """
        memory, places = self.encode(images, train=train)
        hidden = self.decode(memory, places, train=train)
        return self.predict_boxes(hidden[-1:] if last_layer_only else hidden)

    def encode(
        self, images: Images | FeatureMap, *, train: bool = False
    ) -> tuple[Float[Array, "b h w e"], MapPlaces]:
        """Pixels to the encoded map."""
        pixels = normalised(images)
        return self.encoder(self.backbone(pixels)[-1], pixels.valid_hw, train)

    def decode(
        self, memory: Float[Array, "b h w e"], places: MapPlaces, *, train: bool = False
    ) -> Float[Array, "l b q e"]:
        """The queries' features after each layer."""
        memory = memory.reshape(memory.shape[0], -1, memory.shape[-1])
        where = self.query_places[None]
        if self.has_variable("constants", "decoder"):
            x = self.get_variable("constants", "decoder")
            hidden = [self.decoder[0].over_memory(x, where, memory, places, train)]
        else:
            hidden = [self._decoded(self.decoder[0], self._queries(), memory, places, train)]
        for layer in self.decoder[1:]:
            hidden.append(self._decoded(layer, hidden[-1], memory, places, train))
        return jnp.stack(hidden)

    def _decoded(
        self, layer: DecoderLayer, x: Array, memory: Array, places: MapPlaces, train: bool
    ) -> Float[Array, "b q e"]:
        where = self.query_places[None]
        return recomputed(layer, x, where, memory, places, what=self.remat, static=(train,))

    def _queries(self) -> Float[Array, "1 q e"]:
        """Nothing is known of any image yet."""
        c = self.config
        return jnp.zeros((1, c.num_queries, c.hidden_dim), self.dtype or jnp.float32)

    def constants(self) -> dict[str, Any]:
        """What is the same for every image: the collection `constants`, for inference.

        The queries up to their first look at the image.
        """
        where = self.query_places[None]
        return {"decoder": self.decoder[0].among_queries(self._queries(), where, False)}

    def predict_boxes(self, hidden: Float[Array, "l b q e"]) -> Outputs:
        """Features to logits and boxes; the heads are the same for every layer."""
        hidden = self.decoder_norm(hidden)
        return Outputs(
            logits=self.class_head(hidden).astype(jnp.float32),
            boxes=self.box_head(hidden),
            no_object=self.config.no_object,
        )
