"""How many multiply-adds an image costs, by formula: those of products and convolutions.

A multiply-add counts as one, as in the papers' tables. Norms, activations, softmaxes, positions'
sines, sampling and sums are not counted. What a convolution does at zeros beyond the border counts.
"""

from __future__ import annotations

from typing import NamedTuple

from anchor_detr_jax.backbones.resnet import ResNetConfig
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
    height, width, _ = maps[-1]
    queries, dim = config.num_queries, config.hidden_dim
    head = dim * config.num_classes + 2 * dim * dim + 4 * dim
    return MultiplyAdds(
        backbone=sum(stages),
        encoder=_encoder(config, maps),
        decoder=_decoder(config, height, width),
        heads=predicting_layers * queries * head,
    )


def _stages(
    config: ResNetConfig, hw: tuple[int, int]
) -> tuple[list[int], list[tuple[int, int, int]]]:
    """Multiply-adds of the stem and of each stage; height, width, channels of each stage's map."""
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
        maps.append((height, width, channels))
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


def _encoder(config: ModelConfig, maps: list[tuple[int, int, int]]) -> int:
    height, width, _ = maps[-1]
    cells, dim, levels = height * width, config.hidden_dim, config.num_levels
    count = levels * _places(config, cells, width + height)
    for i, (_, _, channels) in enumerate(maps[-levels:]):
        size = 9 if levels == 3 and i == 0 else 1  # C3 is halved by a kernel of 3x3
        count += cells * size * channels * dim
    layer = _over_maps(config, cells, height, width) + _feed_forward(config, cells)
    among_levels = cells * levels * (4 * dim * dim + 2 * levels * dim)
    level_layer = among_levels + _feed_forward(config, cells * levels)
    return count + levels * config.encoder_layers * layer + config.level_layers * level_layer


def _decoder(config: ModelConfig, height: int, width: int) -> int:
    queries, dim, levels = config.num_queries, config.hidden_dim, config.num_levels
    places = 2 * dim * dim * queries  # of both coordinates, for the self-attention
    if config.attention == "rcda":
        places += 2 * 2 * dim * dim * queries
    self_attention = 4 * queries * dim * dim + 2 * queries * queries * dim
    layer = self_attention + _over_maps(config, queries, height, width, maps=levels)
    if levels > 1:
        layer += queries * levels * dim * dim
    return places + config.decoder_layers * (layer + _feed_forward(config, queries))


def _places(config: ModelConfig, cells: int, sides: int) -> int:
    """The two layers that embed positions of a map's columns and rows, or of its cells."""
    return 2 * config.hidden_dim**2 * (sides if config.attention == "rcda" else cells)


def _over_maps(config: ModelConfig, queries: int, height: int, width: int, maps: int = 1) -> int:
    """Attention of some queries over maps, its projections included."""
    dim, cells = config.hidden_dim, height * width
    square = dim * dim
    if config.attention == "multi_head":
        over_one = (queries + 2 * cells) * square + 2 * queries * cells * dim
        return queries * square + maps * over_one
    scores = queries * (height + width) * dim
    mixing = queries * (cells + min(height, width)) * dim
    over_one = (queries + cells + height + width) * square + scores + mixing
    return 2 * queries * square + maps * over_one


def _feed_forward(config: ModelConfig, places: int) -> int:
    return 2 * places * config.hidden_dim * config.feedforward_dim


def _halved(side: int) -> int:
    return -(-side // 2)
