"""Shape of an Anchor DETR."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from anchor_detr_jax.backbones.resnet import ResNetConfig
from anchor_detr_jax.models.checks import Rules, check

__all__ = ["AnchorDETRConfig"]


@dataclass(frozen=True)
class AnchorDETRConfig:
    """Everything that decides which parameters there are and what is computed with them.

    The defaults are the paper's R50-C5; R50-DC5 has `backbone=ResNetConfig(dilation=True)`.

    Attributes:
        backbone: the ResNet.
        num_levels: maps that are used: 1 for C5, 2 for C4 and C5, 3 for C3 to C5. More than one
            need a dilated C5, so that all of them come to stride 16.
        num_classes: columns of the logits. COCO's models have 91, one for each id from 0 to 90.
        hidden_dim: features of a position and of a query; a multiple of `num_heads`, 32 and 4.
        num_heads: heads of each attention.
        feedforward_dim: width inside the feed-forward blocks.
        attention: over the map: `rcda` (row-column decoupled) or `multi_head`.
        encoder_layers: layers over the image.
        level_layers: of how many of these a layer over the levels of one position follows.
        decoder_layers: layers over the queries, each of which predicts.
        anchors: `learned` points, or a square `grid` of cell centres.
        num_anchors: anchor points; a square number for a grid.
        num_patterns: queries at each anchor point; pattern-major, so query = pattern * anchors + i.
        dropout: rate in training, after each attention and in the feed-forward blocks.
    """

    backbone: ResNetConfig = field(default_factory=ResNetConfig)
    num_levels: int = 1
    num_classes: int = 91
    hidden_dim: int = 256
    num_heads: int = 8
    feedforward_dim: int = 1024
    attention: str = "rcda"
    encoder_layers: int = 6
    level_layers: int = 0
    decoder_layers: int = 6
    anchors: str = "learned"
    num_anchors: int = 300
    num_patterns: int = 3
    dropout: float = 0.0

    no_object: ClassVar[bool] = False
    """Whether the last column of the logits is "no object", and a softmax goes over all."""

    def __post_init__(self) -> None:
        check(self, self._rules())

    def _rules(self) -> Rules:
        for name in ("num_classes", "decoder_layers", "num_anchors", "num_patterns", "num_heads"):
            yield name, getattr(self, name) >= 1, "at least 1"
        groups = f"a multiple of num_heads ({self.num_heads}) and of 32 (groups of the group norm)"
        yield "hidden_dim", self.hidden_dim % self.num_heads == self.hidden_dim % 32 == 0, groups
        levels = (1, 2, 3) if self.backbone.dilation else (1,)
        expected = f"one of {levels} with backbone.dilation={self.backbone.dilation}"
        yield "num_levels", self.num_levels in levels, expected
        most = self.encoder_layers if self.num_levels > 1 else 0
        yield "level_layers", 0 <= self.level_layers <= most, f"from 0 to {most}"
        yield "attention", self.attention in ("rcda", "multi_head"), "'rcda' or 'multi_head'"
        yield "anchors", self.anchors in ("learned", "grid"), "'learned' or 'grid'"
        square = math.isqrt(self.num_anchors) ** 2 == self.num_anchors
        yield "num_anchors", self.anchors != "grid" or square, "a square number for a grid"
        yield "dropout", 0 <= self.dropout < 1, "in [0, 1)"

    @property
    def num_queries(self) -> int:
        """Boxes that the model proposes for an image."""
        return self.num_anchors * self.num_patterns

    @property
    def queries(self) -> str:
        """The queries in words, and how they look."""
        patterns = f"{self.num_patterns} pattern{'s' if self.num_patterns > 1 else ''}"
        points = f"{self.num_anchors} {self.anchors} anchor points"
        levels = f" over {self.num_levels} levels" if self.num_levels > 1 else ""
        return (
            f"{self.num_queries} queries ({patterns} at {points}), {self.attention} "
            f"attention{levels}"
        )
