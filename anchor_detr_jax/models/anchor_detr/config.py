"""Shape of an Anchor DETR."""

from __future__ import annotations

from dataclasses import dataclass, field

from anchor_detr_jax.backbones.resnet import ResNetConfig

__all__ = ["AnchorDETRConfig"]


@dataclass(frozen=True)
class AnchorDETRConfig:
    """Everything that decides which parameters there are and what is computed with them.

    The defaults are the paper's R50-C5; R50-DC5 has `backbone=ResNetConfig(dilation=True)`.

    Attributes:
        backbone: the ResNet, of which C5 is used.
        num_classes: columns of the logits. COCO's models have 91, one for each id from 0 to 90.
        hidden_dim: features of a position and of a query; a multiple of `num_heads`, 32 and 4.
        num_heads: heads of each attention.
        feedforward_dim: width inside the feed-forward blocks.
        encoder_layers: layers over the image.
        decoder_layers: layers over the queries, each of which predicts.
        num_anchors: anchor points.
        num_patterns: queries at each anchor point; pattern-major, so query = pattern * anchors + i.
    """

    backbone: ResNetConfig = field(default_factory=ResNetConfig)
    num_classes: int = 91
    hidden_dim: int = 256
    num_heads: int = 8
    feedforward_dim: int = 1024
    encoder_layers: int = 6
    decoder_layers: int = 6
    num_anchors: int = 300
    num_patterns: int = 3

    def __post_init__(self):
        if self.hidden_dim % self.num_heads or self.hidden_dim % 32:
            raise ValueError(
                f"hidden_dim is {self.hidden_dim}, and must be a multiple of num_heads "
                f"({self.num_heads}) and of 32, the groups of the group norm"
            )
        for name in ("num_classes", "decoder_layers", "num_anchors", "num_patterns"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, and must be at least 1")

    @property
    def num_queries(self) -> int:
        """Boxes that the model proposes for an image."""
        return self.num_anchors * self.num_patterns
