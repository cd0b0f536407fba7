"""This package's side: detection as `Detector` does it, and the training step."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from anchor_detr_jax.benchmark.tasks import Program, Task, made_images, made_targets
from anchor_detr_jax.models.build import Model, ModelConfig, init_variables, make_model
from anchor_detr_jax.models.inference import inference_model, inference_variables
from anchor_detr_jax.postprocess import best_detections
from anchor_detr_jax.structures import Images, Outputs, RankedDetections
from anchor_detr_jax.training.compiled import Compilation, CompiledSteps, state_shapes
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
        """With weights as training starts."""
        dtype = jnp.bfloat16 if task.precision == "bfloat16" else None
        model = make_model(task.config.model, dtype, rcda_impl=task.config.rcda_impl)
        variables = inference_variables(model, jax.device_put(_variables(task.config.model)))
        products = "tensorfloat32" if task.precision == "tensorfloat32" else "float32"
        in_parts = jax.default_backend() == "cpu"  # as `DetectionPrograms` has it
        return cls(inference_model(model, in_parts=in_parts), variables, products)

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
        """With weights as training starts, and the configuration's recipe."""
        config = task.config
        model, settings = step_settings(config, config.model)
        variables = _variables(config.model)
        groups = parameter_groups(flatten(variables["params"]), config.optimizer)
        schedules = make_schedules(config.optimizer, config.schedule, steps_per_epoch=1000)
        optimizer = make_optimizer(config.optimizer, schedules, groups)
        return cls(model, settings, optimizer, start_state(variables, optimizer, groups))


def load_detection(task: Task) -> Callable[[], Program]:
    """A model that detects, on one device; called, it is compiled."""
    inference = Inference.load(task)
    # As a list, of which a compiled program needs to know nothing.
    variables, structure = jax.tree.flatten(inference.variables)

    def detect(variables: list[Any], images: Images) -> RankedDetections:
        whole = jax.tree.unflatten(structure, variables)
        return ranked(inference.apply(whole, images, last_layer_only=True), images)

    def compiled() -> Program:
        on_host = made_images(task)
        lowered = jax.jit(detect).lower(variables, on_host)
        started = time.perf_counter()
        program = lowered.compile()
        seconds = time.perf_counter() - started
        on_device = jax.device_put(on_host)

        def repeat(times: int) -> None:
            jax.block_until_ready([program(variables, on_device) for _ in range(times)])

        return Program(
            run=lambda images: jax.device_get(program(variables, images)),
            on_device=repeat,
            compile_s=seconds,
            count=lambda: _multiply_adds(lowered),
            planned_bytes=_planned_bytes(program),
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


def ranked(outputs: Outputs, images: Images) -> RankedDetections:
    """The best detections of a batch, of all classes, in pixels of its own images."""
    _, _, queries, classes = outputs.logits.shape
    everything = jnp.ones(classes, bool)
    count = min(_COUNT, queries * classes)
    return best_detections(outputs, jnp.asarray(images.valid_hw), everything, count=count)


@functools.cache
def _variables(config: ModelConfig) -> Mapping[str, Any]:
    return jax.device_get(init_variables(make_model(config), jax.random.key(0)))


def _multiply_adds(lowered: Any) -> float | None:
    """As XLA counts a program before it optimises: afterwards libraries' calls count for nothing.

    XLA counts a multiplication and an addition as two, and all else that is done with a number as
    one.
    """
    cost = lowered.cost_analysis()
    return cost["flops"] / 2 if cost and "flops" in cost else None


def _planned_bytes(program: Any) -> int | None:
    try:
        plan = program.memory_analysis()
    except (NotImplementedError, RuntimeError):
        return None
    return plan and int(plan.argument_size_in_bytes + plan.temp_size_in_bytes)
