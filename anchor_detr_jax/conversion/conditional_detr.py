"""Names of the official Conditional DETR checkpoints; what it shares with DETR stands there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from anchor_detr_jax.conversion.detr import shared_args, shared_rules, shared_shape
from anchor_detr_jax.conversion.evidence import matrix_shape
from anchor_detr_jax.conversion.official import OfficialLayout
from anchor_detr_jax.conversion.rules import linear_rules
from anchor_detr_jax.conversion.state_dict import Rule
from anchor_detr_jax.models.conditional_detr import ConditionalDETRConfig

__all__ = ["CONDITIONAL_DETR"]

_PROJECTIONS = {
    "sa_qcontent_proj": "self_attn/query_content",
    "sa_qpos_proj": "self_attn/query_position",
    "sa_kcontent_proj": "self_attn/key_content",
    "sa_kpos_proj": "self_attn/key_position",
    "sa_v_proj": "self_attn/value",
    "self_attn.out_proj": "self_attn/out",
    "ca_qcontent_proj": "cross_attn/query_content",
    "ca_kcontent_proj": "cross_attn/key_content",
    "ca_kpos_proj": "cross_attn/key_position",
    "ca_qpos_sine_proj": "cross_attn/query_sine",
    "ca_v_proj": "cross_attn/value",
    "cross_attn.out_proj": "cross_attn/out",
}
"""Linear layers that each decoder layer has; there and here."""


def _infer(
    tensors: Mapping[str, np.ndarray], args: Mapping[str, Any], dilation: bool | None
) -> ConditionalDETRConfig:
    columns, _ = matrix_shape(tensors, "class_embed.weight")
    return ConditionalDETRConfig(**shared_shape(tensors, args, dilation), num_classes=columns)


def _rules(config: ConditionalDETRConfig) -> list[Rule]:
    rules = shared_rules(config)
    decoder = "transformer.decoder"
    for i in range(config.decoder_layers):
        for theirs, ours in _PROJECTIONS.items():
            rules += linear_rules(f"{decoder}.layers.{i}.{theirs}", f"decoder_{i}/{ours}")
    first = f"{decoder}.layers.0.ca_qpos_proj"
    rules += linear_rules(first, "decoder_0/cross_attn/query_position")
    for j in (0, 1):
        rules += linear_rules(f"{decoder}.query_scale.layers.{j}", f"spatial_scale/linear{j}")
        rules += linear_rules(f"{decoder}.ref_point_head.layers.{j}", f"reference/linear{j}")
    return rules


CONDITIONAL_DETR = OfficialLayout(
    name="ConditionalDETR",
    config=ConditionalDETRConfig,
    mark="transformer.decoder.ref_point_head.layers.0.weight",
    infer=_infer,
    rules=_rules,
    args=shared_args,
)
"""Atten4Vis/ConditionalDETR."""
