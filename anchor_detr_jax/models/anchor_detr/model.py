"""The whole of Anchor DETR, from a batch of images to logits and boxes."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype
from jaxtyping import Array, Float

from anchor_detr_jax.backbones.resnet import ResNet
from anchor_detr_jax.layers.linear import Mlp
from anchor_detr_jax.layers.normalization import MaskedGroupNorm
from anchor_detr_jax.layers.padding import FeatureMap, downsampled, zero_padding
from anchor_detr_jax.layers.position import cell_centres, sine_embedding_1d, sine_embedding_2d
from anchor_detr_jax.layers.recomputation import recomputed
from anchor_detr_jax.models import forward
from anchor_detr_jax.models.anchor_detr.config import AnchorDETRConfig
from anchor_detr_jax.models.anchor_detr.decoder import DecoderLayer
from anchor_detr_jax.models.anchor_detr.encoder import EncoderLayer, LevelLayer
from anchor_detr_jax.models.anchor_detr.map_attention import MapPlaces, QueryPlaces
from anchor_detr_jax.models.heads import BoxHead, focal_class_head, inverse_sigmoid
from anchor_detr_jax.models.pixels import normalised
from anchor_detr_jax.structures import Images, Outputs

__all__ = ["AnchorDETR"]


class AnchorDETR(nn.Module):
    """Detector with anchor points as queries.

    An image's outputs depend on nothing but its real pixels: not on what it is batched with, nor on
    how far it is padded.

    Attributes:
        config: the model's shape.
        dtype: what is computed in; None: float32. Parameters stay float32, and so do positions and
            heads, which cost little: in bfloat16 they are off by pixels.
        remat: what the backward pass computes again, one of `RECOMPUTATION`.
        rcda_impl: how RCDA is computed; the choices are those of `layers.rcda.attend`.
        folded, in_parts: for inference; see `models/inference.py`.
    """

    config: AnchorDETRConfig
    dtype: Dtype | None = None
    remat: str = "none"
    rcda_impl: str = "auto"
    folded: bool = False
    in_parts: bool = False

    __call__ = forward.outputs_of

    def setup(self) -> None:
        """Name every part; the names are the parameter tree."""
        c, dtype = self.config, self.dtype
        self.backbone = ResNet(c.backbone, dtype, self.remat, self.folded, self.in_parts)
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
        self.encoder = [EncoderLayer(c, dtype, self.rcda_impl) for _ in range(c.encoder_layers)]
        self.encoder_level = [LevelLayer(c, dtype) for _ in range(c.level_layers)]
        self.decoder = [
            DecoderLayer(c, dtype, self.rcda_impl, self.in_parts) for _ in range(c.decoder_layers)
        ]
        self.position_1d = Mlp((c.hidden_dim, c.hidden_dim))
        self.position_2d = Mlp((c.hidden_dim, c.hidden_dim))
        normal = nn.initializers.normal(1.0)
        self.patterns = self.param("patterns", normal, (c.num_patterns, c.hidden_dim))
        if c.num_levels > 1:
            self.levels = self.param("levels", normal, (c.num_levels, c.hidden_dim))
        if c.anchors == "learned":
            self.anchor_points = self.param(
                "anchor_points", nn.initializers.uniform(1.0), (c.num_anchors, 2)
            )
        self.class_head = focal_class_head(c.num_classes, fan_in=c.hidden_dim)
        self.box_head = BoxHead(c.hidden_dim, zero_start=(0.0, 0.0, -2.0, -2.0))

    def encode(
        self, images: Images | FeatureMap, *, train: bool = False
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
            x = recomputed(layer, x, places, what=self.remat, static=(train,))
            if i < len(self.encoder_level):
                among_levels = self.encoder_level[i]
                x = recomputed(among_levels, x, self.levels, what=self.remat, static=(train,))
        return x, places

    def decode(
        self, memory: Float[Array, "bl h w e"], map_places: MapPlaces, *, train: bool = False
    ) -> Float[Array, "l b q e"]:
        """The queries' features after each layer."""
        if self.has_variable("constants", "decoder"):
            places, x = self.get_variable("constants", "decoder")
            hidden = [self.decoder[0].over_memory(x, places, memory, map_places, train)]
        else:
            places, x = self._query_places(), self._queries(memory.dtype)
            hidden = [self._decoded(self.decoder[0], x, places, memory, map_places, train)]
        for layer in self.decoder[1:]:
            hidden.append(self._decoded(layer, hidden[-1], places, memory, map_places, train))
        return jnp.stack(hidden)

    def _decoded(self, layer: DecoderLayer, *arguments: Any) -> Float[Array, "b q e"]:
        *arrays, train = arguments
        return recomputed(layer, *arrays, what=self.remat, static=(train,))

    def constants(self) -> dict[str, Any]:
        """What is the same for every image: the collection `constants`, for inference.

        The queries and where they are, up to their first look at the image.
        """
        places = self._query_places()
        queries = self._queries(self.dtype or jnp.float32)
        return {"decoder": (places, self.decoder[0].among_queries(queries, places, False))}

    def _query_places(self) -> QueryPlaces:
        points = self.query_points()
        return QueryPlaces(
            x=self._embed_1d(points[:, 0])[None],
            y=self._embed_1d(points[:, 1])[None],
            xy=self._embed_2d(points)[None],
        )

    def _queries(self, dtype: Dtype) -> Float[Array, "1 q e"]:
        """One set of queries for all images, until the first look at them."""
        return jnp.repeat(self.patterns, self.config.num_anchors, axis=0)[None].astype(dtype)

    def predict_boxes(self, hidden: Float[Array, "l b q e"]) -> Outputs:
        """Features to logits and boxes; the heads are the same for every layer."""
        return Outputs(
            logits=self.class_head(hidden).astype(jnp.float32),
            boxes=self.box_head(hidden, inverse_sigmoid(self.query_points())),
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
            x, valid_hw = zero_padding(x, valid_hw), downsampled(stage, 2)
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
