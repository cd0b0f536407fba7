"""What devices can do at most, in FLOP/s (a multiply-add is two), without sparsity."""

from __future__ import annotations

import re
import time

import jax
import jax.numpy as jnp

__all__ = ["cpu_peak", "device_peak", "published_peak"]

_TERA = 1e12

_PEAKS: dict[str, dict[str, float]] = {
    # NVIDIA's data sheets. float32 is that of the plain cores.
    r"\bH200\b": {"bfloat16": 989, "tensorfloat32": 494, "float32": 67},
    r"\bH100 PCIe\b": {"bfloat16": 756, "tensorfloat32": 378, "float32": 51},
    r"\bH100 NVL\b": {"bfloat16": 835, "tensorfloat32": 417, "float32": 60},
    r"\bH100\b": {"bfloat16": 989, "tensorfloat32": 494, "float32": 67},
    r"\bA100\b": {"bfloat16": 312, "tensorfloat32": 156, "float32": 19.5},
    r"\bV100\b": {"float32": 15.7},
    r"\bA10\b": {"bfloat16": 125, "tensorfloat32": 62.5, "float32": 31.2},
    r"\bL4\b": {"bfloat16": 121, "tensorfloat32": 60, "float32": 30.3},
    r"\bT4\b": {"float32": 8.1},
    # Google Cloud's pages, for a chip; they name no peak for float32.
    r"TPU v4\b": {"bfloat16": 275},
    r"TPU v5 lite|TPU v5e": {"bfloat16": 197},
    r"TPU v5p?$": {"bfloat16": 459},
    r"TPU v6 lite|TPU v6e": {"bfloat16": 918},
}
"""By what `jax.Device.device_kind` says; the first that fits counts."""

_SIDE, _TRIALS = 2048, 7


def published_peak(device_kind: str, precision: str) -> float | None:
    """What the maker says, in FLOP/s; None where nothing is known."""
    for pattern, peaks in _PEAKS.items():
        if re.search(pattern, device_kind):
            return peaks[precision] * _TERA if precision in peaks else None
    return None


def device_peak(precision: str) -> float | None:
    """Of the device that JAX computes on: published, or measured if it is the CPU."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return cpu_peak(precision)
    return published_peak(device.device_kind, precision)


def cpu_peak(precision: str) -> float:
    """FLOP/s of the fastest of a few large matrix products."""
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    square = jnp.ones((_SIDE, _SIDE), dtype)
    product = jax.jit(jnp.matmul)
    product(square, square).block_until_ready()
    seconds = []
    for _ in range(_TRIALS):
        started = time.perf_counter()
        product(square, square).block_until_ready()
        seconds.append(time.perf_counter() - started)
    return 2 * _SIDE**3 / min(seconds)
