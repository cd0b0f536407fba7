"""Names of detrex: its Anchor DETR, Conditional DETR and DETR.

Backbones have the names of torchvision, or those of detectron2: with the stride on the 3x3
convolution and pixels as torchvision has them, which is the same model.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from anchor_detr_jax.conversion.foreign.renaming import (
    ForeignLayout,
    Substitution,
    renamed,
    with_number,
)

__all__ = ["DETREX"]

_BACKBONE: tuple[Substitution, ...] = (
    (r"^backbone\.(?:body|stem)\.", "backbone.0.body."),
    (r"^backbone\.res(\d)\.", with_number("backbone.0.body.layer", -1, ".")),
    (r"^(backbone\..*)\bconv(\d)\.norm\.", r"\1bn\2."),
    (r"^(backbone\..*)\bshortcut\.norm\.", r"\1downsample.1."),
    (r"^(backbone\..*)\bshortcut\.", r"\1downsample.0."),
)
_LAYER: tuple[Substitution, ...] = (
    (r"\bffns\.0\.layers\.0\.0\.", "linear1."),
    (r"\bffns\.0\.layers\.1\.", "linear2."),
    (r"\bnorms\.(\d)\.", with_number("norm", 1, ".")),
    (r"\bdecoder\.post_norm_layer\.", "decoder.norm."),
    (r"\battentions\.0\.attn\.", "self_attn."),
    (r"\battentions\.1\.attn\.", "multihead_attn."),
)
_CONDITIONAL: tuple[Substitution, ...] = (
    (r"\battentions\.0\.out_proj\.", "self_attn.out_proj."),
    (r"\battentions\.1\.out_proj\.", "cross_attn.out_proj."),
    (r"\battentions\.0\.value_proj\.", "sa_v_proj."),
    (r"\battentions\.1\.value_proj\.", "ca_v_proj."),
    (r"\battentions\.0\.(q|k)(?:uery|ey)_(content|pos)_proj\.", r"sa_\1\2_proj."),
    (r"\battentions\.1\.(q|k)(?:uery|ey)_(content|pos|pos_sine)_proj\.", r"ca_\1\2_proj."),
)
_ANCHOR_DETR: tuple[Substitution, ...] = (
    # Its one level has no number there.
    (r"^input_proj\.([01]\.(?:weight|bias))$", r"input_proj.0.\1"),
)


def _is_anchor_detr(tensors: Mapping[str, np.ndarray]) -> bool:
    return "transformer.pattern.weight" in tensors and "input_proj.0.weight" in tensors


def _recognises(tensors: Mapping[str, np.ndarray]) -> bool:
    layers = any(".attentions.0." in name for name in tensors)
    return layers or _is_anchor_detr(tensors)


def _official(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if _is_anchor_detr(tensors):
        return renamed(tensors, _ANCHOR_DETR)
    return renamed(tensors, _BACKBONE + _LAYER + _CONDITIONAL)


DETREX = ForeignLayout("detrex", _recognises, _official)
"""IDEA-Research/detrex."""
