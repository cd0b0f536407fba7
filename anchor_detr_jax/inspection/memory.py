"""The memory that a training step needs, estimated in seconds or planned by XLA in minutes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from anchor_detr_jax.structures import Images, Targets
from anchor_detr_jax.training.run import Run
from anchor_detr_jax.training.state import TrainState
from anchor_detr_jax.training.step import step_settings

__all__ = ["MemoryNeed", "memory_estimate", "memory_plan"]

_BESIDES = 1.15
"""What XLA planned for whole steps, over state and kept activations.

R50-C5 and R50-DC5 at batch 2 of 800x1216 (4.7 and 6.9 GiB, docs/training.md) and R50-C5 at 480x640
(2.6 GiB, docs/benchmarks.md): 1.17, 1.15 and 1.15.
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
    """State and what the forward pass keeps for the backward pass, plus 15 % for all else.

    Nothing is compiled: shapes alone are traced. It says too little for `remat` on the CPU, where
    XLA orders the work as it likes.

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
    activations = _bytes(jax.eval_shape(kept, run.shapes, images))
    return MemoryNeed(hw, pictures, state, round(_BESIDES * (state + activations)), planned=False)


def memory_plan(run: Run, hw: tuple[int, int]) -> MemoryNeed:
    """What XLA plans for a step on this machine's devices; takes as long as compiling it.

    Raises:
        ValueError: if XLA does not say.
    """
    count, most = run.plan.batch_size, run.reader.max_targets
    images = Images(np.zeros((count, *hw, 3), np.uint8), np.ones((count, 2), np.int32))
    boxes, labels = np.zeros((count, most, 4), np.float32), np.zeros((count, most), np.int32)
    targets = Targets(boxes, labels, np.zeros(count, np.int32), np.zeros(count, bool))
    placement = run.placement
    state = jax.tree.map(lambda leaf: leaf.sharding, run.shapes)
    step = jax.jit(
        run.step,
        donate_argnums=0,
        in_shardings=(state, placement.batch(), placement.batch()),
        out_shardings=(state, placement.whole),
    )
    plan: Any = step.lower(run.shapes, images, targets).compile().memory_analysis()
    if plan is None:
        raise ValueError("XLA does not say how much memory a step needs on this machine")
    total = plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes
    total -= plan.alias_size_in_bytes  # the old state makes room for the new one
    return MemoryNeed(hw, _pictures(run), _bytes(run.shapes), int(total), planned=True)


def _pictures(run: Run) -> int:
    return run.plan.batch_size // run.placement.devices


def _bytes(tree: Any) -> int:
    """Of one device's part of all arrays."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape) if leaf.sharding else leaf.shape)
        * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )
