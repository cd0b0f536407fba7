"""The sister models' golden files, and models of all families that compile in seconds."""

import functools
import json

import numpy as np
from conftest import DATA
from seeded_weights import seeded_state_dict

from anchor_detr_jax.backbones.resnet import ResNetConfig
from anchor_detr_jax.conversion.layouts import recognised
from anchor_detr_jax.conversion.official import OfficialLayout
from anchor_detr_jax.conversion.state_dict import to_variables
from anchor_detr_jax.models.build import ModelConfig, variable_shapes
from anchor_detr_jax.models.conditional_detr import ConditionalDETRConfig
from anchor_detr_jax.models.detr import DETRConfig
from anchor_detr_jax.models.smca import SMCAConfig

_SHAPE = {
    "backbone": ResNetConfig(blocks=(1, 1, 1, 1), width=8),
    "num_classes": 5,
    "num_queries": 14,
    "hidden_dim": 64,
    "num_heads": 4,
    "feedforward_dim": 96,
    "encoder_layers": 2,
    "decoder_layers": 2,
}

_DC5 = {**_SHAPE, "backbone": ResNetConfig(blocks=(1, 1, 1, 1), width=8, dilation=True)}

NARROW_SISTERS: dict[str, ModelConfig] = {
    "detr": DETRConfig(**_SHAPE),
    "detr_pre_norm": DETRConfig(**_DC5, pre_norm=True),
    "detr_learned": DETRConfig(**_SHAPE, positions="learned"),
    "conditional_detr": ConditionalDETRConfig(**_DC5),
    "smca_type1": SMCAConfig(**_SHAPE, dynamic_scale="type1"),
    "smca_type3": SMCAConfig(**_DC5),
    "smca_type4_mixed": SMCAConfig(
        **_SHAPE, dynamic_scale="type4", head_mixture=True, query_mixture=True, smooth=4.0
    ),
}

MAIN = {"detr": "r50", "conditional_detr": "r50", "smca": "type3"}
"""The variant of each family whose golden file holds most."""


@functools.cache
def family_golden(family: str, name: str) -> dict[str, np.ndarray]:
    """Arrays that a family's reference computed; tests/data/README.md says how."""
    with np.load(DATA / "golden" / family / f"{name}.npz") as file:
        return dict(file)


def official_state_dict(family: str, variant: str, seed: int) -> dict[str, np.ndarray]:
    """The state dict that a golden file was computed with."""
    keys = json.loads((DATA / "golden" / family / "checkpoint_keys.json").read_text())
    return seeded_state_dict(keys[variant], seed)


def official_model(
    family: str, variant: str, seed: int
) -> tuple[OfficialLayout, ModelConfig, dict[str, object]]:
    """Its layout, its configuration, and its variables."""
    tensors = official_state_dict(family, variant, seed)
    layout = recognised(tensors).layout
    mixtures = {name: name in variant for name in ("head_mixture", "query_mixture")}
    config = layout.infer(tensors, {"dilation": "dc5" in variant, **mixtures}, None)
    return layout, config, to_variables(layout.rules(config), tensors, variable_shapes(config))
