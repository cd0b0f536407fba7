"""All that a run needs, made once before its first step."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax

import anchor_detr_jax
from anchor_detr_jax.data.annotated import AnnotatedDataset
from anchor_detr_jax.data.augmentation import max_targets
from anchor_detr_jax.data.cache import CachedPictures
from anchor_detr_jax.data.pipeline import BatchReader, ReadingConfig
from anchor_detr_jax.data.plan import Plan, make_plan
from anchor_detr_jax.evaluation.sets import read_evaluation_set
from anchor_detr_jax.models.build import ModelConfig, variable_shapes
from anchor_detr_jax.training.checkpoints import RunDescription
from anchor_detr_jax.training.compiled import state_shapes
from anchor_detr_jax.training.config import TrainConfig, train_config_to_dict
from anchor_detr_jax.training.optimizer import (
    Schedule,
    make_optimizer,
    make_schedules,
    parameter_groups,
    total_steps,
)
from anchor_detr_jax.training.sharding import Placement, make_placement
from anchor_detr_jax.training.start import first_weights, model_for, settled, training_set
from anchor_detr_jax.training.state import TrainState, start_state
from anchor_detr_jax.training.step import TrainStep, make_train_step, step_settings
from anchor_detr_jax.training.validation import Validation
from anchor_detr_jax.variable_names import flatten
from anchor_detr_jax.whole_files import file_written_whole

__all__ = ["Run", "prepare_run", "write_settings"]


@dataclass(frozen=True)
class Run:
    """A run that is about to start or to go on.

    Attributes:
        config: what was asked for, and what followed from the data and the checkpoint.
        folder: where everything is written.
        model: shape of the model, with the data's number of classes.
        dataset: what is learned from.
        plan: which of it, when.
        reader: makes this host's part of the batch of a step.
        placement: where arrays lie.
        schedules: learning rates by group.
        step: one training step.
        shapes: of the state, with their places.
        start: makes the first state, and says where its weights came from.
        validation: measures AP; None where there is nothing to measure it on.
        description: what is kept with checkpoints.
    """

    config: TrainConfig
    folder: Path
    model: ModelConfig
    dataset: AnnotatedDataset
    plan: Plan
    reader: BatchReader
    placement: Placement
    schedules: dict[str, Schedule]
    step: TrainStep
    shapes: TrainState
    start: Callable[[], tuple[TrainState, list[str]]]
    validation: Validation | None
    description: RunDescription

    @property
    def total_steps(self) -> int:
        """How long the run is."""
        return total_steps(self.config.schedule, self.plan.steps_per_epoch)

    @property
    def reading(self) -> ReadingConfig:
        """How pictures are read."""
        data = self.config.data
        return ReadingConfig(data.workers, data.threads, data.prefetch)


def prepare_run(config: TrainConfig, folder: Path) -> Run:
    """Read the data's annotations, plan the batches, and make what is to be compiled.

    Raises:
        ValueError: for settings that do not fit the data, the devices or each other.
        OSError: if a file cannot be read.
    """
    config = settled(config, folder)
    data = config.data
    placement = make_placement(fsdp=config.fsdp, batch_size=data.batch_size)
    dataset = training_set(data)
    plan = make_plan(
        dataset.hw,
        batch_size=data.batch_size,
        augmentation=config.augmentation,
        seed=config.seed,
        buckets=data.buckets,
    )
    model = model_for(config.model, dataset, config.augmentation)
    groups = parameter_groups(flatten(variable_shapes(model)["params"]), config.optimizer)
    schedules = make_schedules(
        config.optimizer, config.schedule, steps_per_epoch=plan.steps_per_epoch
    )
    optimizer = make_optimizer(config.optimizer, schedules, groups)
    module, settings = step_settings(config, model)
    begin = partial(
        start_state, optimizer=optimizer, groups=groups, average=config.optimizer.ema > 0
    )
    shapes = state_shapes(jax.eval_shape(begin, variable_shapes(model)), placement)

    def start() -> tuple[TrainState, list[str]]:
        first = first_weights(config, model, dataset.categories)
        places = jax.tree.map(lambda leaf: leaf.sharding, shapes)
        return jax.jit(begin, out_shardings=places)(jax.device_get(first.variables)), first.notes

    return Run(
        config=config,
        folder=folder,
        model=model,
        dataset=dataset,
        plan=plan,
        reader=_reader(config, dataset, plan, model),
        placement=placement,
        schedules=schedules,
        step=make_train_step(module, optimizer, placement, settings),
        shapes=shapes,
        start=start,
        validation=_validation(config, model, dataset, placement),
        description=RunDescription(
            model=model,
            categories=dataset.categories,
            settings=train_config_to_dict(config),
            version=anchor_detr_jax.__version__,
            data_fingerprint=dataset.fingerprint,
        ),
    )


def _reader(
    config: TrainConfig, dataset: AnnotatedDataset, plan: Plan, model: ModelConfig
) -> BatchReader:
    limit = int(config.data.cache_gb * 1e9)
    if limit:
        pictures = CachedPictures(dataset.pictures, limit)
        dataset = dataclasses.replace(dataset, pictures=pictures)
    most = min(max_targets(dataset, config.augmentation), model.num_queries)
    return BatchReader(
        dataset,
        plan,
        most,
        on_bad=config.data.on_bad,
        host=jax.process_index(),
        hosts=jax.process_count(),
    )


def _validation(
    config: TrainConfig, model: ModelConfig, dataset: AnnotatedDataset, placement: Placement
) -> Validation | None:
    if not config.data.val_split:
        return None
    return Validation.of(
        read_evaluation_set(
            config.data.root,
            config.data.val_split,
            columns=dataset.categories,
            on_bad=config.data.on_bad,
        ),
        model,
        dataset.categories,
        config.evaluation,
        placement=placement,
        bfloat16=config.precision == "bfloat16",
        skip=config.data.on_bad == "skip",
    )


def write_settings(run: Run) -> None:
    """The run's settings as `config.json`, and what was skipped as `skipped.txt`."""
    run.folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(run.description.settings, indent=2)
    with file_written_whole(run.folder / "config.json") as file:
        file.write(f"{text}\n".encode())
    if run.dataset.faults:
        faults = "".join(f"{fault}\n" for fault in run.dataset.faults)
        (run.folder / "skipped.txt").write_text(faults, encoding="utf-8")
