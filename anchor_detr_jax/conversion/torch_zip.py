"""PyTorch's file format since 1.6.

A zip archive, not compressed, with the pickled object in `<root>/data.pkl` and each storage's raw
numbers in `<root>/data/<key>`.
"""

from __future__ import annotations

import zipfile
from typing import Any

import numpy as np

from anchor_detr_jax.conversion.safe_pickle import safe_loads
from anchor_detr_jax.conversion.torch_objects import NAMES, Storage

__all__ = ["TorchZip"]


class TorchZip:
    """An open archive.

    Attributes:
        content: the object in it, with `StoredTensor`s for tensors.
    """

    def __init__(self, archive: zipfile.ZipFile) -> None:
        pickles = [n for n in archive.namelist() if n.count("/") == 1 and n.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError(
                f"is a zip archive with {len(pickles)} data.pkl in it, where torch.save writes one"
            )
        self._archive = archive
        self._root = pickles[0].removesuffix("data.pkl")
        order = f"{self._root}byteorder"
        if order in archive.namelist() and self._read(archive.getinfo(order)) != b"little":
            raise ValueError("was written on a big-endian machine, which is not supported")
        pickled = self._read(archive.getinfo(pickles[0]))
        self.content = safe_loads(pickled, NAMES, self._storage)

    def raw(self, storage: Storage) -> bytes:
        """The bytes of a storage."""
        return self._read(self._entry(storage.key))

    def _entry(self, key: str) -> zipfile.ZipInfo:
        return self._archive.getinfo(f"{self._root}data/{key}")

    def _read(self, entry: zipfile.ZipInfo) -> bytes:
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"has a compressed entry, {entry.filename}; torch.save writes none")
        return self._archive.read(entry)

    def _storage(self, identity: Any) -> Storage:
        """What stands for a storage in the pickle."""
        kind, dtype, key, _, count = identity
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise ValueError(f"has a reference to {kind!r} where a storage belongs")
        storage, entry = Storage(key, dtype, count), self._entry(key)
        if storage.nbytes != entry.file_size:
            raise ValueError(
                f"claims {count} numbers of {dtype} in {entry.filename}, which holds "
                f"{entry.file_size} bytes"
            )
        return storage
