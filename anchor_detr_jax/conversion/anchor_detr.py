"""Names of the official Anchor DETR checkpoints, and what their shapes and `args` tell."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from anchor_detr_jax.conversion.resnet import infer_resnet, resnet_rules
from anchor_detr_jax.conversion.state_dict import Layout, Rule
from anchor_detr_jax.models.anchor_detr import AnchorDETRConfig

__all__ = [
    "anchor_detr_args",
    "anchor_detr_rules",
    "attention_rules",
    "infer_anchor_detr",
    "official_names",
]

_BACKBONE = "backbone.body."
_BLOCKS = {
    "rcda": ("query_row", "query_column", "key_row", "key_column", "value"),
    "multi_head": ("query", "key", "value"),
}
"""What the reference stacks in an attention's `in_proj_weight`."""
_GRID = 17 * 17
"""Points of the reference's grid, for files that do not say how many."""


def official_names(tensors: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], str]:
    """A state dict under the reference's names, and whose names it had.

    detrex, which has one level only, leaves out its number in `input_proj`.
    """
    if "input_proj.0.weight" not in tensors:
        return dict(tensors), "AnchorDETR"
    short = re.compile(r"input_proj\.([01]\.(?:weight|bias))")
    return {short.sub(r"input_proj.0.\1", name): t for name, t in tensors.items()}, "detrex"


def infer_anchor_detr(
    tensors: Mapping[str, np.ndarray], args: Mapping[str, Any] | None, dilation: bool | None
) -> AnchorDETRConfig:
    """The model that a state dict belongs to.

    Args:
        tensors: the state dict.
        args: the file's training options, if it has any.
        dilation: what the user says, for files that do not; None: nothing.

    Raises:
        ValueError: if it is no Anchor DETR, or the user contradicts the file.
    """
    args = args or {}
    try:
        num_classes, hidden_dim = tensors["transformer.class_embed.0.weight"].shape
        feedforward_dim, _ = tensors["transformer.encoder_layers.0.ffn.linear1.weight"].shape
        in_proj, _ = tensors["transformer.encoder_layers.0.self_attn.in_proj_weight"].shape
        num_patterns, _ = tensors["transformer.pattern.weight"].shape
        points = tensors.get("transformer.position.weight")
        num_anchors = _grid_points(args) if points is None else points.shape[0]
    except (KeyError, ValueError) as error:
        some = ", ".join(sorted(tensors)[:3])
        raise ValueError(
            f"its tensors are not those of an official Anchor DETR ({error}); it begins with {some}"
        ) from None
    num_levels = _count(tensors, r"input_proj\.(\d+)\.0\.")
    dilated = _dilation(args.get("dilation"), dilation, num_levels)
    return AnchorDETRConfig(
        backbone=infer_resnet(tensors, _BACKBONE, dilated),
        num_levels=num_levels,
        num_classes=num_classes,
        hidden_dim=hidden_dim,
        num_heads=int(args.get("nheads", 8)),
        feedforward_dim=feedforward_dim,
        attention="multi_head" if in_proj == 3 * hidden_dim else "rcda",
        encoder_layers=_count(tensors, r"transformer\.encoder_layers\.(\d+)\."),
        level_layers=_count(tensors, r"transformer\.encoder_layers_level\.(\d+)\."),
        decoder_layers=_count(tensors, r"transformer\.decoder_layers\.(\d+)\."),
        anchors="grid" if points is None else "learned",
        num_anchors=num_anchors,
        num_patterns=num_patterns,
        dropout=float(args.get("dropout", 0.0)),
    )


def _grid_points(args: Mapping[str, Any]) -> int:
    """The reference takes the square nearest to what is asked for."""
    return round(math.sqrt(int(args.get("num_query_position", _GRID)))) ** 2


def _dilation(in_args: bool | None, given: bool | None, num_levels: int) -> bool:
    """Whether C5 is dilated: the file's word, else the user's, else no."""
    said = "its own args say"
    if num_levels > 1:
        in_args, said = True, f"it has {num_levels} levels, for which"
    if in_args is not None and given is not None and bool(in_args) != given:
        raise ValueError(
            f"dilation={given} was asked for, but {said} dilation={bool(in_args)}; "
            "leave the option away to follow the file"
        )
    known = given if in_args is None else bool(in_args)
    if known is None:
        warnings.warn(
            "nothing says whether this model has a dilated C5 (DC5), so C5 is assumed; "
            "say dilation=True or dilation=False (--dilation, --nodilation)",
            stacklevel=2,
        )
    return bool(known)


def _count(tensors: Mapping[str, np.ndarray], pattern: str) -> int:
    found = (re.match(pattern, name) for name in tensors)
    return len({match[1] for match in found if match})


