"""The families of detectors, by name: the only list of them."""

from __future__ import annotations

import dataclasses
import typing
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype

from anchor_detr_jax.backbones.resnet import ResNet, ResNetConfig
from anchor_detr_jax.layers.padding import FeatureMap
from anchor_detr_jax.layers.rcda import check_form
from anchor_detr_jax.models.anchor_detr import AnchorDETR, AnchorDETRConfig
from anchor_detr_jax.models.conditional_detr import ConditionalDETR, ConditionalDETRConfig
from anchor_detr_jax.models.detr import DETR, DETRConfig
from anchor_detr_jax.models.smca import SMCA, SMCAConfig
from anchor_detr_jax.structures import Images

__all__ = [
    "Model",
    "ModelConfig",
    "backbone_from_dict",
    "backbone_shapes",
    "config_from_dict",
    "config_to_dict",
    "draw_variables",
    "init_variables",
    "make_model",
    "variable_shapes",
]

ModelConfig = AnchorDETRConfig | ConditionalDETRConfig | DETRConfig | SMCAConfig
Model = nn.Module
"""What `make_model` makes: `apply(variables, images, train=, last_layer_only=)` gives `Outputs`."""

_FAMILIES: dict[str, tuple[type, type[nn.Module]]] = {
    "anchor_detr": (AnchorDETRConfig, AnchorDETR),
    "conditional_detr": (ConditionalDETRConfig, ConditionalDETR),
    "detr": (DETRConfig, DETR),
    "smca": (SMCAConfig, SMCA),
}


def make_model(
    config: ModelConfig,
    dtype: Dtype | None = None,
    *,
    remat: str = "none",
    rcda_impl: str = "auto",
) -> Model:
    """The Flax module of a configuration.

    Args:
        config: the model's shape.
        dtype: what is computed in; None: float32.
        remat: what the backward pass computes again, one of `RECOMPUTATION`.
        rcda_impl: how RCDA is computed; the choices are those of `layers.rcda.attend`.

    Raises:
        ValueError: for an `rcda_impl` that there is not.
    """
    check_form(rcda_impl)
    module: Any = next(m for c, m in _FAMILIES.values() if isinstance(config, c))
    forms = {"rcda_impl": rcda_impl} if hasattr(module, "rcda_impl") else {}
    return module(config, dtype, remat, **forms)


def init_variables(model: Model, key: jax.Array) -> dict[str, Any]:
    """Variables as training starts: `params`, and the batch norms in `frozen`."""
    # Hundreds of small draws, made once: on CPUs, what takes time is their compilation.
    quickly = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    return jax.jit(partial(draw_variables, model), compiler_options=quickly)(key)


def variable_shapes(config: ModelConfig) -> dict[str, Any]:
    """`jax.ShapeDtypeStruct`s of the variables; nothing is computed."""
    return jax.eval_shape(partial(draw_variables, make_model(config)), jax.random.key(0))


def draw_variables(model: Model, key: jax.Array) -> dict[str, Any]:
    """`init_variables` inside a `jax.jit`: what is not used there is neither drawn nor compiled."""
    size = 64
    images = Images(jnp.zeros((1, size, size, 3), jnp.uint8), jnp.full((1, 2), size))
    return dict(model.init(key, images))


def backbone_shapes(config: ResNetConfig) -> dict[str, Any]:
    """`jax.ShapeDtypeStruct`s of a backbone's variables, below `backbone` as in a detector's."""
    pixels = FeatureMap(jnp.zeros((1, 64, 64, 3)), jnp.full((1, 2), 64))
    shapes = jax.eval_shape(lambda key: ResNet(config).init(key, pixels), jax.random.key(0))
    return {kind: {"backbone": tree} for kind, tree in shapes.items()}


def config_to_dict(config: ModelConfig) -> dict[str, Any]:
    """Plain containers that JSON can hold; `family` names the class."""
    family = next(name for name, (c, _) in _FAMILIES.items() if isinstance(config, c))
    return {"family": family, **dataclasses.asdict(config)}


def config_from_dict(values: dict[str, Any]) -> ModelConfig:
    """The inverse of `config_to_dict`; what is left out has its default.

    Raises:
        ValueError: for an unknown family or key, named with what there is.
    """
    values = dict(values)
    family = values.pop("family", None)
    if family not in _FAMILIES:
        raise ValueError(f"model family is {family!r}, and must be one of {sorted(_FAMILIES)}")
    return _from_dict(_FAMILIES[family][0], values, "model")


def backbone_from_dict(values: dict[str, Any]) -> ResNetConfig:
    """A backbone's configuration from plain containers.

    Raises:
        ValueError: for an unknown key, named with what there is.
    """
    return _from_dict(ResNetConfig, values, "backbone")


def _from_dict(kind: type, values: dict[str, Any], where: str) -> Any:
    """A dataclass from a dict, nested ones and tuples included."""
    types = typing.get_type_hints(kind)
    unknown = sorted(set(values) - set(types))
    if unknown:
        raise ValueError(f"{where} has no {unknown}; it has {sorted(types)}")
    filled = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(types[name]):
            value = _from_dict(types[name], dict(value), f"{where}.{name}")
        filled[name] = tuple(value) if isinstance(value, list) else value
    return kind(**filled)
