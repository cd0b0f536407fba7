"""From a checkpoint file of PyTorch to a detector or a backbone, and back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anchor_detr_jax.checkpoint import StoredBackbone, StoredDetector
from anchor_detr_jax.conversion.foreign.detrex import DETREX
from anchor_detr_jax.conversion.foreign.hugging_face import HUGGING_FACE
from anchor_detr_jax.conversion.hugging_face_folder import (
    HuggingFaceFolder,
    read_settings,
    weights_in,
)
from anchor_detr_jax.conversion.layouts import Recognised, layout_of, recognised
from anchor_detr_jax.conversion.resnet import infer_resnet, resnet_rules
from anchor_detr_jax.conversion.safetensors_file import read_safetensors
from anchor_detr_jax.conversion.state_dict import ConversionError, to_state_dict, to_variables
from anchor_detr_jax.conversion.surroundings import not_weights, without_surroundings
from anchor_detr_jax.conversion.torch_file import TorchCheckpoint, TorchFileError, read_torch_file
from anchor_detr_jax.conversion.torch_writer import write_torch_file
from anchor_detr_jax.data.categories import Categories, coco_columns, numbered_columns
from anchor_detr_jax.models.build import ModelConfig, backbone_shapes, variable_shapes
from anchor_detr_jax.variable_names import flatten

__all__ = [
    "ConversionReport",
    "read_torch_backbone",
    "read_torch_detector",
    "write_torch_detector",
]

_CLASSIFIER = {"fc.weight": "ImageNet's classifier", "fc.bias": "ImageNet's classifier"}


@dataclass(frozen=True)
class ConversionReport:
    """What became of a file's tensors.

    Attributes:
        layout: whose names the tensors have.
        read: tensors in the file.
        ignored: those that are no weights, by name, and why.
        parameters: numbers in `params`.
        frozen: numbers in the frozen batch norms.
    """

    layout: str
    read: int
    ignored: dict[str, str]
    parameters: int
    frozen: int

    def __str__(self) -> str:
        used = self.read - len(self.ignored)
        lines = [f"read {self.read} tensors in the layout of {self.layout}, used {used}"]
        lines += [f"ignored {name}: {reason}" for name, reason in self.ignored.items()]
        lines.append(
            f"{self.parameters:,} parameters and {self.frozen:,} frozen batch-norm numbers, "
            f"{4 * (self.parameters + self.frozen) / 1e6:.1f} MB"
        )
        return "\n".join(lines)


def read_torch_detector(
    path: str | Path, *, dilation: bool | None = None
) -> tuple[StoredDetector, ConversionReport]:
    """The detector in a checkpoint, and an account of its conversion.

    Args:
        path: a `.pth` as the family's authors save it, or another project that `foreign` knows;
            or its state dict as `.safetensors`; or a folder of Hugging Face's `save_pretrained`.
        dilation: whether the model is a DC5, for files whose args do not say it.

    Raises:
        TorchFileError: if the file cannot be read, or holds another model; it names the file.
    """
    path = Path(path)
    try:
        path = weights_in(path) if path.is_dir() else path
        checkpoint = _read(path)
        tensors, ignored = without_surroundings(checkpoint.tensors)
        found = recognised(tensors)
        beside = read_settings(path.parent) if found.project == HUGGING_FACE.name else None
        args = (checkpoint.args or {}) | (beside.args if beside else {}) | found.args
        config, variables = _converted(found, args, dilation)
        categories = _categories(config.num_classes, found.project, beside)
    except TorchFileError:
        raise
    except ValueError as error:
        raise TorchFileError(f"{path}: {error}") from None
    detector = StoredDetector(config, variables, categories, _source(path))
    return detector, _report(found.project, checkpoint, ignored, variables)


def read_torch_backbone(path: str | Path) -> tuple[StoredBackbone, ConversionReport]:
    """A pretrained ResNet in a file of torchvision, and an account of its conversion.

    Raises:
        TorchFileError: if the file cannot be read, or holds another model; it names the file.
    """
    path = Path(path)
    checkpoint = _read(path)
    ignored = not_weights(checkpoint.tensors) | {
        name: reason for name, reason in _CLASSIFIER.items() if name in checkpoint.tensors
    }
    try:
        tensors = {n: t for n, t in checkpoint.tensors.items() if n not in ignored}
        config = infer_resnet(tensors, prefix="", dilation=False)
        variables = to_variables(resnet_rules(config, ""), tensors, backbone_shapes(config))
    except ValueError as error:
        raise TorchFileError(f"{path}: {error}") from None
    backbone = StoredBackbone(config, variables, _source(path))
    return backbone, _report("torchvision", checkpoint, ignored, variables)


def write_torch_detector(path: str | Path, detector: StoredDetector) -> None:
    """Write a detector in its family's official layout, which the authors' code loads.

    `args` say what the tensors do not, so that reading it again needs no option.
    """
    layout = layout_of(detector.config)
    tensors = to_state_dict(layout.rules(detector.config), detector.variables)
    write_torch_file(path, tensors, layout.args(detector.config))


def _converted(
    found: Recognised, args: Mapping[str, Any], dilation: bool | None
) -> tuple[ModelConfig, dict[str, Any]]:
    """Configuration and variables."""
    layout = found.layout
    try:
        config = layout.infer(found.tensors, args, dilation)
        template = variable_shapes(config)
        return config, to_variables(layout.rules(config), found.tensors, template)
    except KeyError as error:
        reason = f"its tensors are not those of an official {layout.name}: there is no {error}"
    except ConversionError as error:
        reason = str(error)
    own = f"(names of {layout.name}; the file has {found.project}'s) " if found.is_foreign else ""
    raise ValueError(own + reason)


def _read(path: Path) -> TorchCheckpoint:
    return read_safetensors(path) if path.suffix == ".safetensors" else read_torch_file(path)


def _categories(columns: int, project: str, beside: HuggingFaceFolder | None) -> Categories:
    """Official models have a column for each id up to 90, detrex's one for each of the 80."""
    if beside and beside.categories:
        if len(beside.categories) != columns:
            raise ValueError(
                f"config.json names {len(beside.categories)} categories, "
                f"and the model's head has columns for {columns}"
            )
        return beside.categories
    known = coco_columns(gaps=project != DETREX.name)
    return known if len(known) == columns else numbered_columns(columns)


def _source(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"file": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _report(
    layout: str,
    checkpoint: TorchCheckpoint,
    ignored: dict[str, str],
    variables: Mapping[str, Any],
) -> ConversionReport:
    count = {kind: sum(v.size for v in flatten(variables[kind]).values()) for kind in variables}
    return ConversionReport(
        layout, len(checkpoint.tensors), ignored, count["params"], count["frozen"]
    )
