"""Shape of a Conditional DETR."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from anchor_detr_jax.backbones.resnet import ResNetConfig
from anchor_detr_jax.models.checks import check, common_rules
from anchor_detr_jax.models.detr.config import LayerShape

__all__ = ["ConditionalDETRConfig"]


@dataclass(frozen=True)
class ConditionalDETRConfig:
    """Everything that decides which parameters there are and what is computed with them.

    The defaults are the paper's R50; R50-DC5 has `backbone=ResNetConfig(dilation=True)`.

    Attributes:
        backbone: the ResNet.
        num_classes: columns of the logits.
        num_queries: learned queries, each of which gives one box near its reference point.
        hidden_dim: features of a position and of a query; a multiple of `num_heads` and 4.
        num_heads: heads of each attention.
        feedforward_dim: width inside the feed-forward blocks.
        encoder_layers: layers over the image.
        decoder_layers: layers over the queries, each of which predicts.
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
    dropout: float = 0.1

    no_object: ClassVar[bool] = False
    """Whether the last column of the logits is "no object", and a softmax goes over all."""

    def __post_init__(self) -> None:
        check(self, common_rules(self))

    @property
    def layer(self) -> LayerShape:
        """What its layers share."""
        return LayerShape(self.hidden_dim, self.num_heads, self.feedforward_dim, self.dropout)

    @property
    def queries(self) -> str:
        """The queries in words."""
        return f"{self.num_queries} conditional queries"
