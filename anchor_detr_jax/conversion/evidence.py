"""What a state dict and a file's training options tell of a model."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from anchor_detr_jax.backbones.resnet import ResNetConfig

__all__ = ["count_numbered", "dilation_of", "matrix_shape", "resnet_name"]


def matrix_shape(tensors: Mapping[str, np.ndarray], name: str) -> tuple[int, int]:
    """Rows and columns of a tensor that tells a model's size.

    Raises:
        KeyError: if it is not there.
        ValueError: if it is no matrix.
    """
    shape = tensors[name].shape
    if len(shape) != 2:
        raise ValueError(f"{name} is {list(shape)}, expected two axes")
    return shape


def count_numbered(tensors: Mapping[str, np.ndarray], pattern: str) -> int:
    """How many numbers there are in the first group of a pattern that names begin with."""
    found = (re.match(pattern, name) for name in tensors)
    return len({match[1] for match in found if match})


def dilation_of(args: Mapping[str, Any], given: bool | None, num_levels: int = 1) -> bool:
    """Whether C5 is dilated: the file's word, else the user's, else no, with a warning.

    Raises:
        ValueError: if the user contradicts the file.
    """
    in_args, said = args.get("dilation"), "its own args say"
    if num_levels > 1:
        in_args, said = True, f"it has {num_levels} levels, for which"
    if in_args is not None and given is not None and bool(in_args) != given:
        raise ValueError(
            f"dilation={given} was asked for, but {said} dilation={bool(in_args)}; "
            "leave the option away to follow the file"
        )
    known = given if in_args is None else bool(in_args)
    if known is None:
        warnings.warn(
            "nothing says whether this model has a dilated C5 (DC5), so C5 is assumed; "
            "say dilation=True or dilation=False (--dilation, --nodilation)",
            stacklevel=2,
        )
    return bool(known)


def resnet_name(config: ResNetConfig) -> str:
    """As the references' option `backbone` has it."""
    return f"resnet{sum(config.blocks) * 3 + 2}"
