"""PyTorch's file format before 1.6.

Five pickles one after another (a magic number, the protocol, the writer's machine, the object, the
keys of the storages), then each storage: its count as eight bytes, and its raw numbers.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from anchor_detr_jax.conversion.safe_pickle import safe_load
from anchor_detr_jax.conversion.torch_objects import NAMES, Storage

__all__ = ["MAGIC", "TorchLegacy"]

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
MAGIC = b"\x80\x02\x8a\x0a" + _MAGIC_NUMBER.to_bytes(10, "little") + b"."
"""How such a file begins: the pickled magic number."""


class TorchLegacy:
    """A file in memory.

    Attributes:
        content: the object in it, with `StoredTensor`s for tensors.
    """

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        stream = io.BytesIO(data)
        self._claimed: dict[str, Storage] = {}
        _, protocol, machine = (safe_load(stream, {}, _nothing_is_stored) for _ in range(3))
        if protocol != 1001 or not isinstance(machine, dict) or not machine.get("little_endian"):
            raise ValueError(f"is of protocol {protocol} on {machine}, which is not supported")
        self.content = safe_load(stream, NAMES, self._storage)
        keys = safe_load(stream, {}, _nothing_is_stored)
        if not isinstance(keys, list) or set(map(str, keys)) != self._claimed.keys():
            raise ValueError("does not hold the storages that its tensors are in")
        self._starts = self._find(map(str, keys), stream.tell())

    def raw(self, storage: Storage) -> memoryview:
        """The bytes of a storage."""
        start = self._starts[storage.key]
        return self._data[start : start + storage.nbytes]

    def _storage(self, identity: Any) -> Storage:
        """What stands for a storage in the pickle."""
        kind, dtype, key, _, count, view_of = identity
        if kind != "storage" or not isinstance(dtype, np.dtype) or view_of is not None:
            raise ValueError("has a reference to something else where a storage belongs")
        if type(count) is not int or count < 0:
            raise ValueError(f"claims a storage of {count} numbers")
        storage = Storage(str(key), dtype, count)
        if self._claimed.setdefault(storage.key, storage) != storage:
            raise ValueError(f"describes storage {key} in two ways")
        return storage

    def _find(self, keys, position: int) -> dict[str, int]:
        """Where each storage begins."""
        starts = {}
        for key in keys:
            storage = self._claimed[key]
            count = int.from_bytes(self._data[position : position + 8], "little")
            starts[key] = position + 8
            position = starts[key] + storage.nbytes
            if count != storage.count or position > len(self._data):
                raise ValueError(
                    f"claims {storage.count} numbers of {storage.dtype} in storage {key}, "
                    "which it does not hold; it may be truncated"
                )
        return starts


def _nothing_is_stored(_: Any) -> None:
    raise ValueError("has a storage where none belongs")
