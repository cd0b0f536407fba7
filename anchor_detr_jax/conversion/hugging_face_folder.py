"""Folders that Hugging Face's `save_pretrained` writes, and what their JSON files say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anchor_detr_jax.data.categories import Categories

__all__ = ["HuggingFaceFolder", "is_hugging_face_folder", "read_settings", "weights_in"]

_CONFIG, _PREPROCESSOR = "config.json", "preprocessor_config.json"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_MODELS = ("detr", "conditional_detr")
_BACKBONE = ("backbone_config", "backbone_kwargs")
"""Where settings of the backbone stand, in version 5 and 4 of transformers."""
_NO_CATEGORY = "N/A"
"""Name of a column that stands for nothing."""
_PIXELS = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
"""What models here normalise with."""


@dataclass(frozen=True)
class HuggingFaceFolder:
    """What stands beside the weights.

    Attributes:
        args: as official training options.
        categories: of the columns; None if nothing is said of them.
    """

    args: dict[str, Any]
    categories: Categories | None


def is_hugging_face_folder(path: Path) -> bool:
    """Whether there is a model's `config.json`."""
    return (path / _CONFIG).is_file()


def weights_in(folder: Path) -> Path:
    """The file with the weights.

    Raises:
        ValueError: if there is none.
    """
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise ValueError(f"is a folder with neither of {' and '.join(_WEIGHTS)} in it")


def read_settings(folder: Path) -> HuggingFaceFolder | None:
    """What the JSON files of a folder say of the model in it; None if there are none.

    Raises:
        ValueError: for a file that cannot be read, and a model that is none of this package.
    """
    config = _read_json(folder / _CONFIG)
    if config is None:
        return None
    for name, holds, expected in _rules(config):
        if not holds:
            raise ValueError(f"{_CONFIG}: {name} is {_at(config, name)!r}, not {expected}")
    preprocessor = _read_json(folder / _PREPROCESSOR) or {}
    for name, values in _PIXELS.items():
        if preprocessor.get(name, values) != values:
            raise ValueError(f"{_PREPROCESSOR}: {name} is {preprocessor[name]}, not {values}")
    args = {"nheads": config.get("encoder_attention_heads", 8)}
    args |= {"dropout": config.get("dropout", 0.1), "dilation": _is_dilated(config)}
    return HuggingFaceFolder(args, _categories(config.get("id2label")))


def _rules(config: Mapping[str, Any]) -> list[tuple[str, bool, str]]:
    """Name of a setting, whether it is as models here have it, and how they do."""

    def one_of(name: str, *values: Any) -> tuple[str, bool, str]:
        return (
            name,
            _at(config, name) in values,
            " or ".join(repr(value) for value in values if value is not None),
        )

    rules = [one_of("model_type", *_MODELS), one_of("activation_function", "relu", None)]
    heads = config.get("encoder_attention_heads", 8)
    same = config.get("decoder_attention_heads", 8) == heads
    rules.append(("decoder_attention_heads", same, f"{heads}, as the encoder has"))
    for where in _BACKBONE:
        rules.append(one_of(f"{where}.output_stride", 16, 32, None))
    if _at(config, "backbone_config.model_type") == "resnet":
        rules.append(one_of("backbone_config.layer_type", "bottleneck", None))
        rules.append(one_of("backbone_config.hidden_act", "relu", None))
        for place in ("downsample_in_bottleneck", "downsample_in_first_stage"):
            rules.append(one_of(f"backbone_config.{place}", False, None))
    return rules


def _at(config: Mapping[str, Any], name: str) -> Any:
    """A setting by its dotted name; None where there is none."""
    value: Any = config
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _is_dilated(config: Mapping[str, Any]) -> bool:
    """Transformers 4 says it by `dilation`, version 5 by the stride of the whole backbone."""
    strides = {_at(config, f"{where}.output_stride") for where in _BACKBONE} - {None}
    return 16 in strides if strides else bool(config.get("dilation", False))


def _categories(labels: Any) -> Categories | None:
    if not labels:
        return None
    columns = [str(i) for i in range(len(labels))]
    if not isinstance(labels, Mapping) or set(labels) != set(columns):
        raise ValueError(f"{_CONFIG}: id2label has {list(labels)}, not each column from 0 on")
    names = (labels[column] for column in columns)
    known = (str(name) if name != _NO_CATEGORY else None for name in names)
    return Categories(tuple(range(len(columns))), tuple(known))


def _read_json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name} is no JSON ({error})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds a {type(content).__name__}, not an object")
    return content
