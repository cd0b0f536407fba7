"""On disk, a detector or a backbone is a folder: a JSON file, and Orbax's `variables/`."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
import tensorstore

from anchor_detr_jax.backbones.resnet import ResNetConfig
from anchor_detr_jax.data.categories import Categories
from anchor_detr_jax.models.build import (
    ModelConfig,
    backbone_from_dict,
    backbone_shapes,
    config_from_dict,
    config_to_dict,
    variable_shapes,
)

__all__ = [
    "DamagedCheckpointError",
    "StoredBackbone",
    "StoredDetector",
    "check_arrays",
    "load_backbone_folder",
    "load_folder",
    "restore_arrays",
    "said_in_one_line",
    "save_folder",
    "written_whole",
]

_FORMAT = 1
_DETECTOR, _BACKBONE, _VARIABLES = "detector.json", "backbone.json", "variables"


_AT_A_TIME = 32
"""Arrays that `check_arrays` holds in memory."""


class DamagedCheckpointError(ValueError):
    """Files of a checkpoint are missing, cut off or not as they were written."""


@dataclass(frozen=True)
class StoredDetector:
    """All that makes a detector.

    Attributes:
        config: of the model.
        variables: `params` and `frozen`.
        categories: one for each column of the logits.
        source: where the weights came from: file, SHA-256 and so on.
    """

    config: ModelConfig
    variables: Mapping[str, Any]
    categories: Categories
    source: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredBackbone:
    """A pretrained backbone.

    Attributes:
        config: of the ResNet.
        variables: `params` and `frozen`, each with `backbone`, as in a detector's variables.
        source: where the weights came from.
    """

    config: ResNetConfig
    variables: Mapping[str, Any]
    source: dict[str, Any]


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """A new folder to fill, which takes its name when it is full; nothing is left if that fails.

    Raises:
        FileExistsError: if there is something of this name.
    """
    path = Path(path).resolve()  # TensorStore takes no ".."
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(f"{path} exists; choose another folder or remove it first")
    path.parent.mkdir(parents=True, exist_ok=True)
    filling = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield filling
        filling.chmod(0o777 & ~_umask())
        filling.replace(path)
    finally:
        shutil.rmtree(filling, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def save_folder(path: str | Path, stored: StoredDetector | StoredBackbone) -> None:
    """Write a detector or a backbone.

    Raises:
        FileExistsError: if `path` exists and is not an empty folder.
    """
    if isinstance(stored, StoredDetector):
        name = _DETECTOR
        description = {
            "format": _FORMAT,
            "model": config_to_dict(stored.config),
            "categories": stored.categories.to_json(),
            "source": stored.source,
        }
    else:
        name = _BACKBONE
        description = {
            "format": _FORMAT,
            "backbone": dataclasses.asdict(stored.config),
            "source": stored.source,
        }
    with written_whole(path) as folder:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(folder / _VARIABLES, dict(stored.variables))
        text = json.dumps(description, indent=2, ensure_ascii=False)
        (folder / name).write_text(text + "\n", encoding="utf-8")


def load_folder(path: str | Path) -> StoredDetector:
    """Read a detector that `save_folder` wrote.

    Raises:
        ValueError: if the folder holds no detector, or one that this version cannot read.
    """
    path = Path(path).resolve()  # TensorStore takes no ".."
    with _description(path, _DETECTOR) as description:
        config = config_from_dict(description["model"])
        categories = Categories.from_json(description["categories"])
        source = description["source"]
    variables = restore_arrays(path / _VARIABLES, variable_shapes(config))
    return StoredDetector(config, variables, categories, source)


def load_backbone_folder(path: str | Path) -> StoredBackbone:
    """Read a backbone that `save_folder` wrote.

    Raises:
        ValueError: if the folder holds no backbone, or one that this version cannot read.
    """
    path = Path(path).resolve()  # TensorStore takes no ".."
    with _description(path, _BACKBONE) as description:
        config = backbone_from_dict(description["backbone"])
        source = description["source"]
    variables = restore_arrays(path / _VARIABLES, backbone_shapes(config))
    return StoredBackbone(config, variables, source)


@contextmanager
def _description(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    """The JSON file of a folder, to be taken apart; what is wrong with it is said with its name."""
    file = folder / name
    if not file.is_file():
        kind = name.removesuffix(".json")
        raise ValueError(
            f"{folder} holds no {kind} (no {name}); convert_torch_weights.py makes one"
        )
    try:
        description = json.loads(file.read_text(encoding="utf-8"))
        if description["format"] != _FORMAT:
            raise ValueError(f"its format is {description['format']}, this version reads {_FORMAT}")
        yield description
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{file} is not as this version writes it: {error}") from None


def restore_arrays(path: Path, shapes: dict[str, Any]) -> dict[str, Any]:
    """Arrays that Orbax wrote, on the first device of this process.

    Args:
        path: absolute.
        shapes: what is expected there, as `jax.ShapeDtypeStruct`s.

    Raises:
        DamagedCheckpointError: if it cannot be read, or is not of these shapes.
    """
    check_arrays(path)
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    target = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), shapes
    )
    with said_in_one_line(path), ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(path, target)


def check_arrays(path: Path) -> None:
    """Read what Orbax wrote, and forget it.

    Orbax itself, where a file is cut off, leaves a traceback on the terminal for each array.

    Raises:
        DamagedCheckpointError: if anything is missing or cut off.
    """
    with said_in_one_line(path):
        for file in (path / "_METADATA", *path.glob("array_metadatas/*")):
            if file.is_file():
                json.loads(file.read_text())
        file = {"driver": "file", "path": f"{path}/"}
        store = tensorstore.KvStore.open({"driver": "ocdbt", "base": file}).result()
        names = store.list().result()
        if not names:
            raise ValueError("there are no arrays")
        for start in range(0, len(names), _AT_A_TIME):
            for reading in [store.read(name) for name in names[start : start + _AT_A_TIME]]:
                if reading.result().state != "value":
                    raise ValueError("a file is missing")


@contextmanager
def said_in_one_line(path: Path) -> Iterator[None]:
    """What Orbax and TensorStore raise says neither shortly nor by its type what is wrong.

    Raises:
        DamagedCheckpointError: with the path and the first words of any error but of memory.
    """
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError):
        raise
    except Exception as error:
        first = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
        raise DamagedCheckpointError(f"{path} cannot be read ({first})") from error
