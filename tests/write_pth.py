"""Write arrays as `torch.save` writes them, with no torch: checkpoints for tests.

`torch.load(path, weights_only=False)` reads the result (checked with torch 2.13), and a
reader that takes real checkpoints takes these.
"""

import argparse
import collections
import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

_STORAGE = {"f4": "FloatStorage", "f2": "HalfStorage", "f8": "DoubleStorage", "i8": "LongStorage"}


class _Global:
    """Pickles as a bare reference to `module.name`, which need not exist here."""

    def __init__(self, module: str, name: str):
        self.module, self.name = module, name


class _Tensor:
    def __init__(self, array: np.ndarray, key: str):
        self.array, self.key = np.ascontiguousarray(array), key


class _Pickler(pickle._Pickler):  # the Python one: its dispatch can be extended
    dispatch = pickle._Pickler.dispatch.copy()

    def persistent_id(self, obj):
        if isinstance(obj, tuple) and len(obj) == 5 and obj[0] == "storage":
            return obj
        return None

    def save_global_reference(self, obj):
        self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())

    dispatch[_Global] = save_global_reference

    def save_tensor(self, obj):
        a = obj.array
        storage = ("storage", _Global("torch", _STORAGE[a.dtype.str[1:]]), obj.key, "cpu", a.size)
        strides = tuple(s // a.itemsize for s in a.strides)
        self.save(_Global("torch._utils", "_rebuild_tensor_v2"))
        self.save((storage, 0, a.shape, strides, False, collections.OrderedDict()))
        self.write(pickle.REDUCE)

    dispatch[_Tensor] = save_tensor


def write_pth(
    path: str | Path,
    state_dict: Mapping[str, np.ndarray],
    *,
    args: Mapping[str, object] | None = None,
) -> None:
    """Write `{"model": state_dict}`; with `args`, also what the reference's training adds to it.

    `args` are the reference's options that matter here: backbone, dilation, num_query_position,
    num_query_pattern, num_feature_levels, spatial_prior, attention_type, nheads.
    """
    tensors = {
        name: _Tensor(np.asarray(a), str(i)) for i, (name, a) in enumerate(state_dict.items())
    }
    checkpoint: dict = {"model": collections.OrderedDict(tensors)}
    if args is not None:
        group = {
            "lr": 1e-4,
            "betas": (0.9, 0.999),
            "eps": 1e-8,
            "weight_decay": 1e-4,
            "amsgrad": False,
            "params": [0, 1],
        }
        checkpoint |= {
            "optimizer": {"state": {}, "param_groups": [group]},
            "lr_scheduler": {"step_size": 40, "gamma": 0.1, "last_epoch": 50},
            "epoch": 49,
            "args": argparse.Namespace(**args),
        }
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=2).dump(checkpoint)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", buffer.getvalue())
        archive.writestr("archive/byteorder", "little")
        for tensor in tensors.values():
            archive.writestr(f"archive/data/{tensor.key}", tensor.array.tobytes())
        archive.writestr("archive/version", "3\n")
