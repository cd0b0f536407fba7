"""The whole of Anchor DETR, from a batch of images to logits and boxes."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype
from jaxtyping import Array, Float

from anchor_detr_jax.backbones.resnet import ResNet
from anchor_detr_jax.layers.linear import Mlp
from anchor_detr_jax.layers.normalization import MaskedGroupNorm
from anchor_detr_jax.layers.position import cell_centres, sine_embedding_1d, sine_embedding_2d
from anchor_detr_jax.models.anchor_detr.config import AnchorDETRConfig
from anchor_detr_jax.models.anchor_detr.decoder import DecoderLayer, Memory, QueryPositions
from anchor_detr_jax.models.anchor_detr.encoder import EncoderLayer
from anchor_detr_jax.models.heads import BoxHead, focal_class_head
from anchor_detr_jax.models.pixels import normalised
from anchor_detr_jax.structures import Images, Outputs

__all__ = ["AnchorDETR"]


class AnchorDETR(nn.Module):
    """Detector with anchor points as queries.

    An image's outputs depend on nothing but its real pixels: not on what it is batched with, nor on
    how far it is padded.

    Attributes:
        config: the model's shape.
        dtype: what is computed in (parameters stay float32); None: float32.
    """

    config: AnchorDETRConfig
    dtype: Dtype | None = None

    def setup(self):
        """Name every part; the names are the parameter tree."""
        c, dtype = self.config, self.dtype
        layer = (c.num_heads, c.feedforward_dim, dtype)
        self.backbone = ResNet(c.backbone, dtype)
        self.input_proj = nn.Conv(
            c.hidden_dim, (1, 1), dtype=dtype, kernel_init=nn.initializers.xavier_uniform()
        )
        self.input_norm = MaskedGroupNorm()
        self.encoder = [EncoderLayer(*layer) for _ in range(c.encoder_layers)]
        self.decoder = [DecoderLayer(*layer) for _ in range(c.decoder_layers)]
        self.position_1d = Mlp((c.hidden_dim, c.hidden_dim), dtype=dtype)
        self.position_2d = Mlp((c.hidden_dim, c.hidden_dim), dtype=dtype)
        self.patterns = self.param(
            "patterns", nn.initializers.normal(1.0), (c.num_patterns, c.hidden_dim)
        )
        self.anchor_points = self.param(
            "anchor_points", nn.initializers.uniform(1.0), (c.num_anchors, 2)
        )
        self.class_head = focal_class_head(c.num_classes, fan_in=c.hidden_dim, dtype=dtype)
        self.box_head = BoxHead(c.hidden_dim, dtype)

    def __call__(self, images: Images, *, last_layer_only: bool = False) -> Outputs:
        """Logits and boxes of every decoder layer, or (L = 1) of the last alone."""
        memory = self.encode(images)
        hidden = self.decode(memory)
        return self.predict_boxes(hidden[-1:] if last_layer_only else hidden)

    def encode(self, images: Images) -> Memory:
        """Pixels to the encoded map."""
        *_, c5 = self.backbone(normalised(images))
        x = self.input_norm(self.input_proj(c5.features), c5.valid_hw)
        _, h, w, _ = x.shape
        x_position = self.embed_1d(cell_centres(c5.valid_hw[:, 1], w))
        y_position = self.embed_1d(cell_centres(c5.valid_hw[:, 0], h))
        for layer in self.encoder:
            x = layer(x, x_position, y_position, c5.valid_hw)
        return Memory(
            in_row=x + x_position[:, None, :, :],
            in_column=x + y_position[:, :, None, :],
            values=x,
            valid_hw=c5.valid_hw,
        )

    def decode(self, memory: Memory) -> Float[Array, "l b q e"]:
        """The queries' features after each layer."""
        c = self.config
        points = self.query_points()
        position = QueryPositions(
            xy=self.position_2d(sine_embedding_2d(points, c.hidden_dim))[None],
            x=self.embed_1d(points[:, 0])[None],
            y=self.embed_1d(points[:, 1])[None],
        )
        # One set of queries for all images, until the first look at them.
        x = jnp.repeat(self.patterns, c.num_anchors, axis=0)[None].astype(position.xy.dtype)
        hidden = []
        for layer in self.decoder:
            x = layer(x, position, memory)
            hidden.append(x)
        return jnp.stack(hidden)

    def predict_boxes(self, hidden: Float[Array, "l b q e"]) -> Outputs:
        """Features to logits and boxes; the heads are the same for every layer."""
        return Outputs(
            logits=self.class_head(hidden).astype(jnp.float32),
            boxes=self.box_head(hidden, self.query_points()),
        )

    def embed_1d(self, coordinate: Float[Array, ...]) -> Float[Array, "... e"]:
        """Embedding of an x or a y; one for both, for cells and anchors alike."""
        return self.position_1d(sine_embedding_1d(coordinate, self.config.hidden_dim))

    def query_points(self) -> Float[Array, "q 2"]:
        """(x, y) of each query's anchor point, as fractions of the image."""
        return jnp.tile(self.anchor_points, (self.config.num_patterns, 1))
