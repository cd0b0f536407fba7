"""The whole of SMCA, from a batch of images to logits and boxes."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype
from jaxtyping import Array, Float

from anchor_detr_jax.backbones.resnet import ResNet
from anchor_detr_jax.layers.normalization import layer_norm
from anchor_detr_jax.layers.padding import FeatureMap
from anchor_detr_jax.layers.recomputation import recomputed
from anchor_detr_jax.models.detr.encoder import Encoder, MapPlaces
from anchor_detr_jax.models.heads import BoxHead, focal_class_head
from anchor_detr_jax.models.pixels import normalised
from anchor_detr_jax.models.smca.config import SMCAConfig
from anchor_detr_jax.models.smca.decoder import DecoderLayer, with_anchor
from anchor_detr_jax.structures import Images, Outputs

__all__ = ["SMCA"]


class SMCA(nn.Module):
    """Detector whose queries look first around anchors.

    An image's outputs depend on nothing but its real pixels: not on what it is batched with, nor on
    how far it is padded.

    Attributes:
        config: the model's shape.
        dtype: what is computed in; None: float32. Parameters stay float32, and so do positions and
            heads.
        remat: what the backward pass computes again, one of `RECOMPUTATION`.
        folded, in_parts: for inference; see `models/inference.py`.
    """

    config: SMCAConfig
    dtype: Dtype | None = None
    remat: str = "none"
    folded: bool = False
    in_parts: bool = False

    def setup(self) -> None:
        """Name every part; the names are the parameter tree."""
        c, dtype = self.config, self.dtype
        self.backbone = ResNet(c.backbone, dtype, self.remat, self.folded, self.in_parts)
        self.encoder = Encoder(
            c.layer, c.encoder_layers, dtype=dtype, remat=self.remat, in_parts=self.in_parts
        )
        self.decoder = [
            DecoderLayer(c, i == 0, dtype, self.in_parts) for i in range(c.decoder_layers)
        ]
        self.decoder_norm = layer_norm(None)
        normal = nn.initializers.normal(1.0)
        self.query_places = self.param("query_places", normal, (c.num_queries, c.hidden_dim))
        self.class_head = focal_class_head(c.num_classes + 1, fan_in=c.hidden_dim)
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
        where, anchors = self.query_places[None], self._anchors_in_cells(places)
        if self.has_variable("constants", "decoder"):
            first, x = self.decoder[0], self.get_variable("constants", "decoder")
            gaussians = first.gaussians(self._queries(), where, anchors)
            hidden = [first.over_memory(x, where, gaussians, memory, places, train)]
        else:
            hidden = [self._decoded(0, self._queries(), anchors, memory, places, train)]
        for i in range(1, len(self.decoder)):
            hidden.append(self._decoded(i, hidden[-1], anchors, memory, places, train))
        return jnp.stack(hidden)

    def _decoded(self, layer: int, x: Array, *rest: Any) -> Float[Array, "b q e"]:
        *arrays, train = rest
        where = self.query_places[None]
        return recomputed(self.decoder[layer], x, where, *arrays, what=self.remat, static=(train,))

    def anchor_points(self) -> Float[Array, "q 2"]:
        """(x, y) of each query's anchor, as fractions of the image."""
        return jax.nn.sigmoid(self._anchor_logits())

    def _anchor_logits(self) -> Float[Array, "q 2"]:
        return self.decoder[0].anchors(self._queries(), self.query_places[None])[0]

    def _anchors_in_cells(self, places: MapPlaces) -> Float[Array, "b q 2"]:
        size = places.image_hw[:, None, ::-1] / self.config.backbone.stride
        return size * self.anchor_points()

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
        hidden, centres = self.decoder_norm(hidden), self._anchor_logits()
        if self.config.query_mixture:
            centres = centres * with_anchor(self.config.num_queries)[:, None]
        return Outputs(
            logits=self.class_head(hidden).astype(jnp.float32),
            boxes=self.box_head(hidden, centres),
        )
