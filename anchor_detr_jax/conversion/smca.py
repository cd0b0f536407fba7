"""Names of the official SMCA checkpoints; what it shares with DETR stands there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from anchor_detr_jax.conversion.detr import (
    decoder_layer_rules,
    shared_args,
    shared_rules,
    shared_shape,
)
from anchor_detr_jax.conversion.evidence import matrix_shape
from anchor_detr_jax.conversion.official import OfficialLayout
from anchor_detr_jax.conversion.rules import linear_rules, norm_rules
from anchor_detr_jax.conversion.state_dict import Rule
from anchor_detr_jax.models.smca import SMCAConfig

__all__ = ["SMCA"]

_FIRST = "transformer.decoder.layers.0"


def _infer(
    tensors: Mapping[str, np.ndarray], args: Mapping[str, Any], dilation: bool | None
) -> SMCAConfig:
    columns, _ = matrix_shape(tensors, "class_embed.weight")
    shape = shared_shape(tensors, args, dilation)
    coordinates, _ = matrix_shape(tensors, f"{_FIRST}.point2.weight")
    shape["num_heads"] = coordinates // 2
    has_scales = f"{_FIRST}.point3.weight" in tensors
    rows, _ = matrix_shape(tensors, f"{_FIRST}.point3.weight") if has_scales else (0, 0)
    scales = 2 * rows // max(coordinates, 1)
    return SMCAConfig(
        **shape,
        num_classes=columns - 1,
        dynamic_scale=f"type{scales + 1}",
        smooth=float(args.get("smooth", 8)),
        head_mixture=bool(args.get("head_mixture", False)),
        query_mixture=bool(args.get("query_mixture", False)),
    )


def _rules(config: SMCAConfig) -> list[Rule]:
    rules = shared_rules(config)
    for i in range(config.decoder_layers):
        theirs, ours = f"transformer.decoder.layers.{i}", f"decoder_{i}"
        rules += decoder_layer_rules(i)
        rules += norm_rules(f"{theirs}.norm4", f"{ours}/gaussian_norm")
        rules += linear_rules(f"{theirs}.point2", f"{ours}/offset")
        if config.scales:
            rules += linear_rules(f"{theirs}.point3", f"{ours}/scale")
    for j in range(3):
        rules += linear_rules(f"{_FIRST}.point1.layers.{j}", f"decoder_0/anchor/linear{j}")
    return rules


def _args(config: SMCAConfig) -> dict[str, Any]:
    return shared_args(config) | {
        "dynamic_scale": config.dynamic_scale,
        "smooth": config.smooth,
        "head_mixture": config.head_mixture,
        "query_mixture": config.query_mixture,
    }


SMCA = OfficialLayout(
    name="SMCA",
    config=SMCAConfig,
    mark="transformer.decoder.layers.0.norm4.weight",
    infer=_infer,
    rules=_rules,
    args=_args,
)
"""abc403/SMCA-replication and the single scale of gaopengcuhk/SMCA-DETR."""
