"""Which family's checkpoint a state dict is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from anchor_detr_jax.conversion.anchor_detr import ANCHOR_DETR
from anchor_detr_jax.conversion.conditional_detr import CONDITIONAL_DETR
from anchor_detr_jax.conversion.detr import DETR
from anchor_detr_jax.conversion.foreign import foreign_layout
from anchor_detr_jax.conversion.official import OfficialLayout
from anchor_detr_jax.conversion.smca import SMCA
from anchor_detr_jax.models.build import ModelConfig

__all__ = ["Recognised", "layout_of", "recognised"]

_OFFICIAL = (ANCHOR_DETR, CONDITIONAL_DETR, SMCA, DETR)
"""SMCA has all of DETR's names, so it is looked for first."""


@dataclass(frozen=True)
class Recognised:
    """A state dict whose family is known.

    Attributes:
        layout: the family's official one.
        tensors: the state dict under its names.
        project: whose names it had.
        args: what these names tell of the model, as official training options.
    """

    layout: OfficialLayout
    tensors: dict[str, np.ndarray]
    project: str
    args: dict[str, Any] = field(default_factory=dict)

    @property
    def is_foreign(self) -> bool:
        """Whether its names were others."""
        return self.project != self.layout.name


def recognised(tensors: Mapping[str, np.ndarray]) -> Recognised:
    """The family of a state dict, which may be in a layout of another project.

    Raises:
        ValueError: if it is of no family.
    """
    foreign = foreign_layout(tensors)
    named = foreign.official(tensors) if foreign else dict(tensors)
    for layout in _OFFICIAL:
        if layout.mark in named:
            if foreign is None:
                return Recognised(layout, named, layout.name)
            return Recognised(layout, named, foreign.name, foreign.args(tensors))
    marks = ", ".join(f"{layout.name}'s {layout.mark}" for layout in _OFFICIAL)
    some = ", ".join(sorted(tensors)[:3])
    raise ValueError(
        f"its tensors are those of no known family: there is none of {marks}; it begins with {some}"
    )


def layout_of(config: ModelConfig) -> OfficialLayout:
    """Of a model's family."""
    return next(layout for layout in _OFFICIAL if isinstance(config, layout.config))
