"""The whole of DETR, from a batch of images to logits and boxes."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype
from jaxtyping import Array, Float

from anchor_detr_jax.backbones.resnet import ResNet
from anchor_detr_jax.layers.linear import linear
from anchor_detr_jax.layers.normalization import layer_norm
from anchor_detr_jax.models import forward
from anchor_detr_jax.models.detr.config import DETRConfig
from anchor_detr_jax.models.detr.decoder import DecoderLayer
from anchor_detr_jax.models.detr.encoder import Encoder, MapPlaces
from anchor_detr_jax.models.heads import BoxHead
from anchor_detr_jax.structures import Outputs

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
            hidden = [self.decoded(0, self.empty_queries(), memory, places, train=train)]
        for i in range(1, len(self.decoder)):
            hidden.append(self.decoded(i, hidden[-1], memory, places, train=train))
        return jnp.stack(hidden)

    def predict_boxes(self, hidden: Float[Array, "l b q e"]) -> Outputs:
        """Features to logits and boxes; the heads are the same for every layer."""
        hidden = self.decoder_norm(hidden)
        return Outputs(
            logits=self.class_head(hidden).astype(jnp.float32),
            boxes=self.box_head(hidden),
            no_object=self.config.no_object,
        )
