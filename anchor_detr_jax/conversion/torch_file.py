"""PyTorch's checkpoint files, read without PyTorch and without running what is in them.

The format: a zip archive, not compressed, with the pickled object in `<root>/data.pkl` and each
storage's raw numbers in `<root>/data/<key>`.
"""

from __future__ import annotations

import math
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from anchor_detr_jax.conversion.safe_pickle import Builder, Namespace, safe_loads

__all__ = ["STORAGE_TYPES", "TorchCheckpoint", "TorchFileError", "read_torch_file"]

STORAGE_TYPES = {
    "FloatStorage": np.dtype(np.float32),
    "DoubleStorage": np.dtype(np.float64),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}


class TorchFileError(ValueError):
    """A file that is no readable PyTorch checkpoint; the message names it and says why."""


@dataclass(frozen=True)
class TorchCheckpoint:
    """What a checkpoint file holds that matters here.

    Attributes:
        tensors: the model's state dict; read-only arrays in PyTorch's layout.
        args: the options that training was started with, if the file has them.
    """

    tensors: dict[str, np.ndarray]
    args: dict[str, Any] | None


@dataclass(frozen=True)
class _Storage:
    entry: zipfile.ZipInfo
    dtype: np.dtype
    count: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int


def read_torch_file(path: str | Path) -> TorchCheckpoint:
    """The model's tensors in a file of `torch.save`: a state dict, or a dict with `model`.

    Raises:
        TorchFileError: if it is no such file, is damaged, or holds more than plain data.
        OSError: if it cannot be opened.
    """
    path = Path(path)
    try:
        _check_beginning(path)
        with zipfile.ZipFile(path) as archive:
            return _read_checkpoint(archive)
    except zipfile.BadZipFile as error:
        raise TorchFileError(f"{path}: damaged or truncated zip archive ({error})") from None
    except (ValueError, LookupError, RuntimeError, EOFError) as error:
        raise TorchFileError(f"{path}: {error}") from None


def _read_checkpoint(archive: zipfile.ZipFile) -> TorchCheckpoint:
    content = _load_object(archive)
    args = None
    if isinstance(content, dict) and not any(isinstance(v, _Tensor) for v in content.values()):
        if "model" not in content:
            raise ValueError(f"has no `model`; it has {sorted(map(str, content))}")
        args = content.get("args")
        content = content["model"]
    if not isinstance(content, dict) or not content:
        raise ValueError(f"holds a {type(content).__name__} where a state dict is expected")
    strange = [
        str(k) for k, v in content.items() if not (isinstance(v, _Tensor) and type(k) is str)
    ]
    if strange:
        raise ValueError(f"has entries in its state dict that are no tensors: {strange[:5]}")
    raw: dict[str, bytes] = {}
    tensors = {name: _view(archive, tensor, raw) for name, tensor in content.items()}
    return TorchCheckpoint(tensors, dict(args) if isinstance(args, dict) else None)


def _view(archive: zipfile.ZipFile, tensor: _Tensor, raw: dict[str, bytes]) -> np.ndarray:
    """The tensor as a view of its storage, which is read once, whoever shares it."""
    entry, dtype = tensor.storage.entry, tensor.storage.dtype
    if entry.filename not in raw:
        raw[entry.filename] = archive.read(entry)
    numbers = np.frombuffer(raw[entry.filename], dtype)[tensor.offset :]
    strides = [step * dtype.itemsize for step in tensor.strides]
    return np.lib.stride_tricks.as_strided(numbers, tensor.shape, strides, writeable=False)


def _check_beginning(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"PK\x03\x04"):
        return
    expected = "expected the zip archive that torch.save writes"
    if not start:
        raise ValueError(f"is empty; {expected}")
    if start.startswith(b"version https://git-lfs"):
        raise ValueError("is a Git LFS pointer, not the file itself: run `git lfs pull` for it")
    if start.startswith(b"\x80"):
        raise ValueError(
            f"is a bare pickle; {expected}. If PyTorch can read it, save it again with "
            "torch.save(torch.load(path), new_path)"
        )
    raise ValueError(f"is no checkpoint: it begins with {start[:16]!r}; {expected}")


def _load_object(archive: zipfile.ZipFile) -> Any:
    pickles = [n for n in archive.namelist() if n.count("/") == 1 and n.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError(
            f"is a zip archive with {len(pickles)} data.pkl in it, where torch.save writes one"
        )
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
        raise ValueError("was written on a big-endian machine, which is not supported")

    def storage(identity: Any) -> _Storage:
        kind, dtype, key, _, count = identity
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise ValueError(f"has a reference to {kind!r} where a storage belongs")
        entry = archive.getinfo(f"{root}data/{key}")
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != count * dtype.itemsize:
            raise ValueError(
                f"claims {count} numbers of {dtype} in {entry.filename}, which holds "
                f"{entry.file_size} bytes"
            )
        return _Storage(entry, dtype, count)

    return safe_loads(archive.read(pickles[0]), _NAMES, storage)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    """In place of `torch._utils._rebuild_tensor_v2`; checks that the tensor lies in its storage."""
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, _Storage) or not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError("has a tensor whose description makes no sense")
    size = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if size > storage.count or (size and last >= storage.count):
        raise ValueError(
            f"has a tensor of shape {list(shape)} that reaches outside its storage of "
            f"{storage.count} numbers"
        )
    return _Tensor(storage, tuple(shape), tuple(strides), offset)


_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): Builder(OrderedDict),
    ("argparse", "Namespace"): Builder(Namespace),
    ("torch", "Size"): Builder(tuple),
    ("torch._utils", "_rebuild_tensor_v2"): Builder(_tensor),
    ("torch._utils", "_rebuild_parameter"): Builder(lambda tensor, *_: tensor),
    **{("torch", name): dtype for name, dtype in STORAGE_TYPES.items()},
}
