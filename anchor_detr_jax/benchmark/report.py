"""What was measured as a table for people, and as JSON."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from anchor_detr_jax.benchmark.run import ON_DEVICE
from anchor_detr_jax.benchmark.tasks import Measurement, median_ratio

__all__ = ["Comparison", "as_json", "as_markdown", "comparisons", "environment", "shown"]

_PACKAGES = ("anchor_detr_jax", "jax", "flax", "torch", "transformers", "numpy")
_MIB, _GIGA, _TERA = 2.0**20, 1e9, 1e12

Peaks = Mapping[str, float | None]
"""Of the device, in FLOP/s, by precision; None where it is not known."""


@dataclass(frozen=True)
class Comparison:
    """Ours by another side, for the same thing: below 1 ours is better.

    Attributes:
        time: median of the ratios of runs that took turns.
        memory: ratio of the peaks; None where it was not measured.
    """

    config: str
    precision: str
    what: str
    batch_size: int
    side: str
    time: float
    memory: float | None


def environment() -> dict[str, Any]:
    """The machine, and versions of what is installed."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    devices = jax.devices()
    return {
        "device": devices[0].device_kind,
        "devices": len(devices),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "system": platform.platform(),
        "versions": versions,
    }


def comparisons(measured: Sequence[Measurement]) -> list[Comparison]:
    """All there are."""
    ours = {_key(one): one for one in measured if one.side == "ours"}
    found = []
    for one in measured:
        own = ours.get(_key(one))
        if one.side == "ours" or own is None or not (own.seconds and one.seconds):
            continue
        memory = None
        if own.memory_bytes and one.memory_bytes:
            memory = own.memory_bytes / one.memory_bytes
        time = median_ratio(own.seconds, one.seconds)
        found.append(Comparison(*_key(one), side=one.side, time=time, memory=memory))
    return found


def as_json(
    measured: Sequence[Measurement], about: Mapping[str, Any], peaks: Peaks
) -> dict[str, Any]:
    """Everything, in containers that JSON can hold; times in seconds, memory in bytes.

    Args:
        measured: all of it.
        about: `environment`, and what else is to be said.
        peaks: of the device.
    """
    rows = [
        {
            **dataclasses.asdict(one),
            "median": one.median,
            "p95": one.p95,
            "images_per_second": one.images_per_second,
            "share_of_peak": one.share_of(peaks.get(one.precision)),
        }
        for one in measured
    ]
    compared = [dataclasses.asdict(one) for one in comparisons(measured)]
    return {**about, "peaks": dict(peaks), "measurements": rows, "comparisons": compared}


def as_markdown(measured: Sequence[Measurement], about: Mapping[str, Any], peaks: Peaks) -> str:
    """One table, below the machine, the versions and the peaks; without columns that are empty."""
    compared = {(*_key(one), one.side): one for one in comparisons(measured)}
    rows = [
        _row(one, peaks.get(one.precision), compared.get((*_key(one), one.side)))
        for one in shown(measured)
    ]
    columns = [name for name in (rows[0] if rows else {}) if any(row[name] for row in rows)]
    body = [[row[name] for name in columns] for row in rows]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    known = [f"{name} {peak / _TERA:.3g} TFLOP/s" for name, peak in peaks.items() if peak]
    return "\n".join(
        [
            f"{about['device']} ({about['devices']}), {about['processor']}, "
            f"{about['cores']} cores; {versions}; peak: {', '.join(known) or 'not known'}",
            "",
            *(_line(cells) for cells in (columns, ["---"] * len(columns), *body)),
        ]
    )


def shown(measured: Sequence[Measurement]) -> list[Measurement]:
    """What the table has: of batches larger than one, each side's fastest."""
    best: dict[tuple[str, ...], Measurement] = {}
    for one in measured:
        if one.what == ON_DEVICE:
            place = (one.config, one.precision, one.side)
            fastest = best.setdefault(place, one)
            if (one.images_per_second or 0) > (fastest.images_per_second or 0):
                best[place] = one
    kept = [id(one) for one in best.values()]
    return [
        one
        for one in measured
        if one.what != ON_DEVICE or one.batch_size == 1 or one.note or id(one) in kept
    ]


def _row(one: Measurement, peak: float | None, compared: Comparison | None) -> dict[str, str]:
    giga, share = _GIGA * one.batch_size, one.share_of(peak)
    size = "x".join(map(str, one.hw)) if one.hw else ""
    return {
        "config": one.config,
        "precision": one.precision,
        "what": one.what,
        "side": one.side,
        "batch, size": f"{one.batch_size} {size}".strip(),
        "median ms": _text(one.median, 1e-3, 1),
        "p95 ms": _text(one.p95, 1e-3, 1),
        "images/s": _text(one.images_per_second, 1.0, 2),
        "time: ours / this": _text(compared and compared.time, 1.0, 2),
        "G multiply-adds an image": _text(one.multiply_adds, giga, None),
        "by XLA": _text(one.compiler_multiply_adds, giga, None),
        "of peak": f"{share:.0%}" if share else "",
        "memory MiB": _text(one.memory_bytes, _MIB, 0),
        "memory: ours / this": _text(compared and compared.memory, 1.0, 2),
        "compilation s": _text(one.compile_s, 1.0, 1),
        "note": one.note,
    }


def _text(value: float | int | None, unit: float, digits: int | None) -> str:
    """In that unit; with so many digits after the point, or four in all."""
    if value is None:
        return ""
    return f"{value / unit:.4g}" if digits is None else f"{value / unit:.{digits}f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _key(one: Measurement | Comparison) -> tuple[str, str, str, int]:
    return one.config, one.precision, one.what, one.batch_size


def _processor() -> str:
    """The processor's name, as Linux or else Python knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
