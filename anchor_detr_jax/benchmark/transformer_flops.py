"""How many multiply-adds the encoder and the decoder of each family cost, by formula.

What counts is said in `flops.py`. Of the points that queries start from, products count once,
although the models write them down where they are used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from anchor_detr_jax.models.anchor_detr import AnchorDETRConfig
from anchor_detr_jax.models.build import ModelConfig
from anchor_detr_jax.models.conditional_detr import ConditionalDETRConfig
from anchor_detr_jax.models.detr import DETRConfig
from anchor_detr_jax.models.smca import SMCAConfig

__all__ = ["MapShape", "TransformerCount", "count_transformer"]


class MapShape(NamedTuple):
    """Of a feature map."""

    height: int
    width: int
    channels: int

    @property
    def cells(self) -> int:
        """Rows times columns."""
        return self.height * self.width


class TransformerCount(NamedTuple):
    """Multiply-adds of an image, and the columns of the logits."""

    encoder: int
    decoder: int
    columns: int


def count_transformer(config: ModelConfig, maps: list[MapShape]) -> TransformerCount:
    """Of the part between the backbone, whose stages give `maps`, and the heads."""
    count = next(count for family, count in _FAMILIES.items() if isinstance(config, family))
    return count(config, maps)


def _anchor_detr(config: AnchorDETRConfig, maps: list[MapShape]) -> TransformerCount:
    return TransformerCount(
        _anchor_encoder(config, maps), _anchor_decoder(config, maps[-1]), config.num_classes
    )


def _detr(config: DETRConfig, maps: list[MapShape]) -> TransformerCount:
    return TransformerCount(
        _plain_encoder(config, maps[-1]),
        _plain_decoder(config, maps[-1].cells),
        config.num_classes + 1,
    )


def _conditional_detr(config: ConditionalDETRConfig, maps: list[MapShape]) -> TransformerCount:
    queries, dim, cells = config.num_queries, config.hidden_dim, maps[-1].cells
    square = dim * dim
    reference = queries * (square + 2 * dim)
    scales = (config.decoder_layers - 1) * queries * 2 * square
    first = queries * square  # the position that content is given where it says nothing yet
    # Five projections, of content and position apart, and that which joins the heads.
    among_queries = 6 * queries * square + 2 * queries * queries * dim
    # Content, sines and what joins the heads of queries; content, position and value of cells;
    # scores of content and of position, and the mixing.
    over_cells = 3 * (queries + cells) * square + 3 * queries * cells * dim
    layer = among_queries + over_cells + _feed_forward(config, queries)
    decoder = reference + scales + first + config.decoder_layers * layer
    return TransformerCount(_plain_encoder(config, maps[-1]), decoder, config.num_classes)


def _smca(config: SMCAConfig, maps: list[MapShape]) -> TransformerCount:
    queries, dim = config.num_queries, config.hidden_dim
    anchors = queries * (2 * dim * dim + 2 * dim)
    gaussians = config.decoder_layers * queries * dim * config.num_heads * (2 + config.scales)
    return TransformerCount(
        _plain_encoder(config, maps[-1]),
        _plain_decoder(config, maps[-1].cells) + anchors + gaussians,
        config.num_classes + 1,
    )


def _plain_encoder(config: Any, last: MapShape) -> int:
    """Layers of attention among all cells, as DETR's."""
    cells, dim = last.cells, config.hidden_dim
    layer = _attention(cells, cells, dim) + _feed_forward(config, cells)
    return cells * last.channels * dim + config.encoder_layers * layer


def _plain_decoder(config: Any, cells: int) -> int:
    """Layers of attention among the queries and over all cells, as DETR's."""
    queries, dim = config.num_queries, config.hidden_dim
    layer = _attention(queries, queries, dim) + _attention(queries, cells, dim)
    return config.decoder_layers * (layer + _feed_forward(config, queries))


def _attention(queries: int, keys: int, dim: int) -> int:
    """Queries, keys, values and what joins the heads are projected; scores, and the mixing."""
    return 2 * (queries + keys) * dim * dim + 2 * queries * keys * dim


def _feed_forward(config: Any, places: int) -> int:
    return 2 * places * config.hidden_dim * config.feedforward_dim


def _anchor_encoder(config: AnchorDETRConfig, maps: list[MapShape]) -> int:
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


def _anchor_decoder(config: AnchorDETRConfig, last: MapShape) -> int:
    height, width, _ = last
    queries, dim, levels = config.num_queries, config.hidden_dim, config.num_levels
    places = 2 * dim * dim * queries  # of both coordinates, for the self-attention
    if config.attention == "rcda":
        places += 2 * 2 * dim * dim * queries
    self_attention = 4 * queries * dim * dim + 2 * queries * queries * dim
    layer = self_attention + _over_maps(config, queries, height, width, maps=levels)
    if levels > 1:
        layer += queries * levels * dim * dim
    return places + config.decoder_layers * (layer + _feed_forward(config, queries))


def _places(config: AnchorDETRConfig, cells: int, sides: int) -> int:
    """The two layers that embed positions of a map's columns and rows, or of its cells."""
    return 2 * config.hidden_dim**2 * (sides if config.attention == "rcda" else cells)


def _over_maps(
    config: AnchorDETRConfig, queries: int, height: int, width: int, maps: int = 1
) -> int:
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


_FAMILIES: dict[type, Callable[[Any, list[MapShape]], TransformerCount]] = {
    AnchorDETRConfig: _anchor_detr,
    ConditionalDETRConfig: _conditional_detr,
    DETRConfig: _detr,
    SMCAConfig: _smca,
}
