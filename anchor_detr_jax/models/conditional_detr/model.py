"""The whole of Conditional DETR, from a batch of images to logits and boxes."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype
from jaxtyping import Array, Float

from anchor_detr_jax.backbones.resnet import ResNet
from anchor_detr_jax.layers.linear import XAVIER, Mlp
from anchor_detr_jax.layers.normalization import layer_norm
from anchor_detr_jax.layers.position import sine_embedding_2d
from anchor_detr_jax.models import forward
from anchor_detr_jax.models.conditional_detr.config import ConditionalDETRConfig
from anchor_detr_jax.models.conditional_detr.decoder import DecoderLayer
from anchor_detr_jax.models.detr.encoder import Encoder, MapPlaces
from anchor_detr_jax.models.heads import BoxHead, focal_class_head, inverse_sigmoid
from anchor_detr_jax.structures import Outputs

__all__ = ["ConditionalDETR"]


class ConditionalDETR(nn.Module):
    """Detector whose queries learn where to look.

    An image's outputs depend on nothing but its real pixels: not on what it is batched with, nor on
    how far it is padded.

    Attributes:
        config: the model's shape.
        dtype: what is computed in; None: float32. Parameters stay float32, and so do positions and
            heads.
        remat: what the backward pass computes again, one of `RECOMPUTATION`.
        folded, in_parts: for inference; see `models/inference.py`.
    """

    config: ConditionalDETRConfig
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
            DecoderLayer(c.layer, i == 0, dtype, self.in_parts) for i in range(c.decoder_layers)
        ]
        self.decoder_norm = layer_norm(None)
        normal = nn.initializers.normal(1.0)
        self.query_places = self.param("query_places", normal, (c.num_queries, c.hidden_dim))
        self.reference = Mlp((c.hidden_dim, 2), kernel_init=XAVIER)
        self.spatial_scale = Mlp((c.hidden_dim, c.hidden_dim), dtype=dtype, kernel_init=XAVIER)
        self.class_head = focal_class_head(c.num_classes, fan_in=c.hidden_dim)
        self.box_head = BoxHead(c.hidden_dim, zero_start=(0.0, 0.0, 0.0, 0.0))

    def decode(
        self, memory: Float[Array, "b h w e"], places: MapPlaces, *, train: bool = False
    ) -> Float[Array, "l b q e"]:
        """The queries' features after each layer."""
        memory = memory.reshape(memory.shape[0], -1, memory.shape[-1])
        where, sines = self.query_places[None], self._sines()
        if self.has_variable("constants", "decoder"):
            x = self.get_variable("constants", "decoder")
            hidden = [self.decoder[0].over_memory(x, where, sines, memory, places, train)]
        else:
            hidden = [self.decoded(0, self.empty_queries(), sines, memory, places, train=train)]
        for i in range(1, len(self.decoder)):
            spatial = sines * self.spatial_scale(hidden[-1])
            hidden.append(self.decoded(i, hidden[-1], spatial, memory, places, train=train))
        return jnp.stack(hidden)

    def reference_points(self) -> Float[Array, "q 2"]:
        """(x, y) of each query's reference point, as fractions of the image."""
        return jax.nn.sigmoid(self.reference(self.query_places))

    def _sines(self) -> Float[Array, "1 q e"]:
        """Embeddings of the reference points."""
        return sine_embedding_2d(self.reference_points(), self.config.hidden_dim)[None]

    def predict_boxes(self, hidden: Float[Array, "l b q e"]) -> Outputs:
        """Features to logits and boxes; the heads are the same for every layer."""
        hidden = self.decoder_norm(hidden)
        return Outputs(
            logits=self.class_head(hidden).astype(jnp.float32),
            boxes=self.box_head(hidden, inverse_sigmoid(self.reference_points())),
        )
