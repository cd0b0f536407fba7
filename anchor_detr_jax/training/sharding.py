"""Where the arrays of a run lie: a mesh of devices, and what is cut along which of its axes.

Every device works on its own images. Parameters and optimizer state stand whole on each device, or,
along the axis `fsdp`, each of that many devices keeps a part of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

__all__ = ["Placement", "make_placement"]

T = TypeVar("T")

_BATCH = ("data", "fsdp")
"""Images are cut along both axes."""

_SMALLEST = 2**14
"""Arrays of fewer numbers stand whole on every device: cutting them saves nothing."""


@dataclass(frozen=True)
class Placement:
    """A mesh, and what lies where on it."""

    mesh: Mesh

    @property
    def devices(self) -> int:
        """How many there are, over all hosts."""
        return self.mesh.size

    @property
    def whole(self) -> NamedSharding:
        """Everything on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    def batch(self, axis: int = 0) -> NamedSharding:
        """The axis of images is cut."""
        return NamedSharding(self.mesh, self.batch_spec(axis))

    def batch_spec(self, axis: int = 0) -> PartitionSpec:
        """The same, as a specification."""
        return PartitionSpec(*[None] * axis, _BATCH)

    def state(self, shapes: T) -> T:
        """A sharding for each array of a state: its longest axis that can be is cut for `fsdp`."""
        return jax.tree.map(lambda leaf: NamedSharding(self.mesh, self._cut(leaf.shape)), shapes)

    def _cut(self, shape: tuple[int, ...]) -> PartitionSpec:
        parts = self.mesh.shape["fsdp"]
        if parts == 1 or np.prod(shape) < _SMALLEST:
            return PartitionSpec()
        axes = [axis for axis, length in enumerate(shape) if length % parts == 0]
        if not axes:
            return PartitionSpec()
        longest = max(axes, key=lambda axis: shape[axis])
        return PartitionSpec(*[None] * longest, "fsdp")

    def put_batch(self, local: T) -> T:
        """This host's part of a batch, each image on its device."""
        sharding = self.batch()

        def put(array: Any) -> jax.Array:
            return jax.make_array_from_process_local_data(sharding, np.asarray(array))

        return jax.tree.map(put, local)


def make_placement(*, fsdp: int = 1, batch_size: int | None = None) -> Placement:
    """A mesh over all devices of all hosts.

    Args:
        fsdp: devices that share one copy of the parameters.
        batch_size: to be cut over the devices; None: none.

    Raises:
        ValueError: if the devices do not divide the batch, or `fsdp` the devices.
    """
    devices = jax.devices()
    if fsdp < 1 or len(devices) % fsdp:
        raise ValueError(f"fsdp is {fsdp}, and must divide the number of devices, {len(devices)}")
    if batch_size is not None and batch_size % len(devices):
        raise ValueError(
            f"batch_size is {batch_size}, and must be a multiple of the number of devices, "
            f"{len(devices)}"
        )
    return Placement(Mesh(np.array(devices).reshape(-1, fsdp), _BATCH))
