"""The whole of Anchor DETR, from a batch of images to logits and boxes."""

from __future__ import annotations

import math

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype
from jaxtyping import Array, Float

from anchor_detr_jax.backbones.resnet import FeatureMap, ResNet
from anchor_detr_jax.layers.linear import Mlp
from anchor_detr_jax.layers.normalization import MaskedGroupNorm
from anchor_detr_jax.layers.padding import downsampled, zero_padding
from anchor_detr_jax.layers.position import cell_centres, sine_embedding_1d, sine_embedding_2d
from anchor_detr_jax.models.anchor_detr.config import AnchorDETRConfig
from anchor_detr_jax.models.anchor_detr.decoder import DecoderLayer
from anchor_detr_jax.models.anchor_detr.encoder import EncoderLayer, LevelLayer
from anchor_detr_jax.models.anchor_detr.map_attention import MapPlaces, QueryPlaces
from anchor_detr_jax.models.heads import BoxHead, focal_class_head
from anchor_detr_jax.models.pixels import normalised
from anchor_detr_jax.structures import Images, Outputs

__all__ = ["AnchorDETR"]

_TRAIN = 3, 5
"""Where `train` stands among the arguments of the encoder's and of the decoder's layers."""


class AnchorDETR(nn.Module):
    """Detector with anchor points as queries.

    An image's outputs depend on nothing but its real pixels: not on what it is batched with, nor on
    how far it is padded.

    Attributes:
        config: the model's shape.
        dtype: what is computed in (parameters stay float32); None: float32.
        remat: keep only each layer's input for the backward pass, and compute the rest again.
    """

    config: AnchorDETRConfig
    dtype: Dtype | None = None
    remat: bool = False

    def setup(self) -> None:
        """Name every part; the names are the parameter tree."""
        c, dtype = self.config, self.dtype
        encoder, level, decoder = EncoderLayer, LevelLayer, DecoderLayer
        if self.remat:
            encoder = nn.remat(encoder, static_argnums=_TRAIN[0])
            level = nn.remat(level, static_argnums=_TRAIN[0])
            decoder = nn.remat(decoder, static_argnums=_TRAIN[1])
        self.backbone = ResNet(c.backbone, dtype, self.remat)
        # Where all three maps are used, C3 is brought to C4's size.
        self.input_proj = [
            nn.Conv(
                c.hidden_dim,
                kernel_size=(3, 3) if _halves(c, i) else (1, 1),
                strides=2 if _halves(c, i) else 1,
                padding=1 if _halves(c, i) else 0,
                kernel_init=nn.initializers.xavier_uniform(),
                dtype=dtype,
            )
            for i in range(c.num_levels)
        ]
        self.input_norm = [MaskedGroupNorm() for _ in range(c.num_levels)]
        self.encoder = [encoder(c, dtype) for _ in range(c.encoder_layers)]
        self.encoder_level = [level(c, dtype) for _ in range(c.level_layers)]
        self.decoder = [decoder(c, dtype) for _ in range(c.decoder_layers)]
        self.position_1d = Mlp((c.hidden_dim, c.hidden_dim), dtype=dtype)
        self.position_2d = Mlp((c.hidden_dim, c.hidden_dim), dtype=dtype)
        normal = nn.initializers.normal(1.0)
        self.patterns = self.param("patterns", normal, (c.num_patterns, c.hidden_dim))
        if c.num_levels > 1:
            self.levels = self.param("levels", normal, (c.num_levels, c.hidden_dim))
        if c.anchors == "learned":
            self.anchor_points = self.param(
                "anchor_points", nn.initializers.uniform(1.0), (c.num_anchors, 2)
            )
        self.class_head = focal_class_head(c.num_classes, fan_in=c.hidden_dim, dtype=dtype)
        self.box_head = BoxHead(c.hidden_dim, dtype)

    def __call__(
        self, images: Images, *, train: bool = False, last_layer_only: bool = False
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
        self, images: Images, *, train: bool = False
    ) -> tuple[Float[Array, "bl h w e"], MapPlaces]:
        """Pixels to the encoded maps; with several levels, those of each image in a row."""
        levels = self.config.num_levels
        stages = self.backbone(normalised(images))[-levels:]
        maps = [self._projected(i, stage) for i, stage in enumerate(stages)]
        x = jnp.stack([m.features for m in maps], axis=1)
        b, _, h, w, e = x.shape
        x = x.reshape(b * levels, h, w, e)
        places = self._map_places(FeatureMap(x, jnp.repeat(maps[-1].valid_hw, levels, axis=0)))
        for i, layer in enumerate(self.encoder):
            x = layer(x, places, train)
            if i < len(self.encoder_level):
                x = self.encoder_level[i](x, self.levels, train)
        return x, places

    def decode(
        self, memory: Float[Array, "bl h w e"], places: MapPlaces, *, train: bool = False
    ) -> Float[Array, "l b q e"]:
        """The queries' features after each layer."""
        c = self.config
        points = self.query_points()
        query_places = QueryPlaces(
            x=self._embed_1d(points[:, 0])[None],
            y=self._embed_1d(points[:, 1])[None],
            xy=self._embed_2d(points)[None],
        )
        # One set of queries for all images, until the first look at them.
        x = jnp.repeat(self.patterns, c.num_anchors, axis=0)[None].astype(memory.dtype)
        hidden = []
        for layer in self.decoder:
            x = layer(x, query_places, memory, places, train)
            hidden.append(x)
        return jnp.stack(hidden)

    def predict_boxes(self, hidden: Float[Array, "l b q e"]) -> Outputs:
        """Features to logits and boxes; the heads are the same for every layer."""
        return Outputs(
            logits=self.class_head(hidden).astype(jnp.float32),
            boxes=self.box_head(hidden, self.query_points()),
        )

    def query_points(self) -> Float[Array, "q 2"]:
        """(x, y) of each query's anchor point, as fractions of the image."""
        c = self.config
        points = self.anchor_points if c.anchors == "learned" else grid_points(c.num_anchors)
        return jnp.tile(points, (c.num_patterns, 1))

    def _projected(self, i: int, stage: FeatureMap) -> FeatureMap:
        """A map of the backbone in the model's width, and at the size of the last one."""
        x, valid_hw = stage.features, stage.valid_hw
        if _halves(self.config, i):
            x, valid_hw = zero_padding(x, valid_hw), downsampled(valid_hw, 2)
        return FeatureMap(self.input_norm[i](self.input_proj[i](x), valid_hw), valid_hw)

    def _map_places(self, maps: FeatureMap) -> MapPlaces:
        _, h, w, _ = maps.features.shape
        x = cell_centres(maps.valid_hw[:, 1], w)
        y = cell_centres(maps.valid_hw[:, 0], h)
        cells = jnp.stack(jnp.broadcast_arrays(x[:, None, :], y[:, :, None]), axis=-1)
        return MapPlaces(self._embed_1d(x), self._embed_1d(y), self._embed_2d(cells), maps.valid_hw)

    def _embed_1d(self, coordinate: Float[Array, ...]) -> Float[Array, "... e"]:
        """Embedding of an x or a y; one for both, for cells and anchors alike."""
        return self.position_1d(sine_embedding_1d(coordinate, self.config.hidden_dim))

    def _embed_2d(self, points: Float[Array, "... 2"]) -> Float[Array, "... e"]:
        return self.position_2d(sine_embedding_2d(points, self.config.hidden_dim))


def grid_points(count: int) -> Float[Array, "count 2"]:
    """Centres of the cells of a square grid, (x, y); y varies fastest."""
    side = math.isqrt(count)
    centres = (jnp.arange(side, dtype=jnp.float32) + 0.5) / side
    return jnp.stack(jnp.meshgrid(centres, centres, indexing="ij"), axis=-1).reshape(-1, 2)


def _halves(config: AnchorDETRConfig, level: int) -> bool:
    """Whether a level is C3, at twice the resolution of the others."""
    return config.num_levels == 3 and level == 0
