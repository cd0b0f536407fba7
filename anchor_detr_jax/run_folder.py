"""On disk, a training run is a folder with `checkpoints/STEP/`.

Each of these holds `about/metadata`, a JSON file, and flat trees of arrays by Orbax: `trained`,
`average` where there is one, `fixed`, `frozen`, and `optimizer`, which inference can do without.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anchor_detr_jax.checkpoint import DamagedCheckpointError, StoredDetector, restore_arrays
from anchor_detr_jax.data.categories import Categories
from anchor_detr_jax.models.build import (
    ModelConfig,
    config_from_dict,
    config_to_dict,
    variable_shapes,
)
from anchor_detr_jax.variable_names import flatten, unflatten

__all__ = [
    "ABOUT",
    "CHECKPOINTS",
    "About",
    "RunDescription",
    "about_file",
    "best_step",
    "check_same_model",
    "differences",
    "finished_steps",
    "is_run",
    "load_run",
    "read_about",
]

_FORMAT = 1
CHECKPOINTS, ABOUT = "checkpoints", "about"
_SHOWN = 10
"""Differences that an error lists."""


@dataclass(frozen=True)
class RunDescription:
    """What a run is: written with every checkpoint.

    Attributes:
        model: the model's shape.
        categories: one for each column of the logits.
        settings: all settings, as plain containers.
        version: of this package.
        data_fingerprint: of what is trained on.
    """

    model: ModelConfig
    categories: Categories
    settings: dict[str, Any]
    version: str
    data_fingerprint: str

    def to_json(self) -> dict[str, Any]:
        """Plain containers that JSON can hold."""
        return {
            "model": config_to_dict(self.model),
            "categories": self.categories.to_json(),
            "settings": self.settings,
            "version": self.version,
            "data_fingerprint": self.data_fingerprint,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RunDescription:
        """The inverse of `to_json`."""
        return cls(
            model=config_from_dict(values["model"]),
            categories=Categories.from_json(values["categories"]),
            settings=values["settings"],
            version=values["version"],
            data_fingerprint=values["data_fingerprint"],
        )


@dataclass(frozen=True)
class About:
    """What is to be said of one checkpoint.

    Attributes:
        run: what it is a checkpoint of.
        ap: COCO's AP of these weights, in [0, 1]; None where it was not measured.
        extra: what the training loop wants to remember.
        arrays: of each tree, dtype and shape by name, such as `float32[3,3,64,64]`.
    """

    run: RunDescription
    ap: float | None
    extra: dict[str, Any]
    arrays: dict[str, dict[str, str]]

    def to_json(self) -> dict[str, Any]:
        """Plain containers that JSON can hold."""
        return {
            "format": _FORMAT,
            "ap": self.ap,
            "extra": self.extra,
            "run": self.run.to_json(),
            "arrays": self.arrays,
        }


def differences(old: RunDescription, new: RunDescription) -> list[str]:
    """What has changed, such as `settings.optimizer.lr: 0.0001 in the run, 0.0002 now`."""
    before, now = _flat(old), _flat(new)
    return [
        f"{key}: {_shown(before, key)} in the run, {_shown(now, key)} now"
        for key in {**before, **now}
        if key not in before or key not in now or before[key] != now[key]
    ]


def _flat(description: RunDescription) -> dict[str, Any]:
    values = json.loads(json.dumps(description.to_json()))  # tuples are lists there
    values["settings"].pop("model", None)
    columns = enumerate(values.pop("categories"))
    values["categories"] = {str(i): f"{column['id']} {column['name']}" for i, column in columns}
    return {name.replace("/", "."): value for name, value in flatten(values).items()}


def _shown(values: Mapping[str, Any], key: str) -> str:
    return repr(values[key]) if key in values else "nothing"


def check_same_model(old: RunDescription, new: RunDescription, run: Path) -> None:
    """Refuse to go on with another model.

    Raises:
        ValueError: with what is different.
    """
    lines = [line for line in differences(old, new) if line.startswith(("model.", "categories."))]
    if lines:
        more = f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
        raise ValueError(
            f"{run} holds a run of another model: {'; '.join(lines[:_SHOWN])}{more}. Choose "
            "another folder, or the configuration of the run"
        )


def is_run(path: Path) -> bool:
    """Whether a folder is that of a training run."""
    return (path / CHECKPOINTS).is_dir()


def finished_steps(run: Path) -> list[int]:
    """Steps of all checkpoints that were written to their end, in ascending order."""
    folders = (run / CHECKPOINTS).glob("*") if is_run(run) else ()
    return sorted(int(f.name) for f in folders if f.name.isdecimal() and f.is_dir())


def about_file(run: Path, step: int) -> Path:
    """The JSON file of a checkpoint."""
    return run / CHECKPOINTS / str(step) / ABOUT / "metadata"  # a name that Orbax gives


def read_about(run: Path, step: int) -> About:
    """What a checkpoint says of itself.

    Raises:
        DamagedCheckpointError: if it cannot be read, or is of a later version.
    """
    file = about_file(run, step)
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if values["format"] != _FORMAT:
            raise ValueError(f"its format is {values['format']}, this version reads {_FORMAT}")
        description = RunDescription.from_json(values["run"])
        return About(description, values["ap"], values["extra"], values["arrays"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DamagedCheckpointError(
            f"{file} cannot be read ({type(error).__name__}: {error})"
        ) from error


def best_step(scores: Mapping[int, float | None], steps: Iterable[int]) -> int | None:
    """The step of the highest AP, the first of several; None where no AP is known."""
    scored = {step: ap for step in steps if (ap := scores.get(step)) is not None}
    return max(scored, key=lambda step: (scored[step], -step), default=None)


def load_run(path: Path, which: str) -> StoredDetector:
    """A detector from a training run; the averaged weights, where there are any.

    A checkpoint that is damaged is passed over, with a warning.

    Args:
        path: the run's folder.
        which: "best" by AP, or the last if AP was never measured; or "last".

    Raises:
        ValueError: if there is no checkpoint, or none that can be read.
    """
    faults: list[str] = []
    for step in _in_order(path, which, faults):
        try:
            stored = _load(path.resolve(), step)
        except DamagedCheckpointError as error:
            faults.append(str(error))
            continue
        if faults:
            warnings.warn(f"{faults[0]}; step {step} takes its place", stacklevel=3)
        return stored
    if not faults:
        raise ValueError(f"{path} is a training run that has no checkpoint yet")
    raise ValueError(f"{path} has no checkpoint that can be read: {'; '.join(faults)}")


def _in_order(path: Path, which: str, faults: list[str]) -> list[int]:
    """Steps to try; what is wrong with those that do not even say their AP goes to `faults`."""
    newest = finished_steps(path)[::-1]
    if which == "last":
        return newest
    scores = {}
    for step in newest:
        try:
            scores[step] = read_about(path, step).ap
        except DamagedCheckpointError as error:
            faults.append(str(error))
    scored = sorted((s for s in scores if scores[s] is not None), key=lambda s: (-scores[s], s))
    return scored + [step for step in scores if scores[step] is None]


def _load(path: Path, step: int) -> StoredDetector:
    about = read_about(path, step)
    weights = "average" if "average" in about.arrays else "trained"
    shapes = variable_shapes(about.run.model)
    flat = {kind: flatten(tree) for kind, tree in shapes.items()}
    folder = path / CHECKPOINTS / str(step)

    def restored(tree: str, kind: str) -> dict[str, Any]:
        names = about.arrays.get(tree, {})
        if not names:
            return {}
        unknown = sorted(set(names) - set(flat[kind]))
        if unknown:
            raise DamagedCheckpointError(f"{folder / tree} has {unknown[:5]}; the model has not")
        return restore_arrays(folder / tree, {name: flat[kind][name] for name in names})

    params = restored("fixed", "params") | restored(weights, "params")
    found = {"params": params, "frozen": restored("frozen", "frozen")}
    missing = [name for kind in flat for name in flat[kind] if name not in found[kind]]
    if missing:
        raise DamagedCheckpointError(f"{folder} lacks {missing[:5]}, which the model has")
    return StoredDetector(
        config=about.run.model,
        variables={kind: unflatten(found[kind]) for kind in shapes},
        categories=about.run.categories,
        source={
            "file": f"{path.name}/{CHECKPOINTS}/{step}",
            "step": step,
            "ap": about.ap,
            "averaged": weights == "average",
            "version": about.run.version,
        },
    )
