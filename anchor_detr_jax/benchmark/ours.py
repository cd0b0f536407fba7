"""This package's side: detection as `Detector` does it, and the training step."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from anchor_detr_jax.benchmark.tasks import (
    Program,
    Task,
    made_images,
    made_targets,
    made_variables,
)
from anchor_detr_jax.host_memory import give_back_freed_memory
from anchor_detr_jax.models.build import Model, ModelConfig, make_model
from anchor_detr_jax.models.inference import infer, inference_model, inference_variables
from anchor_detr_jax.postprocess import best_detections
from anchor_detr_jax.programs import detect
from anchor_detr_jax.structures import Images, Outputs, RankedDetections
from anchor_detr_jax.training.compiled import (
    Compilation,
    CompiledSteps,
    planned_memory,
    state_shapes,
)
from anchor_detr_jax.training.optimizer import make_optimizer, make_schedules, parameter_groups
from anchor_detr_jax.training.sharding import make_placement
from anchor_detr_jax.training.state import TrainState, start_state
from anchor_detr_jax.training.step import StepSettings, make_train_step, step_settings
from anchor_detr_jax.variable_names import flatten

__all__ = ["Inference", "Training", "load_detection", "load_step", "ranked"]

_COUNT = 100
"""Detections of an image, as in COCO's evaluation."""


class Inference(NamedTuple):
    """A model as it infers."""

    model: Model
    variables: Any
    products: str
    """The precision of matrix products."""

    @classmethod
    def load(cls, task: Task) -> Inference:
        """With the trained model's variables, as `Detector` holds them."""
        dtype = jnp.bfloat16 if task.precision == "bfloat16" else None
        model = make_model(task.config.model, dtype, rcda_impl=task.config.rcda_impl)
        products = "tensorfloat32" if task.precision == "tensorfloat32" else "float32"
        variables = jax.device_put(made_variables(task.config.model))
        return cls(inference_model(model), variables, products)

    def prepared(self) -> Inference:
        """With the variables that the model runs with."""
        return self._replace(variables=inference_variables(self.model, self.variables))

    def apply(self, variables: Any, *arguments: Any, **how: Any) -> Any:
        """The module's `apply`, in this precision."""
        with jax.default_matmul_precision(self.products):
            return self.model.apply(variables, *arguments, **how)


class Training(NamedTuple):
    """A model as it is trained."""

    model: Model
    settings: StepSettings
    optimizer: optax.GradientTransformation
    state: TrainState

    @classmethod
    def load(cls, task: Task) -> Training:
        """With the configuration's recipe."""
        config = task.config
        model, settings = step_settings(config, config.model)
        variables = made_variables(config.model)
        groups = parameter_groups(flatten(variables["params"]), config.optimizer)
        schedules = make_schedules(config.optimizer, config.schedule, steps_per_epoch=1000)
        optimizer = make_optimizer(config.optimizer, schedules, groups)
        return cls(model, settings, optimizer, start_state(variables, optimizer, groups))


def load_detection(task: Task) -> Callable[[], Program]:
    """A model that detects, on one device; called, it is prepared and compiled."""
    inference = Inference.load(task)
    columns, count = _columns_and_count(task.config.model)

    def compiled() -> Program:
        model, prepared, precision = inference.prepared()
        # As a list, of which a compiled program needs to know nothing.
        variables, structure = jax.tree.flatten(prepared)

        @jax.jit
        def found(variables: list[Any], images: Images) -> RankedDetections:
            whole, hw = jax.tree.unflatten(structure, variables), jnp.asarray(images.valid_hw)
            forward = partial(infer, model, precision=precision)
            return detect(forward, whole, images, hw, columns, count=count)

        on_host = made_images(task)
        lowered = found.lower(variables, on_host)
        started = time.perf_counter()
        program = lowered.compile()
        seconds = time.perf_counter() - started
        del lowered
        give_back_freed_memory()  # as `DetectionPrograms` does
        on_device = jax.device_put(on_host)

        def repeat(times: int) -> None:
            jax.block_until_ready([program(variables, on_device) for _ in range(times)])

        return Program(
            run=lambda images: jax.device_get(program(variables, images)),
            on_device=repeat,
            compile_s=seconds,
            count=lambda: _multiply_adds(found.lower(variables, on_host)),
            planned_bytes=planned_memory(program),
        )

    return compiled


def load_step(task: Task) -> Callable[[], Program]:
    """A training step over all devices, as `scripts/train.py` does it; called, it is compiled."""
    training = Training.load(task)
    placement = make_placement(batch_size=task.batch_size)
    step = make_train_step(training.model, training.optimizer, placement, training.settings)
    shapes = jax.eval_shape(lambda: training.state)
    images, targets = made_images(task), made_targets(task)
    done: list[Compilation] = []
    steps = CompiledSteps(step, placement, state_shapes(shapes, placement), report=done.append)
    state = training.state

    def run() -> None:
        nonlocal state
        state, metrics = steps(state, images, targets)
        jax.block_until_ready((state, metrics))

    def compiled() -> Program:
        run()
        return Program(
            run,
            compile_s=done[0].seconds,
            count=lambda: _multiply_adds(jax.jit(step).lower(shapes, images, targets)),
            planned_bytes=done[0].memory,
        )

    return compiled


def ranked(outputs: Outputs, images: Images, config: ModelConfig) -> RankedDetections:
    """The best detections of a batch, of all classes, in pixels of its own images."""
    columns, count = _columns_and_count(config)
    return best_detections(outputs, jnp.asarray(images.valid_hw), columns, count=count)


def _columns_and_count(config: ModelConfig) -> tuple[jax.Array, int]:
    """All classes, and how many detections there are to find."""
    columns = jnp.ones(config.num_classes, bool)
    return columns, min(_COUNT, config.num_queries * config.num_classes)


def _multiply_adds(lowered: Any) -> float | None:
    """As XLA counts a program before it optimises: afterwards libraries' calls count for nothing.

    XLA counts a multiplication and an addition as two, and all else that is done with a number as
    one.
    """
    cost = lowered.cost_analysis()
    return cost["flops"] / 2 if cost and "flops" in cost else None
