"""Names of the official DETR checkpoints, and what their shapes and `args` tell.

Conditional DETR and SMCA keep most of these names: what they share stands here, too.
"""

from __future__ import annotations

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
    attention_rules,
    convolution_rules,
    linear_rules,
    norm_rules,
)
from anchor_detr_jax.conversion.state_dict import Rule
from anchor_detr_jax.models.build import ModelConfig
from anchor_detr_jax.models.detr import DETRConfig

__all__ = [
    "DETR",
    "decoder_layer_rules",
    "feed_forward_rules",
    "shared_args",
    "shared_rules",
    "shared_shape",
]

_BACKBONE = "backbone.0.body."
_DECODER = "transformer.decoder.layers"


def shared_shape(
    tensors: Mapping[str, np.ndarray], args: Mapping[str, Any], dilation: bool | None
) -> dict[str, Any]:
    """What DETR's, Conditional DETR's and SMCA's configurations have in common, but the classes."""
    num_queries, hidden_dim = matrix_shape(tensors, "query_embed.weight")
    feedforward_dim, _ = matrix_shape(tensors, f"{_DECODER}.0.linear1.weight")
    return {
        "backbone": infer_resnet(tensors, _BACKBONE, dilation_of(args, dilation)),
        "num_queries": num_queries,
        "hidden_dim": hidden_dim,
        "num_heads": int(args.get("nheads", 8)),
        "feedforward_dim": feedforward_dim,
        "encoder_layers": count_numbered(tensors, r"transformer\.encoder\.layers\.(\d+)\."),
        "decoder_layers": count_numbered(tensors, r"transformer\.decoder\.layers\.(\d+)\."),
        "dropout": float(args.get("dropout", 0.1)),
    }


def shared_args(config: Any) -> dict[str, Any]:
    """The training options that the three have in common."""
    return {
        "backbone": resnet_name(config.backbone),
        "dilation": config.backbone.dilation,
        "position_embedding": "sine",
        "enc_layers": config.encoder_layers,
        "dec_layers": config.decoder_layers,
        "dim_feedforward": config.feedforward_dim,
        "hidden_dim": config.hidden_dim,
        "dropout": config.dropout,
        "nheads": config.num_heads,
        "num_queries": config.num_queries,
        "pre_norm": False,
        "masks": False,
    }


def shared_rules(config: ModelConfig) -> list[Rule]:
    """Backbone, encoder, the decoder's feed-forward blocks and norm, queries and heads."""
    rules = resnet_rules(config.backbone, _BACKBONE)
    rules += convolution_rules("input_proj", "encoder/input_proj")
    for i in range(config.encoder_layers):
        theirs, ours = f"transformer.encoder.layers.{i}", f"encoder/layer_{i}"
        rules += attention_rules(f"{theirs}.self_attn", f"{ours}/self_attn")
        rules += norm_rules(f"{theirs}.norm1", f"{ours}/norm1")
        rules += feed_forward_rules(theirs, ours, norm="norm2")
    for i in range(config.decoder_layers):
        theirs, ours = f"{_DECODER}.{i}", f"decoder_{i}"
        rules += norm_rules(f"{theirs}.norm1", f"{ours}/norm1")
        rules += norm_rules(f"{theirs}.norm2", f"{ours}/norm2")
        rules += feed_forward_rules(theirs, ours, norm="norm3")
    rules += norm_rules("transformer.decoder.norm", "decoder_norm")
    rules.append(Rule(("query_embed.weight",), ("params/query_places",)))
    rules += linear_rules("class_embed", "class_head")
    for j in range(3):
        rules += linear_rules(f"bbox_embed.layers.{j}", f"box_head/mlp/linear{j}")
    return rules


def feed_forward_rules(torch: str, ours: str, *, norm: str) -> list[Rule]:
    """The feed-forward block of a layer; `norm` is its norm's name there."""
    return [
        *linear_rules(f"{torch}.linear1", f"{ours}/ffn/linear1"),
        *linear_rules(f"{torch}.linear2", f"{ours}/ffn/linear2"),
        *norm_rules(f"{torch}.{norm}", f"{ours}/ffn/norm"),
    ]


def decoder_layer_rules(layer: int) -> list[Rule]:
    """The attentions of a decoder layer, where they are PyTorch's."""
    theirs, ours = f"{_DECODER}.{layer}", f"decoder_{layer}"
    return [
        *attention_rules(f"{theirs}.self_attn", f"{ours}/self_attn"),
        *attention_rules(f"{theirs}.multihead_attn", f"{ours}/cross_attn"),
    ]


def _infer(
    tensors: Mapping[str, np.ndarray], args: Mapping[str, Any], dilation: bool | None
) -> DETRConfig:
    columns, _ = matrix_shape(tensors, "class_embed.weight")
    return DETRConfig(
        **shared_shape(tensors, args, dilation),
        num_classes=columns - 1,
        positions="learned" if "backbone.1.row_embed.weight" in tensors else "sine",
        pre_norm="transformer.encoder.norm.weight" in tensors,
    )


def _rules(config: DETRConfig) -> list[Rule]:
    rules = shared_rules(config)
    for i in range(config.decoder_layers):
        rules += decoder_layer_rules(i)
    if config.positions == "learned":
        for theirs, ours in (("row", "row_positions"), ("col", "column_positions")):
            rules.append(Rule((f"backbone.1.{theirs}_embed.weight",), (f"params/encoder/{ours}",)))
    if config.pre_norm:
        rules += norm_rules("transformer.encoder.norm", "encoder/norm")
    return rules


def _args(config: DETRConfig) -> dict[str, Any]:
    known = {"position_embedding": config.positions, "pre_norm": config.pre_norm}
    return shared_args(config) | known


DETR = OfficialLayout(
    name="DETR",
    config=DETRConfig,
    mark="transformer.decoder.layers.0.multihead_attn.in_proj_weight",
    infer=_infer,
    rules=_rules,
    args=_args,
)
"""facebookresearch/detr."""
