"""The memory that a training step needs, estimated in seconds or planned by XLA in minutes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.extend
import numpy as np

from anchor_detr_jax.structures import Images, Targets
from anchor_detr_jax.training.compiled import jitted_step, planned_memory
from anchor_detr_jax.training.run import Run
from anchor_detr_jax.training.state import TrainState
from anchor_detr_jax.training.step import step_settings

__all__ = ["MemoryNeed", "memory_estimate", "memory_plan"]

_BESIDES = {"none": 1.15, "cheap": 1.15, "layers": 1.45}
"""What XLA planned for whole steps, over state and kept activations; the most of those below.

Batch 2, float32, on the CPU, "none", "cheap" and "layers": R50-DC5 at 800x1216 1.16, 1.08 and 1.48;
R50-C5 at 480x640 1.03, 0.88 and 1.09, and "cheap" at 800x1216 1.03. So the estimate is rarely too
low, and for small maps up to a third too high.
"""


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes of one device for a training step.

    Attributes:
        hw: height and width of the batch,
        pictures: and how many this device has of it.
        state: parameters, optimizer state and averages.
        total: everything.
        planned: by XLA for this machine's devices, and not estimated.
    """

    hw: tuple[int, int]
    pictures: int
    state: int
    total: int
    planned: bool

    def __str__(self) -> str:
        height, width = self.hw
        how = "as XLA plans it for this machine" if self.planned else "estimated"
        return (
            f"{self.total / 2**30:.1f} GiB for {self.pictures} pictures of {width}x{height} "
            f"({how}; {self.state / 2**30:.2f} GiB of it parameters and optimizer)"
        )


def memory_estimate(run: Run, hw: tuple[int, int]) -> MemoryNeed:
    """State and what the forward pass keeps for the backward pass, and a share for all else.

    Nothing is compiled: shapes alone are traced.

    Args:
        run: of this model and batch, on these devices.
        hw: height and width of a batch.
    """
    pictures, state = _pictures(run), _bytes(run.shapes)
    at_once = -(-pictures // run.config.optimizer.accumulate)
    module, _ = step_settings(run.config, run.model)

    def kept(state: TrainState, images: Images) -> Any:
        def forward(trained: Any) -> Any:
            keys = {"dropout": jax.random.key(0)}
            return module.apply(state.variables(trained), images, train=True, rngs=keys)

        return jax.vjp(forward, state.trained)[1]  # holds what the backward pass needs

    images = Images(np.zeros((at_once, *hw, 3), np.uint8), np.zeros((at_once, 2), np.int32))
    activations = _bytes_that_follow(jax.make_jaxpr(kept)(run.shapes, images).jaxpr, 2)
    total = round(_BESIDES[run.config.remat] * (state + activations))
    return MemoryNeed(hw, pictures, state, total, planned=False)


def memory_plan(run: Run, hw: tuple[int, int]) -> MemoryNeed:
    """What XLA plans for a step on this machine's devices; takes as long as compiling it.

    Raises:
        ValueError: if XLA does not say.
    """
    count, most = run.plan.batch_size, run.reader.max_targets
    images = Images(np.zeros((count, *hw, 3), np.uint8), np.ones((count, 2), np.int32))
    boxes, labels = np.zeros((count, most, 4), np.float32), np.zeros((count, most), np.int32)
    targets = Targets(boxes, labels, np.zeros(count, np.int32), np.zeros(count, bool))
    step = jitted_step(run.step, run.placement, run.shapes)
    total = planned_memory(step.lower(run.shapes, images, targets).compile())
    if total is None:
        raise ValueError("XLA does not say how much memory a step needs on this machine")
    return MemoryNeed(hw, _pictures(run), _bytes(run.shapes), total, planned=True)


def _bytes_that_follow(jaxpr: Any, count: int) -> int:
    """Of all that a function computes from its last `count` arguments and gives back.

    What follows from parameters alone is theirs in another shape, or small.
    """
    follow = set(jaxpr.invars[-count:])
    for equation in jaxpr.eqns:
        if any(isinstance(v, jax.extend.core.Var) and v in follow for v in equation.invars):
            follow.update(equation.outvars)
    outcome = {value for value in jaxpr.outvars if isinstance(value, jax.extend.core.Var)}
    found: list[Any] = [v.aval for v in (outcome & follow).difference(jaxpr.invars)]
    return sum(math.prod(array.shape) * array.dtype.itemsize for array in found)


def _pictures(run: Run) -> int:
    return run.plan.batch_size // run.placement.devices


def _bytes(tree: Any) -> int:
    """Of one device's part of all arrays."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape) if leaf.sharding else leaf.shape)
        * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )
