"""A detector on disk: a folder with `detector.json` and Orbax's `variables/`."""

from __future__ import annotations

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

from anchor_detr_jax.data.categories import Categories
from anchor_detr_jax.models.build import (
    ModelConfig,
    config_from_dict,
    config_to_dict,
    variable_shapes,
)

__all__ = ["StoredDetector", "load_folder", "save_folder", "written_whole"]

_FORMAT = 1


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


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """A new folder to fill, which takes its name when it is full; nothing is left if that fails.

    Raises:
        FileExistsError: if there is something of this name.
    """
    path = Path(path).absolute()
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


def save_folder(path: str | Path, detector: StoredDetector) -> None:
    """Write a detector.

    Raises:
        FileExistsError: if `path` exists and is not an empty folder.
    """
    description = {
        "format": _FORMAT,
        "model": config_to_dict(detector.config),
        "categories": detector.categories.to_json(),
        "source": detector.source,
    }
    with written_whole(path) as folder:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(folder / "variables", dict(detector.variables))
        text = json.dumps(description, indent=2, ensure_ascii=False)
        (folder / "detector.json").write_text(text + "\n", encoding="utf-8")


def load_folder(path: str | Path) -> StoredDetector:
    """Read what `save_folder` wrote.

    Raises:
        ValueError: if the folder holds no detector, or one that this version cannot read.
    """
    path = Path(path).absolute()
    file = path / "detector.json"
    if not file.is_file():
        raise ValueError(
            f"{path} holds no detector (no detector.json); convert_torch_weights.py makes one"
        )
    try:
        description = json.loads(file.read_text(encoding="utf-8"))
        if description["format"] != _FORMAT:
            raise ValueError(f"its format is {description['format']}, this version reads {_FORMAT}")
        config = config_from_dict(description["model"])
        categories = Categories.from_json(description["categories"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{file} is not as this version writes it: {error}") from None
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    target = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
        variable_shapes(config),
    )
    with ocp.StandardCheckpointer() as checkpointer:
        variables = checkpointer.restore(path / "variables", target)
    return StoredDetector(config, variables, categories, description.get("source", {}))
