"""What a run starts from: its data, its model and its first weights."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from anchor_detr_jax.checkpoint import DamagedCheckpointError, load_backbone_folder
from anchor_detr_jax.data.annotated import AnnotatedDataset
from anchor_detr_jax.data.augmentation import AugmentationConfig
from anchor_detr_jax.data.categories import Categories, coco_columns
from anchor_detr_jax.data.formats.layout import split_names
from anchor_detr_jax.data.formats.sources import read_training_set, with_boxes_only
from anchor_detr_jax.data.formats.splits import chosen_splits
from anchor_detr_jax.data.mosaic import TILES
from anchor_detr_jax.detector import Detector
from anchor_detr_jax.loading import load
from anchor_detr_jax.models.build import (
    ModelConfig,
    config_to_dict,
    draw_variables,
    init_variables,
    make_model,
)
from anchor_detr_jax.run_folder import finished_steps, read_about
from anchor_detr_jax.training.config import DataConfig, TrainConfig
from anchor_detr_jax.variable_names import flatten, unflatten

__all__ = ["FirstWeights", "first_weights", "model_for", "settled", "training_set"]

_CLASS_HEAD = ("class_head/kernel", "class_head/bias")
"""The parameters whose last axis is the categories."""


def settled(config: TrainConfig, folder: Path) -> TrainConfig:
    """The settings with what they leave to the data and to the checkpoint filled in.

    Args:
        config: `data` may say "auto", and `model_from_init` whose model it is.
        folder: the run's; a run that goes on has its own model, and needs `init` no more.

    Raises:
        ValueError: if there is no data set, no split to learn from, or no model.
        OSError: if a file cannot be read.
    """
    data = config.data
    if not data.root:
        raise ValueError("data.root is empty; say --config.data.root=path/to/data")
    train, val = chosen_splits(
        split_names(data.root),
        data.train_split,
        data.val_split,
        fraction=data.val_fraction,
        seed=data.split_seed,
    )
    data = dataclasses.replace(data, train_split=train, val_split=val)
    model = _model_of(config.init, folder) if config.model_from_init else config.model
    return dataclasses.replace(config, data=data, model=model)


def _model_of(init: str, folder: Path) -> ModelConfig:
    """The model of a run that goes on, or of the checkpoint that one begins with."""
    for step in reversed(finished_steps(folder)):
        with contextlib.suppress(DamagedCheckpointError):
            return read_about(folder, step).run.model
    if not init:
        raise ValueError(
            "init is empty, and the model comes from it; say --config.init=, a detector's folder, "
            "a training run or a .pth"
        )
    return load(init).config


def training_set(config: DataConfig) -> AnnotatedDataset:
    """The data to learn from.

    Raises:
        ValueError: if there is none, or it has faults, and `data.on_bad` is to stop at these.
        OSError: if a file cannot be read.
    """
    dataset = read_training_set(
        config.root,
        config.train_split,
        columns=coco_columns() if config.categories == "coco" else None,
        on_bad=config.on_bad,
    )
    if not len(dataset.labels):
        raise ValueError(
            f"{config.root} has no box in {config.train_split} to learn from; YOLO's labels of "
            "images/a.jpg are in labels/a.txt, or beside it"
        )
    return dataset if config.keep_empty else with_boxes_only(dataset)


def model_for(
    config: ModelConfig, dataset: AnnotatedDataset, augmentation: AugmentationConfig
) -> ModelConfig:
    """The model with as many classes as the data has, and queries enough for it.

    Raises:
        ValueError: if a picture has more boxes than there are queries.
    """
    tiles = TILES if augmentation.mosaic > 0 else 1
    most = tiles * int(dataset.counts.max(initial=0))
    if most > config.num_queries:
        name = dataset.pictures.name(int(dataset.counts.argmax()))
        raise ValueError(
            f"{name} has {most // tiles} boxes{f', a mosaic up to {most}' if tiles > 1 else ''}, "
            f"more than the model's {config.num_queries} queries; raise model.num_queries (Anchor "
            "DETR: model.num_anchors or model.num_patterns)"
        )
    return dataclasses.replace(config, num_classes=len(dataset.categories))


@dataclass(frozen=True)
class FirstWeights:
    """Weights before the first step.

    Attributes:
        variables: `params` and `frozen`.
        notes: what was taken from where, and what is new; for people.
    """

    variables: Mapping[str, Any]
    notes: list[str]


def first_weights(config: TrainConfig, model: ModelConfig, categories: Categories) -> FirstWeights:
    """New weights by the seed, in place of which a backbone or a whole detector may be loaded.

    Args:
        config: `init`, `backbone_init`, `seed`.
        model: as by `model_for`.
        categories: what its columns stand for.

    Raises:
        ValueError: if what is to be loaded does not fit the model; the differences are named.
        OSError: if it cannot be read.
    """
    if config.init and config.backbone_init:
        raise ValueError("init and backbone_init are both given; init brings its own backbone")
    if config.init:
        return _from_detector(config, model, categories)
    new = init_variables(make_model(model), jax.random.key(config.seed))
    if config.backbone_init:
        return _with_backbone(config.backbone_init, new, model)
    notes = [f"all weights are new, by seed {config.seed}"]
    if model.backbone.norm == "frozen_batch":
        notes.append(
            "warning: the backbone is new too, and its batch norms never learn; a pretrained one "
            "(backbone_init) or backbone.norm='group' learns, this hardly does"
        )
    return FirstWeights(new, notes)


def _with_backbone(path: str, new: Mapping[str, Any], model: ModelConfig) -> FirstWeights:
    stored = load_backbone_folder(path)
    # Dilation changes no parameter: one file serves C5 and DC5.
    ours = dataclasses.replace(model.backbone, dilation=stored.config.dilation)
    if stored.config != ours:
        raise ValueError(f"{path} holds the backbone {stored.config}, the model has {ours}")
    variables = {
        kind: {**new[kind], "backbone": stored.variables[kind]["backbone"]} for kind in new
    }
    return FirstWeights(variables, [f"backbone from {path}", "all other weights are new"])


def _from_detector(config: TrainConfig, model: ModelConfig, categories: Categories) -> FirstWeights:
    path = config.init
    # A file may not say whether it is C5 or DC5; a folder always does.
    dilation = None if Path(path).is_dir() else model.backbone.dilation
    detector = load(path, dilation=dilation)
    _check_same(detector.config, model, path)
    notes = [f"weights from {path}"]
    if detector.categories == categories:
        return FirstWeights(detector.variables, notes)
    params = flatten(detector.variables["params"])
    kept = _same_names(detector, categories)
    for name, new in _new_class_head(model, config.seed).items():
        head, old = np.array(new), np.asarray(params[name])
        if kept:
            columns, from_columns = map(list, zip(*kept, strict=True))
            head[..., columns] = old[..., from_columns]
        # Such as "no object", which stays what it was.
        head[..., model.num_classes :] = old[..., detector.config.num_classes :]
        params[name] = jnp.asarray(head)
    names = ", ".join(str(categories.names[column]) for column, _ in kept)
    notes.append(
        f"new: {' and '.join(_CLASS_HEAD)} ({detector.config.num_classes} columns there, "
        f"{len(categories)} here)" + (f", but for the columns of {names}" if kept else "")
    )
    return FirstWeights({**detector.variables, "params": unflatten(params)}, notes)


def _new_class_head(model: ModelConfig, seed: int) -> dict[str, jax.Array]:
    """As `init_variables` makes it, without all that is not needed: compiling that takes long."""
    module = make_model(model)

    def head(key: jax.Array) -> dict[str, jax.Array]:
        params = flatten(draw_variables(module, key)["params"])
        return {name: params[name] for name in _CLASS_HEAD}

    return jax.jit(head)(jax.random.key(seed))


def _same_names(detector: Detector, categories: Categories) -> list[tuple[int, int]]:
    """Columns here and there that stand for categories of one name.

    `Traffic_Light` and `traffic light` are one name.
    """
    there: dict[str, int] = {}
    for column, name in enumerate(detector.categories.names):
        if name is not None:
            there.setdefault(_plain(name), column)
    return [
        (column, there[_plain(name)])
        for column, name in enumerate(categories.names)
        if name is not None and _plain(name) in there
    ]


def _plain(name: str) -> str:
    return " ".join(re.sub(r"[_-]", " ", name).casefold().split())


def _check_same(theirs: ModelConfig, ours: ModelConfig, path: str) -> None:
    """But for the number of classes and dropout, which leave the other weights what they are."""
    there, here = (
        flatten({**config_to_dict(config), "num_classes": 0, "dropout": 0.0})
        for config in (theirs, ours)
    )
    different = [f"{name}: {there[name]} there, {here[name]} here"
                 for name in here if there.get(name) != here[name]]  # fmt: skip
    if different:
        raise ValueError(f"the model of {path} differs in {'; '.join(different)}")
