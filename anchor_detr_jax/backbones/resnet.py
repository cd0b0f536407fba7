"""ResNet with frozen batch norms; what stands in the padding never reaches a real position.

Source: torchvision `resnet50`, `resnet101` (stride on the 3x3 convolution), as AnchorDETR
`models/backbone.py` uses them.
"""

from __future__ import annotations

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype
from jaxtyping import Array, Float, Int

from anchor_detr_jax.layers.normalization import FrozenBatchNorm
from anchor_detr_jax.layers.padding import downsampled, zero_padding

__all__ = ["BLOCKS", "FeatureMap", "ResNet", "ResNetConfig"]

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


@dataclass(frozen=True)
class ResNetConfig:
    """Shape of a ResNet.

    Attributes:
        blocks: bottleneck blocks of the four stages: `BLOCKS[50]` or `BLOCKS[101]`, or any other.
        width: channels of the stem; the last stage has 32 times as many.
        dilation: DC5. The last stage keeps its stride at 1 and dilates instead.
    """

    blocks: tuple[int, ...] = BLOCKS[50]
    width: int = 64
    dilation: bool = False


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FeatureMap:
    """Features of a batch of padded images, with the part of each that is real."""

    features: Float[Array, "b h w d"]
    valid_hw: Int[Array, "b 2"]


def _convolution(
    features: int, size: int, *, name: str, stride: int = 1, dilation: int = 1, dtype: Dtype | None
) -> nn.Conv:
    reach = dilation * (size // 2)
    return nn.Conv(
        features,
        (size, size),
        strides=stride,
        padding=reach,
        kernel_dilation=dilation,
        use_bias=False,
        kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
        dtype=dtype,
        name=name,
    )


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1, and a shortcut that is projected where the shape changes."""

    width: int
    stride: int = 1
    dilation: int = 1
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: FeatureMap) -> FeatureMap:
        out, stride, dtype = 4 * self.width, self.stride, self.dtype
        y = _convolution(self.width, 1, name="conv1", dtype=dtype)(x.features)
        y = nn.relu(FrozenBatchNorm(name="bn1")(y))
        y = zero_padding(y, x.valid_hw)
        y = _convolution(
            self.width, 3, stride=stride, dilation=self.dilation, name="conv2", dtype=dtype
        )(y)
        y = nn.relu(FrozenBatchNorm(name="bn2")(y))
        y = FrozenBatchNorm(name="bn3")(_convolution(out, 1, name="conv3", dtype=dtype)(y))
        shortcut = x.features
        if shortcut.shape != y.shape:
            shortcut = _convolution(out, 1, stride=stride, name="downsample_conv", dtype=dtype)(
                shortcut
            )
            shortcut = FrozenBatchNorm(name="downsample_bn")(shortcut)
        return FeatureMap(nn.relu(y + shortcut), downsampled(x.valid_hw, stride))


class ResNet(nn.Module):
    """From normalised pixels to the maps of the last three stages, C3 to C5."""

    config: ResNetConfig
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, pixels: FeatureMap) -> tuple[FeatureMap, FeatureMap, FeatureMap]:
        width = self.config.width
        x = zero_padding(pixels.features, pixels.valid_hw)
        x = _convolution(width, 7, stride=2, name="conv1", dtype=self.dtype)(x)
        x = nn.relu(FrozenBatchNorm(name="bn1")(x))
        valid_hw = downsampled(pixels.valid_hw, 2)
        # After a ReLU, zero is as neutral to a maximum as the -inf of PyTorch's padding.
        x = jnp.pad(zero_padding(x, valid_hw), ((0, 0), (1, 1), (1, 1), (0, 0)))
        x = nn.max_pool(x, (3, 3), (2, 2))
        stage = FeatureMap(x, downsampled(valid_hw, 2))
        stages = []
        for i, blocks in enumerate(self.config.blocks):
            dilated = self.config.dilation and i == len(self.config.blocks) - 1
            for j in range(blocks):
                stage = Bottleneck(
                    width * 2**i,
                    stride=2 if j == 0 and i > 0 and not dilated else 1,
                    dilation=2 if dilated and j > 0 else 1,
                    dtype=self.dtype,
                    name=f"layer{i + 1}_{j}",
                )(stage)
            stages.append(stage)
        return tuple(stages[-3:])
