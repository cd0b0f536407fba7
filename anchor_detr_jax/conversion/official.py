"""What is known of the layout in which a family's own authors publish checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from anchor_detr_jax.conversion.state_dict import Rule
from anchor_detr_jax.models.build import ModelConfig

__all__ = ["OfficialLayout"]


@dataclass(frozen=True)
class OfficialLayout:
    """One family's layout.

    Attributes:
        name: of the authors' project.
        config: the class of the family's configurations.
        mark: name of a tensor that every model of this family has and no other.
        infer: the configuration, from the state dict, the file's training options, and whether the
            user says that C5 is dilated. Raises KeyError or ValueError for tensors that are none of
            this family, ValueError if the user contradicts the file.
        rules: the table of a configuration.
        args: the training options that say what tensors do not, and some that they do.
    """

    name: str
    config: type
    mark: str
    infer: Callable[[Mapping[str, np.ndarray], Mapping[str, Any], bool | None], ModelConfig]
    rules: Callable[[Any], list[Rule]]
    args: Callable[[Any], dict[str, Any]]
