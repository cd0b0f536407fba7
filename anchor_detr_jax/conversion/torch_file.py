"""PyTorch's checkpoint files, read without PyTorch and without running what is in them."""

from __future__ import annotations

import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anchor_detr_jax.conversion.torch_legacy import MAGIC, TorchLegacy
from anchor_detr_jax.conversion.torch_objects import StoredTensor, view
from anchor_detr_jax.conversion.torch_zip import TorchZip

__all__ = ["TorchCheckpoint", "TorchFileError", "read_torch_file"]

_WRAPPERS = ("model", "state_dict", "model_state_dict")
"""Where training scripts keep the state dict among other things."""


class TorchFileError(ValueError):
    """A file that is no readable checkpoint; the message names it and says why."""


@dataclass(frozen=True)
class TorchCheckpoint:
    """What a checkpoint file holds that matters here.

    Attributes:
        tensors: the model's state dict; read-only arrays in PyTorch's layout.
        args: the options that training was started with, if the file has them.
    """

    tensors: dict[str, np.ndarray]
    args: dict[str, Any] | None


def read_torch_file(path: str | Path) -> TorchCheckpoint:
    """The model's tensors in a file of `torch.save`: a state dict, or a dict with `model`.

    Raises:
        TorchFileError: if it is no such file, is damaged, or holds more than plain data.
        OSError: if it cannot be opened.
    """
    path = Path(path)
    try:
        if _is_zip(path):
            with zipfile.ZipFile(path) as archive:
                return _checkpoint(TorchZip(archive))
        return _checkpoint(TorchLegacy(path.read_bytes()))
    except zipfile.BadZipFile as error:
        raise TorchFileError(f"{path}: damaged or truncated zip archive ({error})") from None
    except (ValueError, LookupError, TypeError, RuntimeError, EOFError, struct.error) as error:
        raise TorchFileError(f"{path}: {error}") from None
    except OSError as error:
        if error.filename is not None:
            raise
        # Reading at a place that there is not, as the archive says.
        raise TorchFileError(f"{path}: damaged or truncated zip archive ({error})") from None


def _is_zip(path: Path) -> bool:
    """Whether it is of the newer format; raises if it is of neither."""
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"PK\x03\x04"):
        return True
    if start.startswith(MAGIC):
        return False
    expected = "expected a file of torch.save"
    if not start:
        raise ValueError(f"is empty; {expected}")
    if start.startswith(b"version https://git-lfs"):
        raise ValueError("is a Git LFS pointer, not the file itself: run `git lfs pull` for it")
    if start.startswith(b"\x80"):
        raise ValueError(f"is a bare pickle, which is not read; {expected}")
    raise ValueError(f"is no checkpoint: it begins with {start[:16]!r}; {expected}")


def _checkpoint(file: TorchZip | TorchLegacy) -> TorchCheckpoint:
    state, args = _state_dict(file.content)
    strange = [
        str(k) for k, v in state.items() if not isinstance(v, StoredTensor) or type(k) is not str
    ]
    if strange:
        raise ValueError(f"has entries in its state dict that are no tensors: {strange[:5]}")
    raw: dict[str, bytes | memoryview] = {}
    tensors = {}
    for name, tensor in state.items():
        key = tensor.storage.key
        if key not in raw:  # read once, whoever shares it
            raw[key] = file.raw(tensor.storage)
        tensors[name] = view(tensor, raw[key])
    return TorchCheckpoint(tensors, args)


def _state_dict(content: Any) -> tuple[dict, dict[str, Any] | None]:
    """The state dict in what a file holds, and the training options beside it."""
    args = None
    if isinstance(content, dict) and not any(isinstance(v, StoredTensor) for v in content.values()):
        wrapper = next((name for name in _WRAPPERS if name in content), None)
        if wrapper is None:
            raise ValueError(f"has no `model`; it has {sorted(map(str, content))}")
        args = content.get("args")
        content = content[wrapper]
    if not isinstance(content, dict) or not content:
        raise ValueError(f"holds a {type(content).__name__} where a state dict is expected")
    return content, dict(args) if isinstance(args, dict) else None
