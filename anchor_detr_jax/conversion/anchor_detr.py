"""Names of the official Anchor DETR checkpoints, and what their shapes and `args` tell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from anchor_detr_jax.conversion.evidence import (
    count_numbered,
    dilation_of,
    matrix_shape,
    resnet_name,
)
from anchor_detr_jax.conversion.official import OfficialLayout
from anchor_detr_jax.conversion.resnet import infer_resnet, resnet_rules
from anchor_detr_jax.conversion.rules import (
    MULTI_HEAD,
    attention_rules,
    convolution_rules,
    linear_rules,
    norm_rules,
)
from anchor_detr_jax.conversion.state_dict import Rule
from anchor_detr_jax.models.anchor_detr import AnchorDETRConfig

__all__ = ["ANCHOR_DETR"]

_BACKBONE = "backbone.body."
_BLOCKS = {
    "rcda": ("query_row", "query_column", "key_row", "key_column", "value"),
    "multi_head": MULTI_HEAD,
}
"""What the reference stacks in an attention's `in_proj_weight`."""
_GRID = 17 * 17
"""Points of the reference's grid, for files that do not say how many."""


def _infer(
    tensors: Mapping[str, np.ndarray], args: Mapping[str, Any], dilation: bool | None
) -> AnchorDETRConfig:
    num_classes, hidden_dim = matrix_shape(tensors, "transformer.class_embed.0.weight")
    feedforward_dim, _ = matrix_shape(tensors, "transformer.encoder_layers.0.ffn.linear1.weight")
    in_proj, _ = matrix_shape(tensors, "transformer.encoder_layers.0.self_attn.in_proj_weight")
    num_patterns, _ = matrix_shape(tensors, "transformer.pattern.weight")
    points = tensors.get("transformer.position.weight")
    num_anchors = _grid_points(args) if points is None else points.shape[0]
    num_levels = count_numbered(tensors, r"input_proj\.(\d+)\.0\.")
    dilated = dilation_of(args, dilation, num_levels)
    return AnchorDETRConfig(
        backbone=infer_resnet(tensors, _BACKBONE, dilated),
        num_levels=num_levels,
        num_classes=num_classes,
        hidden_dim=hidden_dim,
        num_heads=int(args.get("nheads", 8)),
        feedforward_dim=feedforward_dim,
        attention="multi_head" if in_proj == 3 * hidden_dim else "rcda",
        encoder_layers=count_numbered(tensors, r"transformer\.encoder_layers\.(\d+)\."),
        level_layers=count_numbered(tensors, r"transformer\.encoder_layers_level\.(\d+)\."),
        decoder_layers=count_numbered(tensors, r"transformer\.decoder_layers\.(\d+)\."),
        anchors="grid" if points is None else "learned",
        num_anchors=num_anchors,
        num_patterns=num_patterns,
        dropout=float(args.get("dropout", 0.0)),
    )


def _grid_points(args: Mapping[str, Any]) -> int:
    """The reference takes the square nearest to what is asked for."""
    return round(math.sqrt(int(args.get("num_query_position", _GRID)))) ** 2


def _args(config: AnchorDETRConfig) -> dict[str, Any]:
    """The reference's training options that say what the tensors do not, and some that they do."""
    return {
        "backbone": resnet_name(config.backbone),
        "dilation": config.backbone.dilation,
        "num_feature_levels": config.num_levels,
        "enc_layers": config.encoder_layers + config.level_layers,
        "dec_layers": config.decoder_layers,
        "dim_feedforward": config.feedforward_dim,
        "hidden_dim": config.hidden_dim,
        "dropout": config.dropout,
        "nheads": config.num_heads,
        "num_query_position": config.num_anchors,
        "num_query_pattern": config.num_patterns,
        "spatial_prior": config.anchors,
        "attention_type": "RCDA" if config.attention == "rcda" else "nn.MultiheadAttention",
    }


