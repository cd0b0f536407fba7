"""Shape of a single-scale SMCA."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from anchor_detr_jax.backbones.resnet import ResNetConfig
from anchor_detr_jax.models.checks import Rules, check, common_rules
from anchor_detr_jax.models.detr.config import LayerShape

__all__ = ["SMCAConfig"]


@dataclass(frozen=True)
class SMCAConfig:
    """Everything that decides which parameters there are and what is computed with them.

    The defaults are the published R50; with DC5 it has `backbone=ResNetConfig(dilation=True)`.

    Attributes:
        backbone: the ResNet.
        num_classes: columns of the logits before the last one, which no target has: the reference
            has it, and learns that it is low.
        num_queries: learned queries, each of which gives one box near its anchor.
        hidden_dim: features of a position and of a query; a multiple of `num_heads` and 4.
        num_heads: heads of each attention.
        feedforward_dim: width inside the feed-forward blocks.
        encoder_layers: layers over the image.
        decoder_layers: layers over the queries, each of which predicts.
        dynamic_scale: what a head's Gaussian learns of its own shape: `type1` nothing, `type2` one
            scale, `type3` one of each axis, `type4` these and one of the squared distances'
            product.
        smooth: what the Gaussian's exponent is divided by; more is wider.
        head_mixture: the second half of the heads looks without a Gaussian.
        query_mixture: the first half of the queries looks without a Gaussian, and has no anchor; of
            an odd number, the second half is the larger.
        dropout: rate in training, of attention weights, after each attention and in the
            feed-forward blocks.
    """

    backbone: ResNetConfig = field(default_factory=ResNetConfig)
    num_classes: int = 91
    num_queries: int = 300
    hidden_dim: int = 256
    num_heads: int = 8
    feedforward_dim: int = 2048
    encoder_layers: int = 6
    decoder_layers: int = 6
    dynamic_scale: str = "type3"
    smooth: float = 8.0
    head_mixture: bool = False
    query_mixture: bool = False
    dropout: float = 0.1

    no_object: ClassVar[bool] = False
    """Whether the last column of the logits is "no object", and a softmax goes over all."""

    def __post_init__(self) -> None:
        check(self, self._rules())

    def _rules(self) -> Rules:
        yield from common_rules(self)
        types = tuple(f"type{i}" for i in (1, 2, 3, 4))
        yield "dynamic_scale", self.dynamic_scale in types, f"one of {types}"
        yield "smooth", self.smooth > 0, "above 0"

    @property
    def scales(self) -> int:
        """Scales that each head's Gaussian has: 0, 1, 2 or 3."""
        return int(self.dynamic_scale[-1]) - 1

    @property
    def layer(self) -> LayerShape:
        """What its layers share."""
        return LayerShape(self.hidden_dim, self.num_heads, self.feedforward_dim, self.dropout)

    @property
    def queries(self) -> str:
        """The queries in words."""
        return f"{self.num_queries} queries with Gaussians of {self.dynamic_scale}"
