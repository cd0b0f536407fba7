"""A detector in a few lines, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anchor_detr_jax.backbones.resnet import BLOCKS, ResNetConfig
from anchor_detr_jax.data.categories import Categories
from anchor_detr_jax.models.build import ModelConfig, config_to_dict

__all__ = ["described_model"]

_NAMED = 6
"""Categories that are named."""


def described_model(
    config: ModelConfig, categories: Categories, source: Mapping[str, Any], numbers: str
) -> str:
    """A line each for family, backbone and `numbers`, what it finds, how, and where it is from."""
    maps = "-DC5" if config.backbone.dilation else "-C5"
    family = config_to_dict(config)["family"]
    names = [name for name in categories.names if name is not None]
    more = ", ..." if len(names) > _NAMED else ""
    lines = [
        f"Detector: {family} {_backbone(config.backbone)}{maps}, {numbers}",
        f"finds {len(names)} categories: {', '.join(names[:_NAMED])}{more}",
        f"by {config.queries}",
        f"from {_origin(source)}",
    ]
    return "\n  ".join(lines)


def _backbone(config: ResNetConfig) -> str:
    depth = next((d for d, blocks in BLOCKS.items() if blocks == config.blocks), None)
    if depth and config == ResNetConfig(blocks=config.blocks, dilation=config.dilation):
        return f"R{depth}"
    blocks = "+".join(map(str, config.blocks))
    return f"ResNet({blocks} {config.block} blocks, width {config.width})"


def _origin(source: Mapping[str, Any]) -> str:
    ap = source.get("ap")
    details = [f"AP {ap:.3f}"] if ap is not None else []
    details += ["moving average of the weights"] if source.get("averaged") else []
    file = source.get("file", "no file")
    return f"{file} ({', '.join(details)})" if details else str(file)
