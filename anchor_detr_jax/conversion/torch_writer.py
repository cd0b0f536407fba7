"""State dicts written as `torch.save` writes them, without PyTorch.

The pickle is put together by hand: its names (`torch._utils._rebuild_tensor_v2` and the like) need
PyTorch only where it is read.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from anchor_detr_jax.whole_files import file_written_whole

__all__ = ["write_torch_file"]

_PROTOCOL = 2


def write_torch_file(
    path: str | Path, tensors: Mapping[str, np.ndarray], args: Mapping[str, Any]
) -> None:
    """Write `{"model": tensors, "args": args}`; `torch.load(path, weights_only=True)` reads it.

    Names that share one array share one storage. A file of this name is replaced only when the new
    one is complete.

    Args:
        path: of the file.
        tensors: float32 arrays in PyTorch's layout.
        args: plain values.

    Raises:
        OSError: if it cannot be written.
    """
    storages: dict[int, tuple[str, np.ndarray]] = {}
    for tensor in tensors.values():
        storages.setdefault(id(tensor), (str(len(storages)), tensor))
    with (
        file_written_whole(Path(path)) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive,
    ):
        archive.writestr("archive/data.pkl", _pickle(tensors, storages, args))
        archive.writestr("archive/byteorder", "little")
        for key, tensor in storages.values():
            numbers = np.ascontiguousarray(tensor, "<f4")
            archive.writestr(f"archive/data/{key}", numbers.tobytes())
        archive.writestr("archive/version", "3\n")


def _pickle(
    tensors: Mapping[str, np.ndarray],
    storages: Mapping[int, tuple[str, np.ndarray]],
    args: Mapping[str, Any],
) -> bytes:
    model = [_global("collections", "OrderedDict"), pickle.EMPTY_TUPLE, pickle.REDUCE, pickle.MARK]
    for name, tensor in tensors.items():
        model += [_plain(name), _tensor(tensor, storages[id(tensor)][0])]
    model.append(pickle.SETITEMS)
    return b"".join(
        [
            pickle.PROTO + bytes([_PROTOCOL]),
            pickle.EMPTY_DICT + pickle.MARK,
            *(_plain("model"), *model),
            *(_plain("args"), _plain(dict(args))),
            pickle.SETITEMS + pickle.STOP,
        ]
    )


def _tensor(tensor: np.ndarray, key: str) -> bytes:
    strides = np.empty(tensor.shape, np.int8).strides  # in bytes, which are numbers here
    storage = [
        pickle.MARK,
        _plain("storage"),
        _global("torch", "FloatStorage"),
        _plain(key),
        _plain("cpu"),
        _plain(int(tensor.size)),
        pickle.TUPLE + pickle.BINPERSID,
    ]
    return b"".join(
        [
            _global("torch._utils", "_rebuild_tensor_v2"),
            pickle.MARK,
            *storage,
            *(_plain(0), _plain(tuple(tensor.shape)), _plain(strides), _plain(False)),
            *(_global("collections", "OrderedDict"), pickle.EMPTY_TUPLE, pickle.REDUCE),
            pickle.TUPLE + pickle.REDUCE,
        ]
    )


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _plain(value: Any) -> bytes:
    """The operations that push a plain value: a pickle without its beginning and its end."""
    return pickle.dumps(value, _PROTOCOL)[2:-1]
