"""Time the forward pass, alone or side by side with another implementation.

    python scripts/benchmark.py --config configs/anchor_detr_r50_dc5.py --size 800x1216
    python scripts/benchmark.py --against module:function --output benchmark.json

`--against` names a Python function of yours. It is called with the config's name, such as
`anchor_detr_r50_dc5`, and returns a function from a float32 torch tensor [1, 3, h, w] to outputs.
Both run in turn in one process, so that the ratio holds on a noisy machine; memory is measured in
a process for each, after warm-up: the peak of its resident size, less what stood after loading.
"""

import functools
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from anchor_detr_jax.command import run_command

_ROOT = Path(__file__).resolve().parents[1]
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "A file of configs/; that of R50-C5 by default."
)
_SIZE = flags.DEFINE_string("size", "800x1216", "Height and width of the image.")
_AGAINST = flags.DEFINE_string("against", None, "module:function of the other implementation.")
_RUNS = flags.DEFINE_integer("runs", 7, "Timed runs of each.", 1)
_OUTPUT = flags.DEFINE_string("output", None, "File for the figures, as JSON.")
_MEMORY_OF = flags.DEFINE_enum("memory_of", None, ["ours", "theirs"], "Used by itself.")


def main(arguments: list[str]) -> None:
    """Measure, print a table, and write the figures."""
    if arguments:
        raise ValueError(f"unexpected arguments {arguments}; everything is given by flags")
    if _MEMORY_OF.value:
        print(json.dumps(_memory(_ours() if _MEMORY_OF.value == "ours" else _theirs())))
        return
    with tempfile.TemporaryDirectory() as cache:
        os.environ |= {
            "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        figures = _measure()
    print(_table(figures))
    if _OUTPUT.value:
        Path(_OUTPUT.value).write_text(json.dumps(figures, indent=2) + "\n")


def _measure() -> dict[str, Any]:
    ours = _ours()
    start = time.perf_counter()
    ours()
    figures: dict[str, Any] = {
        "config": _config_name(),
        "size": _SIZE.value,
        "machine": _machine(),
        "first_call_s": time.perf_counter() - start,
    }
    sides = {"ours": ours} | ({"theirs": _theirs()} if _AGAINST.value else {})
    for run in sides.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(_RUNS.value):
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    figures["seconds"] = seconds
    figures["memory_mib"] = {name: _memory_in_a_process(name) for name in sides}
    return figures


@functools.cache
def _hw() -> tuple[int, int]:
    try:
        height, width = (int(side) for side in _SIZE.value.split("x"))
    except ValueError:
        raise ValueError(f"--size is {_SIZE.value!r}, expected HEIGHTxWIDTH") from None
    return height, width


def _config_name() -> str:
    return Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem


def _ours() -> Callable[[], Any]:
    import jax
    import numpy as np

    from anchor_detr_jax.models.build import config_from_dict, init_variables, make_model
    from anchor_detr_jax.structures import Images

    model = make_model(config_from_dict(_CONFIG.value.model.to_dict()))
    variables = init_variables(model, jax.random.key(0))
    pixels = np.random.default_rng(0).integers(0, 256, (1, *_hw(), 3), np.uint8)
    images = jax.device_put(Images(pixels, np.array([_hw()], np.int32)))
    forward = jax.jit(model.apply)
    return lambda: jax.block_until_ready(forward(variables, images))


def _theirs() -> Callable[[], Any]:
    torch: Any = importlib.import_module("torch")
    module, _, function = str(_AGAINST.value).partition(":")
    forward = getattr(importlib.import_module(module), function)(_config_name())
    image = torch.rand(1, 3, *_hw())

    def run():
        with torch.inference_mode():
            return forward(image)

    return run


def _memory_in_a_process(name: str) -> float:
    command = [sys.executable, __file__, *sys.argv[1:], f"--memory_of={name}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise ValueError(f"measuring the memory of {name} failed:\n{done.stderr}")
    return float(json.loads(done.stdout.splitlines()[-1]))


def _memory(run: Callable[[], Any]) -> float:
    """MiB at the peak of a run after warm-up, above what stood before the first run."""
    before = _status("VmRSS")
    run()
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    run()
    run()
    return (_status("VmHWM") - before) / 1024


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise ValueError(f"this system does not say {field}")


def _machine() -> str:
    import jax

    device = jax.devices()[0]
    return f"{device.device_kind}, {os.cpu_count()} cores, jax {jax.__version__}"


def _table(figures: dict[str, Any]) -> str:
    lines = [
        f"{figures['config']} at {figures['size']} on {figures['machine']}; first call "
        f"(compilation) {figures['first_call_s']:.1f} s",
        "",
        "| | median s | min s | memory MiB |",
        "|---|---|---|---|",
    ]
    for name, seconds in figures["seconds"].items():
        median, least = statistics.median(seconds), min(seconds)
        memory = figures["memory_mib"][name]
        lines.append(f"| {name} | {median:.3f} | {least:.3f} | {memory:.0f} |")
    if "theirs" in figures["seconds"]:
        pairs = zip(*figures["seconds"].values(), strict=True)
        ratio = statistics.median(ours / theirs for ours, theirs in pairs)
        memory = figures["memory_mib"]
        lines.append(f"| ours / theirs | {ratio:.2f} | | {memory['ours'] / memory['theirs']:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main, default_config=_ROOT / "configs/anchor_detr_r50_c5.py")
