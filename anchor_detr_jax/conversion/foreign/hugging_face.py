"""Names of Hugging Face's DETR and Conditional DETR.

Those that transformers 4 has, and all versions write to files; and those that its version 5 has in
memory. Backbones are timm's, whose names are torchvision's, or of transformers itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from anchor_detr_jax.conversion.foreign.renaming import (
    ForeignLayout,
    Substitution,
    renamed,
    stacked,
    with_number,
)

__all__ = ["HUGGING_FACE"]

_STEM = "embedder.embedder.convolution.weight"
"""End of a name that backbones of transformers have."""

_BACKBONE: tuple[Substitution, ...] = (
    (r"^model\.backbone\.(?:conv_encoder\.)?model\.(?:_backbone\.)?", "backbone.0.body."),
    (r"\bembedder\.embedder\.convolution\.", "conv1."),
    (r"\bembedder\.embedder\.normalization\.", "bn1."),
    (r"\bencoder\.stages\.(\d)\.layers\.", with_number("layer", 1, ".")),
    (r"\blayer\.(\d)\.convolution\.", with_number("conv", 1, ".")),
    (r"\blayer\.(\d)\.normalization\.", with_number("bn", 1, ".")),
    (r"\bshortcut\.convolution\.", "downsample.0."),
    (r"\bshortcut\.normalization\.", "downsample.1."),
    (r"^model\.(?:backbone\.)?position_embedding\.row_embeddings\.", "backbone.1.row_embed."),
    (r"^model\.(?:backbone\.)?position_embedding\.column_embeddings\.", "backbone.1.col_embed."),
)
_OUTSIDE: tuple[Substitution, ...] = (
    (r"^model\.input_projection\.", "input_proj."),
    (r"^model\.query_position_embeddings\.", "query_embed."),
    (r"^class_labels_classifier\.", "class_embed."),
    (r"^bbox_predictor\.", "bbox_embed."),
    (r"^model\.(encoder|decoder)\.", r"transformer.\1."),
    (r"^transformer\.decoder\.layernorm\.", "transformer.decoder.norm."),
)
_LAYER: tuple[Substitution, ...] = (
    (r"\bself_attn_layer_norm\.", "norm1."),
    (r"\bencoder_attn_layer_norm\.", "norm2."),
    (r"^(transformer\.encoder\..*)\bfinal_layer_norm\.", r"\1norm2."),
    (r"^(transformer\.decoder\..*)\bfinal_layer_norm\.", r"\1norm3."),
    (r"\b(?:mlp\.)?fc([12])\.", r"linear\1."),
    (r"_attn\.o_proj\.", "_attn.out_proj."),
)
_DETR: tuple[Substitution, ...] = ((r"\bencoder_attn\.", "multihead_attn."),)
_CONDITIONAL_DETR: tuple[Substitution, ...] = (
    (r"\bencoder_attn\.out_proj\.", "cross_attn.out_proj."),
    (r"\bdecoder\.(.*)\bself_attn\.v_proj\.", r"decoder.\1sa_v_proj."),
    (r"\bdecoder\.(.*)\bencoder_attn\.v_proj\.", r"decoder.\1ca_v_proj."),
    (r"\bself_attn\.(q|k)_(content|pos)_proj\.", r"sa_\1\2_proj."),
    (r"\bencoder_attn\.(q|k)_(content|pos|pos_sine)_proj\.", r"ca_\1\2_proj."),
)


def _official(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    conditional = "model.decoder.ref_point_head.layers.0.weight" in tensors
    attentions = _CONDITIONAL_DETR if conditional else _DETR
    return stacked(renamed(tensors, _BACKBONE + _OUTSIDE + _LAYER + attentions))


def _args(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Transformers' own ResNet has no dilation."""
    own = any(name.endswith(_STEM) for name in tensors)
    return {"dilation": False} if own else {}


HUGGING_FACE = ForeignLayout(
    "Hugging Face",
    recognises=lambda tensors: "class_labels_classifier.weight" in tensors,
    official=_official,
    args=_args,
)
"""`DetrForObjectDetection` and `ConditionalDetrForObjectDetection` of transformers."""
