"""Accelerators that a machine has and its JAX cannot use."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

__all__ = ["unused_accelerator"]

_KINDS = {
    "GPU": (
        "cuda",
        ("dev/nvidia[0-9]*", "proc/driver/nvidia/gpus/*", "usr/lib/wsl/lib/libcuda.so*"),
        "jax_plugins.xla_cuda*",
    ),
    "TPU": ("tpu", ("dev/accel[0-9]*",), "libtpu"),
}
"""The extra of this package that has what is needed, signs of the device, JAX's plugin for it."""


def unused_accelerator(environment: Mapping[str, str], root: Path = Path("/")) -> str | None:
    """What is to be said where JAX will run on the CPU of a machine with something faster.

    Nothing is imported, and no device is touched: that is left to JAX.

    Args:
        environment: `JAX_PLATFORMS` there is the user's word, after which nothing is said.
        root: of the file system.
    """
    if environment.get("JAX_PLATFORMS"):
        return None
    for name, (extra, signs, plugin) in _KINDS.items():
        if any(any(root.glob(sign)) for sign in signs) and not _installed(plugin):
            return (
                f"note: this machine has a {name}, and its JAX is for the CPU alone; "
                f'pip install "anchor_detr_jax[{extra}]" brings what it needs '
                "(JAX_PLATFORMS=cpu: the CPU is meant)"
            )
    return None


def _installed(plugin: str) -> bool:
    package, _, pattern = plugin.partition(".")
    found = importlib.util.find_spec(package)
    if found is None or not pattern:
        return found is not None
    folders = found.submodule_search_locations or ()
    return any(any(Path(folder).glob(pattern)) for folder in folders)
