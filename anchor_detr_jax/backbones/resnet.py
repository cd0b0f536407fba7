"""ResNets, published and small; what stands in the padding never reaches a real position.

Source: torchvision `resnet50`, `resnet101` (stride on the 3x3 convolution), as AnchorDETR
`models/backbone.py` uses them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import flax.linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

from anchor_detr_jax.backbones.bands import in_bands
from anchor_detr_jax.layers.activation import relu_of_sum
from anchor_detr_jax.layers.convolution import Convolution
from anchor_detr_jax.layers.normalization import FrozenBatchNorm, MaskedGroupNorm
from anchor_detr_jax.layers.padding import FeatureMap, downsampled, zero_padding
from anchor_detr_jax.layers.pooling import max_pool
from anchor_detr_jax.layers.recomputation import recomputed

__all__ = ["BLOCKS", "ResNet", "ResNetConfig", "norm_of"]

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}

_BLOCK_KINDS = ("bottleneck", "basic")
_NORMS = ("frozen_batch", "group")

_GROUP_CHANNELS, _MOST_GROUPS = 8, 32
"""A group norm's groups have at least so many channels, and there are at most so many groups."""

_BAND_ROWS = 160
"""The most rows of pixels in a band. Less saves little memory, and the bands overlap."""


@dataclass(frozen=True)
class ResNetConfig:
    """Shape of a ResNet.

    The defaults are those of the published models, whose batch norms were trained elsewhere. A
    backbone that learns from nothing needs `norm="group"`; for small pictures there are a smaller
    stem and plainer blocks.

    Attributes:
        blocks: blocks of each of the four stages: `BLOCKS[50]` or `BLOCKS[101]`, or any other.
        width: channels of the stem; a multiple of 8 with group norms.
        dilation: DC5. The last stage keeps its stride at 1 and dilates instead.
        block: "bottleneck" (1x1, 3x3, 1x1; the last stage has 32 x width channels) or "basic"
            (3x3, 3x3; 8 x width).
        norm: "frozen_batch", a scale and shift that never learn, or "group", which learns: at
            most 32 groups, of at least 8 channels.
        stem_stride: 4 for a 7x7 convolution of stride 2 and a max pool; 2 leaves the pool away, 1
            the stride too. A stage's stride is this times 1, 2, 4 and 8.
    """

    blocks: tuple[int, ...] = BLOCKS[50]
    width: int = 64
    dilation: bool = False
    block: str = "bottleneck"
    norm: str = "frozen_batch"
    stem_stride: int = 4

    def __post_init__(self) -> None:
        for name, holds, expected in self._rules():
            if not holds:
                raise ValueError(
                    f"backbone.{name} is {getattr(self, name)!r}, and must be {expected}"
                )

    def _rules(self) -> Iterator[tuple[str, bool, str]]:
        """Name, whether it is right, and what would be."""
        four = len(self.blocks) == 4 and min(self.blocks) >= 1
        yield "blocks", four, "four numbers, each at least 1"
        yield "width", self.width >= 1, "at least 1"
        yield "block", self.block in _BLOCK_KINDS, f"one of {_BLOCK_KINDS}"
        yield "norm", self.norm in _NORMS, f"one of {_NORMS}"
        grouped = self.norm != "group" or self.width % _GROUP_CHANNELS == 0
        yield "width", grouped, f"a multiple of {_GROUP_CHANNELS} for norm='group'"
        yield "stem_stride", self.stem_stride in (1, 2, 4), "1, 2 or 4"

    @property
    def stride(self) -> int:
        """Pixels from one cell of the last map to the next."""
        return self.stem_stride * (4 if self.dilation else 8)


