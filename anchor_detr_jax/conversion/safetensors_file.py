"""State dicts in safetensors files."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors

from anchor_detr_jax.conversion.torch_file import TorchCheckpoint, TorchFileError

__all__ = ["read_safetensors"]

_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


def read_safetensors(path: str | Path) -> TorchCheckpoint:
    """The tensors of a safetensors file; the format has no place for training options.

    Raises:
        TorchFileError: if it is no such file, or a damaged one.
        OSError: if it cannot be opened.
    """
    data = Path(path).read_bytes()
    try:
        found = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        raise TorchFileError(f"{path}: no readable safetensors file ({error})") from None
    strange = {item["dtype"] for _, item in found} - _DTYPES.keys()
    if strange:
        raise TorchFileError(f"{path}: has tensors of types {sorted(strange)}, which are not read")
    tensors = {
        name: np.frombuffer(item["data"], _DTYPES[item["dtype"]]).reshape(item["shape"])
        for name, item in found
    }
    return TorchCheckpoint(tensors, args=None)
