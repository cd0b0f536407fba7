"""What the pickles of PyTorch's checkpoints may hold, and what we make of it."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from anchor_detr_jax.conversion.safe_pickle import Builder, Namespace

__all__ = ["NAMES", "Storage", "StoredTensor", "view"]


@dataclass(frozen=True)
class Storage:
    """A run of numbers in a file, which tensors are views of."""

    key: str
    dtype: np.dtype
    count: int

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in the file."""
        return self.count * self.dtype.itemsize


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as its pickle describes it; strides and offset in numbers."""

    storage: Storage
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int


def view(tensor: StoredTensor, raw: bytes | memoryview) -> np.ndarray:
    """The tensor as a read-only view of its storage's bytes."""
    dtype = tensor.storage.dtype
    numbers = np.frombuffer(raw, dtype)[tensor.offset :]
    strides = [step * dtype.itemsize for step in tensor.strides]
    return np.lib.stride_tricks.as_strided(numbers, tensor.shape, strides, writeable=False)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> StoredTensor:
    """In place of `torch._utils._rebuild_tensor_v2`; checks that the tensor lies in its storage."""
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, Storage) or not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError("has a tensor whose description makes no sense")
    size = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if size > storage.count or (size and last >= storage.count):
        raise ValueError(
            f"has a tensor of shape {list(shape)} that reaches outside its storage of "
            f"{storage.count} numbers"
        )
    return StoredTensor(storage, tuple(shape), tuple(strides), offset)


_STORAGE_TYPES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}

NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): Builder(OrderedDict),
    ("argparse", "Namespace"): Builder(Namespace),
    ("torch", "Size"): Builder(tuple),
    ("torch._utils", "_rebuild_tensor"): Builder(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): Builder(_tensor),
    ("torch._utils", "_rebuild_parameter"): Builder(lambda tensor, *_: tensor),
    **{("torch", name): np.dtype(dtype) for name, dtype in _STORAGE_TYPES.items()},
}
"""All names that may occur, for `safe_pickle`."""
