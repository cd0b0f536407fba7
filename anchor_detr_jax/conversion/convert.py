"""From a checkpoint file of PyTorch to a detector or a backbone, and back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anchor_detr_jax.checkpoint import StoredBackbone, StoredDetector
from anchor_detr_jax.conversion.anchor_detr import (
    anchor_detr_args,
    anchor_detr_rules,
    infer_anchor_detr,
    official_names,
)
from anchor_detr_jax.conversion.resnet import infer_resnet, resnet_rules
from anchor_detr_jax.conversion.safetensors_file import read_safetensors
from anchor_detr_jax.conversion.state_dict import to_state_dict, to_variables
from anchor_detr_jax.conversion.torch_file import TorchCheckpoint, TorchFileError, read_torch_file
from anchor_detr_jax.conversion.torch_writer import write_torch_file
from anchor_detr_jax.data.categories import Categories, coco_columns, numbered_columns
from anchor_detr_jax.models.build import backbone_shapes, variable_shapes
from anchor_detr_jax.variable_names import flatten

__all__ = [
    "ConversionReport",
    "read_torch_backbone",
    "read_torch_detector",
    "write_torch_detector",
]

_IGNORED = {
    "total_ops": "left by a FLOP counter",
    "total_params": "left by a FLOP counter",
    "num_batches_tracked": "a counter of batch norms, which are frozen here",
}
"""Last parts of the names of tensors that are no weights, and why they are there."""
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
        path: a `.pth` as the reference or detrex saves it, or its state dict as `.safetensors`.
        dilation: whether the model is a DC5, for files whose args do not say it.

    Raises:
        TorchFileError: if the file cannot be read, or holds another model; it names the file.
    """
    path = Path(path)
    checkpoint = _read(path)
    ignored = _ignored(checkpoint.tensors)
    try:
        named = {n: t for n, t in checkpoint.tensors.items() if n not in ignored}
        tensors, layout = official_names(named)
        config = infer_anchor_detr(tensors, checkpoint.args, dilation)
        variables = to_variables(anchor_detr_rules(config), tensors, variable_shapes(config))
    except ValueError as error:
        raise TorchFileError(f"{path}: {error}") from None
    detector = StoredDetector(
        config=config,
        variables=variables,
        categories=_categories(config.num_classes, layout),
        source=_source(path),
    )
    return detector, _report(layout, checkpoint, ignored, variables)


def read_torch_backbone(path: str | Path) -> tuple[StoredBackbone, ConversionReport]:
    """A pretrained ResNet in a file of torchvision, and an account of its conversion.

    Raises:
        TorchFileError: if the file cannot be read, or holds another model; it names the file.
    """
    path = Path(path)
    checkpoint = _read(path)
    ignored = _ignored(checkpoint.tensors) | {
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
    """Write a detector in the reference's own layout, which the reference loads.

    `args` say what the tensors do not, so that reading it again needs no option.
    """
    tensors = to_state_dict(anchor_detr_rules(detector.config), detector.variables)
    write_torch_file(path, tensors, anchor_detr_args(detector.config))


def _read(path: Path) -> TorchCheckpoint:
    return read_safetensors(path) if path.suffix == ".safetensors" else read_torch_file(path)


def _ignored(tensors: Mapping[str, np.ndarray]) -> dict[str, str]:
    ends = {name: name.rpartition(".")[2] for name in tensors}
    return {name: _IGNORED[end] for name, end in ends.items() if end in _IGNORED}


def _categories(columns: int, layout: str) -> Categories:
    """Official models have a column for each id up to 90, detrex's one for each of the 80."""
    known = coco_columns(gaps=layout != "detrex")
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
