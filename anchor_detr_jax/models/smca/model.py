"""The whole of SMCA, from a batch of images to logits and boxes."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype
from jaxtyping import Array, Float

from anchor_detr_jax.backbones.resnet import ResNet
from anchor_detr_jax.layers.normalization import layer_norm
from anchor_detr_jax.models import forward
from anchor_detr_jax.models.detr.encoder import Encoder, MapPlaces
from anchor_detr_jax.models.heads import BoxHead, focal_class_head
from anchor_detr_jax.models.smca.config import SMCAConfig
from anchor_detr_jax.models.smca.decoder import DecoderLayer, with_anchor
from anchor_detr_jax.structures import Outputs

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

    __call__ = forward.outputs_of
    encode = forward.encode
    empty_queries = forward.empty_queries
    constants = forward.constants
    decoded = forward.decoded

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

    def decode(
        self, memory: Float[Array, "b h w e"], places: MapPlaces, *, train: bool = False
    ) -> Float[Array, "l b q e"]:
        """The queries' features after each layer."""
        where, anchors = self.query_places[None], self._anchors_in_cells(places)
        if self.has_variable("constants", "decoder"):
            first, x = self.decoder[0], self.get_variable("constants", "decoder")
            gaussians = first.gaussians(self.empty_queries(), where, anchors)
            hidden = [first.over_memory(x, where, gaussians, memory, places, train)]
        else:
            hidden = [self.decoded(0, self.empty_queries(), anchors, memory, places, train=train)]
        for i in range(1, len(self.decoder)):
            hidden.append(self.decoded(i, hidden[-1], anchors, memory, places, train=train))
        return jnp.stack(hidden)

    def anchor_points(self) -> Float[Array, "q 2"]:
        """(x, y) of each query's anchor, as fractions of the image."""
        return jax.nn.sigmoid(self._anchor_logits())

    def _anchor_logits(self) -> Float[Array, "q 2"]:
        return self.decoder[0].anchors(self.empty_queries(), self.query_places[None])[0]

    def _anchors_in_cells(self, places: MapPlaces) -> Float[Array, "b q 2"]:
        size = places.image_hw[:, None, ::-1] / self.config.backbone.stride
        return size * self.anchor_points()

    def predict_boxes(self, hidden: Float[Array, "l b q e"]) -> Outputs:
        """Features to logits and boxes; the heads are the same for every layer."""
        hidden, centres = self.decoder_norm(hidden), self._anchor_logits()
        if self.config.query_mixture:
            centres = centres * with_anchor(self.config.num_queries)[:, None]
        return Outputs(
            logits=self.class_head(hidden).astype(jnp.float32),
            boxes=self.box_head(hidden, centres),
        )