def _rules(config: AnchorDETRConfig) -> list[Rule]:
    """The table for the official layout."""
    rules = resnet_rules(config.backbone, _BACKBONE) + _input_rules(config)
    rules.append(Rule(("transformer.pattern.weight",), ("params/patterns",)))
    if config.anchors == "learned":
        rules.append(Rule(("transformer.position.weight",), ("params/anchor_points",)))
    for kind in ("1d", "2d"):
        for ours, theirs in enumerate((0, 2)):
            theirs = f"transformer.adapt_pos{kind}.{theirs}"
            rules += linear_rules(theirs, f"position_{kind}/linear{ours}")
    for i in range(config.encoder_layers):
        theirs, ours = f"transformer.encoder_layers.{i}", f"encoder_{i}"
        rules += attention_rules(
            f"{theirs}.self_attn", f"{ours}/self_attn", _BLOCKS[config.attention]
        )
        rules += norm_rules(f"{theirs}.norm1", f"{ours}/norm1")
        rules += _feed_forward(f"{theirs}.ffn", f"{ours}/ffn")
    for i in range(config.level_layers):
        theirs, ours = f"transformer.encoder_layers_level.{i}", f"encoder_level_{i}"
        rules += attention_rules(f"{theirs}.self_attn_level", f"{ours}/self_attn")
        rules += norm_rules(f"{theirs}.norm1", f"{ours}/norm1")
        rules += _feed_forward(f"{theirs}.ffn", f"{ours}/ffn")
    for i in range(config.decoder_layers):
        rules += _decoder_layer(config, f"transformer.decoder_layers.{i}", f"decoder_{i}")
    return rules + _heads(config.decoder_layers)


def _input_rules(config: AnchorDETRConfig) -> list[Rule]:
    rules = []
    for i in range(config.num_levels):
        rules += convolution_rules(f"input_proj.{i}.0", f"input_proj_{i}")
        rules += norm_rules(f"input_proj.{i}.1", f"input_norm_{i}")
    if config.num_levels > 1:
        rules.append(Rule(("transformer.level_embed.weight",), ("params/levels",)))
    return rules


def _decoder_layer(config: AnchorDETRConfig, theirs: str, ours: str) -> list[Rule]:
    rules = [
        *attention_rules(f"{theirs}.self_attn", f"{ours}/self_attn"),
        *attention_rules(f"{theirs}.cross_attn", f"{ours}/cross_attn", _BLOCKS[config.attention]),
        *norm_rules(f"{theirs}.norm1", f"{ours}/norm1"),
        *norm_rules(f"{theirs}.norm2", f"{ours}/norm2"),
        *_feed_forward(f"{theirs}.ffn", f"{ours}/ffn"),
    ]
    if config.num_levels > 1:
        rules += linear_rules(f"{theirs}.level_fc", f"{ours}/join_levels")
    return rules


def _heads(decoder_layers: int) -> list[Rule]:
    """The reference saves each head once for every decoder layer."""
    copies = [f"transformer.class_embed.{i}" for i in range(decoder_layers)]
    rules = linear_rules(tuple(copies), "class_head")
    for j in range(3):
        copies = [f"transformer.bbox_embed.{i}.layers.{j}" for i in range(decoder_layers)]
        rules += linear_rules(tuple(copies), f"box_head/mlp/linear{j}")
    return rules


def _feed_forward(torch: str, ours: str) -> list[Rule]:
    return [
        *linear_rules(f"{torch}.linear1", f"{ours}/linear1"),
        *linear_rules(f"{torch}.linear2", f"{ours}/linear2"),
        *norm_rules(f"{torch}.norm2", f"{ours}/norm"),
    ]


ANCHOR_DETR = OfficialLayout(
    name="AnchorDETR",
    config=AnchorDETRConfig,
    mark="transformer.pattern.weight",
    infer=_infer,
    rules=_rules,
    args=_args,
)
"""megvii-research/AnchorDETR."""