@dataclass(frozen=True)
class _Layer:
    """A convolution and its norm, for use in a module's compact call.

    Attributes:
        norm: as in `ResNetConfig`, or "folded": the convolution does the batch norm's work.
        dtype: what is computed in.
        for_cpus: Winograd's convolutions, and frozen norms of flat maps.
    """

    norm: str
    dtype: Dtype | None
    for_cpus: bool

    def __call__(
        self,
        x: FeatureMap,
        features: int,
        size: int,
        *,
        name: str,
        stride: int = 1,
        dilation: int = 1,
    ) -> FeatureMap:
        convolution = Convolution(
            features,
            size,
            stride=stride,
            dilation=dilation,
            bias=self.norm == "folded",
            by_winograd=self.for_cpus,
            dtype=self.dtype,
            name=name,
        )
        y = convolution(zero_padding(x.features, x.valid_hw) if size > 1 else x.features)
        valid_hw, norm = downsampled(x, stride), norm_of(name)
        if self.norm == "frozen_batch":
            y = FrozenBatchNorm(name=norm)(_flat(y) if self.for_cpus else y).reshape(y.shape)
        elif self.norm == "group":
            groups = math.gcd(_MOST_GROUPS, features // _GROUP_CHANNELS)
            y = MaskedGroupNorm(groups, name=norm)(y, valid_hw)
        return FeatureMap(y, valid_hw)


class ResidualBlock(nn.Module):
    """Two or three convolutions, and a shortcut that is projected where the shape changes.

    Attributes:
        kind: "bottleneck" or "basic", as in `ResNetConfig`.
        width: channels inside; four times as many come out of a bottleneck.
        stride: of its first convolution of 3x3.
        dilation: of all of these.
        norm: as in `_Layer`.
        dtype: what is computed in.
        for_cpus: as in `_Layer`; and the sum at the end takes no memory of its own.
    """

    kind: str
    width: int
    stride: int = 1
    dilation: int = 1
    norm: str = "frozen_batch"
    dtype: Dtype | None = None
    for_cpus: bool = False

    @nn.compact
    def __call__(self, x: FeatureMap) -> FeatureMap:
        layer = _Layer(self.norm, self.dtype, self.for_cpus)
        how = {"stride": self.stride, "dilation": self.dilation}
        if self.kind == "bottleneck":
            y = _relu(layer(x, self.width, 1, name="conv1"))
            y = _relu(layer(y, self.width, 3, name="conv2", **how))
            y = layer(y, 4 * self.width, 1, name="conv3")
        else:
            y = _relu(layer(x, self.width, 3, name="conv1", **how))
            y = layer(y, self.width, 3, name="conv2", dilation=self.dilation)
        if x.features.shape != y.features.shape:
            x = layer(x, y.features.shape[-1], 1, stride=self.stride, name="downsample_conv")
        ends = (x.features, y.features)
        total = relu_of_sum(*(map(_flat, ends) if self.for_cpus else ends))
        return FeatureMap(total.reshape(y.features.shape), y.valid_hw)


class ResNet(nn.Module):
    """From normalised pixels to the maps of the last three stages, C3 to C5.

    Attributes:
        config: its shape.
        dtype: what is computed in; None: float32.
        remat: what the backward pass computes again, one of `RECOMPUTATION`.
        folded: batch norms are part of the convolutions, as `backbones.folding` makes them.
        in_parts: for CPUs. Rows of pixels go through the first layers in bands, so that the largest
            maps are never whole in memory; what comes out is the same. Not with group norms. And
            convolutions are Winograd's where that is faster.
    """

    config: ResNetConfig
    dtype: Dtype | None = None
    remat: str = "none"
    folded: bool = False
    in_parts: bool = False

    @nn.compact
    def __call__(self, pixels: FeatureMap) -> tuple[FeatureMap, FeatureMap, FeatureMap]:
        c = self.config
        if self.in_parts and c.norm != "group":
            x = self._first_layers_in_bands(pixels)
        else:
            x = self._first_blocks(self._stem(pixels))
        stages = []
        for stage in (1, 2, 3):
            for i in range(1 if stage == 1 else 0, c.blocks[stage]):
                x = self._block(x, stage, i)
            stages.append(x)
        return tuple(stages)

    def _stem(self, pixels: FeatureMap) -> FeatureMap:
        """The 7x7 convolution, and the pool if there is one."""
        c = self.config
        layer = _Layer(self._norm, self.dtype, self.in_parts)
        x = _relu(layer(pixels, c.width, 7, stride=min(c.stem_stride, 2), name="conv1"))
        return max_pool(x) if c.stem_stride == 4 else x

    def _first_blocks(self, x: FeatureMap) -> FeatureMap:
        """The first stage, and the next one's first block, after which maps are small."""
        for i in range(self.config.blocks[0]):
            x = self._block(x, 0, i)
        return self._block(x, 1, 0)

    def _first_layers_in_bands(self, pixels: FeatureMap) -> FeatureMap:
        """In two steps, in pixels and then in the stem's rows, so that bands overlap by less."""
        c, dtype = self.config, self.dtype or pixels.features.dtype
        in_stem, after_it = _reach(c)
        x = in_bands(
            ResNet._stem,
            self,
            pixels,
            rows=_BAND_ROWS,
            stride=c.stem_stride,
            reach=in_stem,
            features=c.width,
            dtype=dtype,
        )
        return in_bands(
            ResNet._first_blocks,
            self,
            x,
            rows=_BAND_ROWS // c.stem_stride,
            stride=2,
            reach=after_it,
            features=c.width * (8 if c.block == "bottleneck" else 2),
            dtype=dtype,
        )

    def _block(self, x: FeatureMap, stage: int, i: int) -> FeatureMap:
        c = self.config
        dilated = c.dilation and stage == 3
        block = ResidualBlock(
            c.block,
            c.width * 2**stage,
            stride=2 if i == 0 and stage > 0 and not dilated else 1,
            dilation=2 if dilated and i > 0 else 1,
            norm=self._norm,
            dtype=self.dtype,
            for_cpus=self.in_parts,
            name=f"layer{stage + 1}_{i}",
        )
        return recomputed(block, x, what=self.remat)

    @property
    def _norm(self) -> str:
        return "folded" if self.folded and self.config.norm == "frozen_batch" else self.config.norm


def _reach(config: ResNetConfig) -> tuple[int, int]:
    """How many rows above and below one decide what comes of it: in the stem, in the first blocks.

    Each in rows of what goes in. A convolution of 3x3 reaches one row of its input: after a stride
    of 2, that is two of the rows before.
    """
    stem = 3 + (2 if config.stem_stride == 4 else 0)  # 7x7, and the pool's 3x3 after a stride of 2
    if config.block == "bottleneck":
        return stem, config.blocks[0] + 1
    return stem, 2 * config.blocks[0] + (1 + 2)


def norm_of(convolution: str) -> str:
    """The name of the norm that follows a convolution."""
    return convolution.replace("conv", "bn")


def _flat(x: Float[Array, "b h w c"]) -> Float[Array, "bhw c"]:
    """As matrix products give it: XLA adds in place where no shape changes on the way there."""
    return x.reshape(-1, x.shape[-1])


def _relu(x: FeatureMap) -> FeatureMap:
    return FeatureMap(nn.relu(x.features), x.valid_hw)
