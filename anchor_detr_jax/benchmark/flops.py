"""How many multiply-adds an image costs, by formula: those of products and convolutions.

A multiply-add counts as one, as in the papers' tables. Norms, activations, softmaxes, positions'
sines, sampling and sums are not counted. What a convolution does at zeros beyond the border counts.
"""

from __future__ import annotations

from typing import NamedTuple

from anchor_detr_jax.backbones.resnet import ResNetConfig
from anchor_detr_jax.benchmark.transformer_flops import MapShape, count_transformer
from anchor_detr_jax.models.build import ModelConfig

__all__ = ["MultiplyAdds", "count_detection", "count_training_step"]


class MultiplyAdds(NamedTuple):
    """Of one image, by part of the model; input projections belong to the encoder."""

    backbone: int
    encoder: int
    decoder: int
    heads: int

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(self)


def count_detection(config: ModelConfig, hw: tuple[int, int]) -> MultiplyAdds:
    """Of a forward pass over an image of `hw` pixels whose last layer alone predicts.

    What is the same for every image (positions of the queries, the first self-attention) counts,
    as a model of one image has to do it.
    """
    return _count(config, hw, predicting_layers=1)


def count_training_step(config: ModelConfig, hw: tuple[int, int]) -> int:
    """Of an image's part of a step, about: the forward pass, and twice of it what is trained.

    The stem and the first stage of the backbone are not trained, as in the published recipe.
    Matching, losses and optimizer have no large products.
    """
    forward = _count(config, hw, predicting_layers=config.decoder_layers)
    frozen = sum(_stages(config.backbone, hw)[0][:2])
    return 3 * forward.total - 2 * frozen


def _count(config: ModelConfig, hw: tuple[int, int], *, predicting_layers: int) -> MultiplyAdds:
    stages, maps = _stages(config.backbone, hw)
    counted = count_transformer(config, maps)
    dim = config.hidden_dim
    head = dim * counted.columns + 2 * dim * dim + 4 * dim
    return MultiplyAdds(
        backbone=sum(stages),
        encoder=counted.encoder,
        decoder=counted.decoder,
        heads=predicting_layers * config.num_queries * head,
    )


def _stages(config: ResNetConfig, hw: tuple[int, int]) -> tuple[list[int], list[MapShape]]:
    """Multiply-adds of the stem and of each stage, and the stages' maps."""
    height, width = (_halved(side) if config.stem_stride > 1 else side for side in hw)
    counts, maps = [height * width * 7 * 7 * 3 * config.width], []
    if config.stem_stride == 4:
        height, width = _halved(height), _halved(width)
    channels = config.width
    for i, blocks in enumerate(config.blocks):
        inner = config.width * 2**i
        dilated = config.dilation and i == len(config.blocks) - 1
        count = 0
        for j in range(blocks):
            before = height * width
            halves = j == 0 and i > 0 and not dilated
            if halves:
                height, width = _halved(height), _halved(width)
            one, channels = _block(config, channels, inner, before, height * width, halves)
            count += one
        counts.append(count)
        maps.append(MapShape(height, width, channels))
    return counts, maps


def _block(
    config: ResNetConfig, channels: int, inner: int, before: int, after: int, halves: bool
) -> tuple[int, int]:
    """Multiply-adds of a block from `before` to `after` cells, and the channels that it gives."""
    if config.block == "bottleneck":
        given = 4 * inner
        count = before * channels * inner + after * (9 * inner * inner + inner * given)
    else:
        given = inner
        count = after * 9 * (channels * inner + inner * inner)
    if channels != given or halves:
        count += after * channels * given  # the projected shortcut
    return count, given


def _halved(side: int) -> int:
    return -(-side // 2)
