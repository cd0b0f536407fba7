"""Names of detr_pytorch, a DETR with ResNet-50 whose attentions are written out."""

from __future__ import annotations

from anchor_detr_jax.conversion.foreign.renaming import (
    ForeignLayout,
    Substitution,
    renamed,
    stacked,
    with_number,
)

__all__ = ["DETR_PYTORCH"]

_SUBSTITUTIONS: tuple[Substitution, ...] = (
    # The parts of a ResNet by their place in it; 2 and 3 are ReLU and max pool.
    (r"^backbone\.0\.", "backbone.0.body.conv1."),
    (r"^backbone\.1\.", "backbone.0.body.bn1."),
    (r"^backbone\.([4-7])\.", with_number("backbone.0.body.layer", -3, ".")),
    (r"^transformer\.(en|de)coder\.\1coders\.", r"transformer.\1coder.layers."),
    (r"\battn(?:_t)?\.(q|k|v|proj)\.", r"self_attn.\1."),
    (r"\battn_x\.(q|k|v|proj)\.", r"multihead_attn.\1."),
    (r"_attn\.(q|k|v)\.", r"_attn.\1_proj."),
    (r"_attn\.proj\.", "_attn.out_proj."),
    (r"\bmlp\.fc([12])\.", r"linear\1."),
    (r"^class_layer\.", "class_embed."),
    (r"^box_layer\.box_layers\.([024])\.", lambda m: f"bbox_embed.layers.{int(m[1]) // 2}."),
)

DETR_PYTORCH = ForeignLayout(
    "detr_pytorch",
    recognises=lambda tensors: "class_layer.weight" in tensors,
    official=lambda tensors: stacked(renamed(tensors, _SUBSTITUTIONS)),
    args=lambda tensors: {"dilation": False},
)
"""csm-kr/detr_pytorch."""