def anchor_detr_args(config: AnchorDETRConfig) -> dict[str, Any]:
    """The reference's training options that say what the tensors do not, and some that they do."""
    depth = sum(config.backbone.blocks) * 3 + 2
    return {
        "backbone": f"resnet{depth}",
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


def anchor_detr_rules(config: AnchorDETRConfig) -> list[Rule]:
    """The table for the official layout."""
    rules = resnet_rules(config.backbone, _BACKBONE) + _input_rules(config)
    rules.append(Rule(("transformer.pattern.weight",), ("params/patterns",)))
    if config.anchors == "learned":
        rules.append(Rule(("transformer.position.weight",), ("params/anchor_points",)))
    for kind in ("1d", "2d"):
        for ours, theirs in enumerate((0, 2)):
            theirs = f"transformer.adapt_pos{kind}.{theirs}"
            rules += _linear((theirs,), f"position_{kind}/linear{ours}")
    for i in range(config.encoder_layers):
        theirs, ours = f"transformer.encoder_layers.{i}", f"encoder_{i}"
        rules += attention_rules(f"{theirs}.self_attn", f"{ours}/self_attn", config.attention)
        rules += _norm(f"{theirs}.norm1", f"{ours}/norm1")
        rules += _feed_forward(f"{theirs}.ffn", f"{ours}/ffn")
    for i in range(config.level_layers):
        theirs, ours = f"transformer.encoder_layers_level.{i}", f"encoder_level_{i}"
        rules += attention_rules(f"{theirs}.self_attn_level", f"{ours}/self_attn", "multi_head")
        rules += _norm(f"{theirs}.norm1", f"{ours}/norm1")
        rules += _feed_forward(f"{theirs}.ffn", f"{ours}/ffn")
    for i in range(config.decoder_layers):
        rules += _decoder_layer(config, f"transformer.decoder_layers.{i}", f"decoder_{i}")
    return rules + _heads(config.decoder_layers)


def _input_rules(config: AnchorDETRConfig) -> list[Rule]:
    rules = []
    for i in range(config.num_levels):
        theirs, ours = f"input_proj.{i}.0", f"params/input_proj_{i}"
        rules += [
            Rule((f"{theirs}.weight",), (f"{ours}/kernel",), Layout.CONVOLUTION),
            Rule((f"{theirs}.bias",), (f"{ours}/bias",)),
            *_norm(f"input_proj.{i}.1", f"input_norm_{i}"),
        ]
    if config.num_levels > 1:
        rules.append(Rule(("transformer.level_embed.weight",), ("params/levels",)))
    return rules


def _decoder_layer(config: AnchorDETRConfig, theirs: str, ours: str) -> list[Rule]:
    rules = [
        *attention_rules(f"{theirs}.self_attn", f"{ours}/self_attn", "multi_head"),
        *attention_rules(f"{theirs}.cross_attn", f"{ours}/cross_attn", config.attention),
        *_norm(f"{theirs}.norm1", f"{ours}/norm1"),
        *_norm(f"{theirs}.norm2", f"{ours}/norm2"),
        *_feed_forward(f"{theirs}.ffn", f"{ours}/ffn"),
    ]
    if config.num_levels > 1:
        rules += _linear((f"{theirs}.level_fc",), f"{ours}/join_levels")
    return rules


def _heads(decoder_layers: int) -> list[Rule]:
    """The reference saves each head once for every decoder layer."""
    copies = [f"transformer.class_embed.{i}" for i in range(decoder_layers)]
    rules = _linear(tuple(copies), "class_head")
    for j in range(3):
        copies = [f"transformer.bbox_embed.{i}.layers.{j}" for i in range(decoder_layers)]
        rules += _linear(tuple(copies), f"box_head/mlp/linear{j}")
    return rules


def _linear(torch: tuple[str, ...], ours: str) -> list[Rule]:
    return [
        Rule(tuple(f"{t}.weight" for t in torch), (f"params/{ours}/kernel",), Layout.LINEAR),
        Rule(tuple(f"{t}.bias" for t in torch), (f"params/{ours}/bias",)),
    ]


def _norm(torch: str, ours: str) -> list[Rule]:
    return [
        Rule((f"{torch}.weight",), (f"params/{ours}/scale",)),
        Rule((f"{torch}.bias",), (f"params/{ours}/bias",)),
    ]


def _feed_forward(torch: str, ours: str) -> list[Rule]:
    return [
        *_linear((f"{torch}.linear1",), f"{ours}/linear1"),
        *_linear((f"{torch}.linear2",), f"{ours}/linear2"),
        *_norm(f"{torch}.norm2", f"{ours}/norm"),
    ]


def attention_rules(torch: str, ours: str, kind: str) -> list[Rule]:
    """The input projections are stacked in one matrix there, and apart here."""
    kernels = tuple(f"params/{ours}/{block}/kernel" for block in _BLOCKS[kind])
    biases = tuple(f"params/{ours}/{block}/bias" for block in _BLOCKS[kind])
    return [
        Rule((f"{torch}.in_proj_weight",), kernels, Layout.LINEAR),
        Rule((f"{torch}.in_proj_bias",), biases),
        *_linear((f"{torch}.out_proj",), f"{ours}/out"),
    ]
