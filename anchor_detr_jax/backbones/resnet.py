"""ResNets, published and small; what stands in the padding never reaches a real position.

Source: torchvision `resnet50`, `resnet101` (stride on the 3x3 convolution), as AnchorDETR
`models/backbone.py` uses them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype
from jaxtyping import Array, Float, Int

from anchor_detr_jax.layers.convolution import Convolution
from anchor_detr_jax.layers.normalization import FrozenBatchNorm, MaskedGroupNorm
from anchor_detr_jax.layers.padding import downsampled, zero_padding

__all__ = ["BLOCKS", "FeatureMap", "ResNet", "ResNetConfig"]

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}

_BLOCK_KINDS = ("bottleneck", "basic")
_NORMS = ("frozen_batch", "group")

_GROUP_CHANNELS, _MOST_GROUPS = 8, 32
"""A group norm's groups have at least so many channels, and there are at most so many groups."""


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


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FeatureMap:
    """Features of a batch of padded images, with the part of each that is real."""

    features: Float[Array, "b h w d"]
    valid_hw: Int[Array, "b 2"]


@dataclass(frozen=True)
class _Layer:
    """A convolution and its norm, for use in a module's compact call."""

    norm: str
    dtype: Dtype | None

    def __call__(
        self,
        x: FeatureMap,
        features: int,
        size: int,
        *,
        names: tuple[str, str],
        stride: int = 1,
        dilation: int = 1,
    ) -> FeatureMap:
        convolution = Convolution(
            features, size, stride=stride, dilation=dilation, dtype=self.dtype, name=names[0]
        )
        y = convolution(zero_padding(x.features, x.valid_hw) if size > 1 else x.features)
        valid_hw = downsampled(x.valid_hw, stride)
        if self.norm == "frozen_batch":
            return FeatureMap(FrozenBatchNorm(name=names[1])(y), valid_hw)
        groups = math.gcd(_MOST_GROUPS, features // _GROUP_CHANNELS)
        return FeatureMap(MaskedGroupNorm(groups, name=names[1])(y, valid_hw), valid_hw)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1, and a shortcut that is projected where the shape changes."""

    width: int
    stride: int = 1
    dilation: int = 1
    norm: str = "frozen_batch"
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: FeatureMap) -> FeatureMap:
        layer = _Layer(self.norm, self.dtype)
        y = _relu(layer(x, self.width, 1, names=("conv1", "bn1")))
        how = {"stride": self.stride, "dilation": self.dilation}
        y = _relu(layer(y, self.width, 3, names=("conv2", "bn2"), **how))
        y = layer(y, 4 * self.width, 1, names=("conv3", "bn3"))
        return _with_shortcut(layer, y, x, self.stride)


class BasicBlock(nn.Module):
    """3x3, 3x3, and a shortcut that is projected where the shape changes."""

    width: int
    stride: int = 1
    dilation: int = 1
    norm: str = "frozen_batch"
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: FeatureMap) -> FeatureMap:
        layer = _Layer(self.norm, self.dtype)
        how = {"stride": self.stride, "dilation": self.dilation}
        y = _relu(layer(x, self.width, 3, names=("conv1", "bn1"), **how))
        y = layer(y, self.width, 3, names=("conv2", "bn2"), dilation=self.dilation)
        return _with_shortcut(layer, y, x, self.stride)


class ResNet(nn.Module):
    """From normalised pixels to the maps of the last three stages, C3 to C5.

    Attributes:
        config: its shape.
        dtype: what is computed in; None: float32.
        remat: keep only each block's input for the backward pass.
    """

    config: ResNetConfig
    dtype: Dtype | None = None
    remat: bool = False

    @nn.compact
    def __call__(self, pixels: FeatureMap) -> tuple[FeatureMap, FeatureMap, FeatureMap]:
        c = self.config
        layer = _Layer(c.norm, self.dtype)
        stride = min(c.stem_stride, 2)
        stage = _relu(layer(pixels, c.width, 7, stride=stride, names=("conv1", "bn1")))
        if c.stem_stride == 4:
            stage = _max_pool(stage)
        block = Bottleneck if c.block == "bottleneck" else BasicBlock
        block = nn.remat(block) if self.remat else block
        stages = []
        for i, blocks in enumerate(c.blocks):
            dilated = c.dilation and i == len(c.blocks) - 1
            for j in range(blocks):
                stage = block(
                    c.width * 2**i,
                    stride=2 if j == 0 and i > 0 and not dilated else 1,
                    dilation=2 if dilated and j > 0 else 1,
                    norm=c.norm,
                    dtype=self.dtype,
                    name=f"layer{i + 1}_{j}",
                )(stage)
            stages.append(stage)
        return tuple(stages[-3:])


def _relu(x: FeatureMap) -> FeatureMap:
    return FeatureMap(nn.relu(x.features), x.valid_hw)


def _max_pool(x: FeatureMap) -> FeatureMap:
    # After a ReLU, zero is as neutral to a maximum as the -inf of PyTorch's padding.
    y = jnp.pad(zero_padding(x.features, x.valid_hw), ((0, 0), (1, 1), (1, 1), (0, 0)))
    return FeatureMap(nn.max_pool(y, (3, 3), (2, 2)), downsampled(x.valid_hw, 2))


def _with_shortcut(layer: _Layer, y: FeatureMap, x: FeatureMap, stride: int) -> FeatureMap:
    """The end of a block: `y` and what came in, projected where the shapes differ."""
    if x.features.shape != y.features.shape:
        names = ("downsample_conv", "downsample_bn")
        x = layer(x, y.features.shape[-1], 1, stride=stride, names=names)
    return _relu(FeatureMap(y.features + x.features, y.valid_hw))
