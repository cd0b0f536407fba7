"""From a checkpoint file of PyTorch to a detector, and back."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from anchor_detr_jax.checkpoint import StoredDetector
from anchor_detr_jax.conversion.anchor_detr import (
    IGNORED,
    anchor_detr_args,
    anchor_detr_rules,
    infer_anchor_detr,
)
from anchor_detr_jax.conversion.state_dict import flatten, to_state_dict, to_variables
from anchor_detr_jax.conversion.torch_file import TorchFileError, read_torch_file
from anchor_detr_jax.conversion.torch_writer import write_torch_file
from anchor_detr_jax.data.categories import coco_columns, numbered_columns
from anchor_detr_jax.models.build import variable_shapes

__all__ = ["ConversionReport", "read_torch_detector", "write_torch_detector"]


@dataclass(frozen=True)
class ConversionReport:
    """What became of a file's tensors.

    Attributes:
        read: tensors in the file.
        ignored: names of those that are no weights.
        parameters: numbers in `params`.
        frozen: numbers in the frozen batch norms.
        nbytes: of both.
    """

    read: int
    ignored: list[str]
    parameters: int
    frozen: int
    nbytes: int

    def __str__(self) -> str:
        lines = [f"read {self.read} tensors, used {self.read - len(self.ignored)}"]
        if self.ignored:
            reason = "left by a FLOP counter, no weights"
            lines.append(f"ignored {len(self.ignored)} ({reason}): {', '.join(self.ignored)}")
        lines.append(
            f"{self.parameters:,} parameters and {self.frozen:,} frozen batch-norm numbers, "
            f"{self.nbytes / 1e6:.1f} MB"
        )
        return "\n".join(lines)


def read_torch_detector(
    path: str | Path, *, dilation: bool | None = None
) -> tuple[StoredDetector, ConversionReport]:
    """The detector in an official checkpoint, and an account of its conversion.

    Args:
        path: a `.pth` as the reference saves it.
        dilation: whether the model is a DC5, for files whose args do not say it.

    Raises:
        TorchFileError: if the file cannot be read, or holds another model; it names the file.
    """
    path = Path(path)
    checkpoint = read_torch_file(path)
    ignored = sorted(filter(IGNORED.fullmatch, checkpoint.tensors))
    tensors = {n: t for n, t in checkpoint.tensors.items() if n not in ignored}
    try:
        config = infer_anchor_detr(tensors, checkpoint.args, dilation)
        variables = to_variables(anchor_detr_rules(config), tensors, variable_shapes(config))
    except ValueError as error:
        raise TorchFileError(f"{path}: {error}") from None
    columns = config.num_classes
    sizes = {kind: [v.size for v in flatten(variables[kind]).values()] for kind in variables}
    report = ConversionReport(
        read=len(checkpoint.tensors),
        ignored=ignored,
        parameters=sum(sizes["params"]),
        frozen=sum(sizes["frozen"]),
        nbytes=4 * sum(map(sum, sizes.values())),
    )
    detector = StoredDetector(
        config=config,
        variables=variables,
        categories=coco_columns() if columns == 91 else numbered_columns(columns),
        source={"file": path.name, "sha256": _sha256(path)},
    )
    return detector, report


def write_torch_detector(path: str | Path, detector: StoredDetector) -> None:
    """Write a detector in the reference's own layout, which the reference loads.

    `args` say what the tensors do not, so that reading it again needs no option.
    """
    tensors = to_state_dict(anchor_detr_rules(detector.config), detector.variables)
    write_torch_file(path, tensors, anchor_detr_args(detector.config))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
