"""Names of the official Anchor DETR checkpoints, and what their shapes and `args` tell."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from anchor_detr_jax.conversion.resnet import infer_resnet, resnet_rules
from anchor_detr_jax.conversion.state_dict import Layout, Rule
from anchor_detr_jax.models.anchor_detr import AnchorDETRConfig

__all__ = [
    "IGNORED",
    "anchor_detr_args",
    "anchor_detr_rules",
    "attention_rules",
    "infer_anchor_detr",
]

IGNORED = re.compile(r".*total_(params|ops)")
"""Names of tensors that are no weights: a FLOP counter left them in some official files."""

_BACKBONE = "backbone.body."
_RCDA_BLOCKS = ("query_row", "query_column", "key_row", "key_column", "value")
_PLAIN_BLOCKS = ("query", "key", "value")


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
        num_patterns, _ = tensors["transformer.pattern.weight"].shape
        num_anchors, _ = tensors["transformer.position.weight"].shape
    except (KeyError, ValueError) as error:
        some = ", ".join(sorted(tensors)[:3])
        raise ValueError(
            f"its tensors are not those of an official Anchor DETR with learned anchors "
            f"({error}); it begins with {some}"
        ) from None
    return AnchorDETRConfig(
        backbone=infer_resnet(tensors, _BACKBONE, _dilation(args.get("dilation"), dilation)),
        num_classes=num_classes,
        hidden_dim=hidden_dim,
        num_heads=int(args.get("nheads", 8)),
        feedforward_dim=feedforward_dim,
        encoder_layers=_count(tensors, r"transformer\.encoder_layers\.(\d+)\."),
        decoder_layers=_count(tensors, r"transformer\.decoder_layers\.(\d+)\."),
        num_anchors=num_anchors,
        num_patterns=num_patterns,
    )


def _dilation(in_args: bool | None, given: bool | None) -> bool:
    """Whether C5 is dilated: the file's word, else the user's, else no."""
    if in_args is not None and given is not None and bool(in_args) != given:
        raise ValueError(
            f"dilation={given} was asked for, but the file's own args say dilation={in_args}; "
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
        "num_feature_levels": 1,
        "enc_layers": config.encoder_layers,
        "dec_layers": config.decoder_layers,
        "dim_feedforward": config.feedforward_dim,
        "hidden_dim": config.hidden_dim,
        "nheads": config.num_heads,
        "num_query_position": config.num_anchors,
        "num_query_pattern": config.num_patterns,
        "spatial_prior": "learned",
        "attention_type": "RCDA",
    }


def anchor_detr_rules(config: AnchorDETRConfig) -> list[Rule]:
    """The table for the official layout."""
    rules = resnet_rules(config.backbone, _BACKBONE)
    rules += [
        Rule(("input_proj.0.0.weight",), ("params/input_proj/kernel",), Layout.CONVOLUTION),
        Rule(("input_proj.0.0.bias",), ("params/input_proj/bias",)),
        *_norm("input_proj.0.1", "input_norm"),
        Rule(("transformer.pattern.weight",), ("params/patterns",)),
        Rule(("transformer.position.weight",), ("params/anchor_points",)),
    ]
    for kind in ("1d", "2d"):
        for ours, theirs in enumerate((0, 2)):
            rules += _linear(
                (f"transformer.adapt_pos{kind}.{theirs}",), f"position_{kind}/linear{ours}"
            )
    for i in range(config.encoder_layers):
        theirs, ours = f"transformer.encoder_layers.{i}", f"encoder_{i}"
        rules += attention_rules(f"{theirs}.self_attn", f"{ours}/self_attn", _RCDA_BLOCKS)
        rules += _norm(f"{theirs}.norm1", f"{ours}/norm1")
        rules += _feed_forward(f"{theirs}.ffn", f"{ours}/ffn")
    for i in range(config.decoder_layers):
        theirs, ours = f"transformer.decoder_layers.{i}", f"decoder_{i}"
        rules += attention_rules(f"{theirs}.self_attn", f"{ours}/self_attn", _PLAIN_BLOCKS)
        rules += attention_rules(f"{theirs}.cross_attn", f"{ours}/cross_attn", _RCDA_BLOCKS)
        rules += _norm(f"{theirs}.norm1", f"{ours}/norm1")
        rules += _norm(f"{theirs}.norm2", f"{ours}/norm2")
        rules += _feed_forward(f"{theirs}.ffn", f"{ours}/ffn")
    return rules + _heads(config.decoder_layers)


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
        *_linear((f"{torch}.linear1",), f"{ours}/mlp/linear0"),
        *_linear((f"{torch}.linear2",), f"{ours}/mlp/linear1"),
        *_norm(f"{torch}.norm2", f"{ours}/norm"),
    ]


def attention_rules(torch: str, ours: str, blocks: tuple[str, ...]) -> list[Rule]:
    """The input projections are stacked in one matrix there, and apart here."""
    kernels = tuple(f"params/{ours}/{block}/kernel" for block in blocks)
    biases = tuple(f"params/{ours}/{block}/bias" for block in blocks)
    return [
        Rule((f"{torch}.in_proj_weight",), kernels, Layout.LINEAR),
        Rule((f"{torch}.in_proj_bias",), biases),
        *_linear((f"{torch}.out_proj",), f"{ours}/out"),
    ]
