r"""Time detection and training, part by part, alone or beside a PyTorch model; one table.

    python scripts/benchmark.py
    python scripts/benchmark.py --against torch --output benchmark
    python scripts/benchmark.py --configs anchor_detr_r50_dc5 --precisions bfloat16 --notrain
    python scripts/benchmark.py --against module:function --against_step module:function

Measured are: latency at batch 1, from uint8 pixels on the host to detections on the host, and the
device's part of it; the best throughput over --batch_sizes; a training step; their parts; memory;
and with --data the input pipeline, with --images real photographs. Sides take turns, run by run.

`--against` names a ready model of Hugging Face, untrained (torch, which is conditional_detr, or
detr), or a Python function of yours. It is called with the configuration's name, such as
`anchor_detr_r50_dc5`, and returns a function from float32 torch images [b, 3, h, w] to outputs, or
a torch module. The function of `--against_step` returns one that does a whole training step on such
images and a list of dicts with `labels` and `boxes` (cx, cy, w, h), one for each image.
"""

import dataclasses
import difflib
import json
import os
import runpy
import sys
import tempfile
from pathlib import Path
from typing import Any

from absl import flags

from anchor_detr_jax.command import run_command
from anchor_detr_jax.command.image_size import HeightAndWidth
from anchor_detr_jax.command.output_file import check_output_file, write_output_file

_ROOT = Path(__file__).resolve().parents[1]
_CONFIGS = flags.DEFINE_list(
    "configs", ["anchor_detr_r50_c5", "anchor_detr_r50_dc5"], "Names in configs/, or files."
)
_PRECISIONS = flags.DEFINE_list(
    "precisions", None, "Of float32, tensorfloat32, bfloat16; else float32 and, on GPUs, all."
)
_RCDA = flags.DEFINE_string("rcda_impl", None, "How RCDA is computed; else as the configs say.")
_SIZE = flags.DEFINE(HeightAndWidth(), "size", None, "Of images for detection; else 800x1216.")
_BATCH_SIZES = flags.DEFINE_list("batch_sizes", None, "For detection; else 1,2 or 1,2,4,...,64.")
_TRAIN_SIZE = flags.DEFINE(
    HeightAndWidth(), "train_size", None, "For steps; else --size, CPU: 480x640."
)
_TRAIN_BATCH = flags.DEFINE_integer("train_batch_size", None, "For steps; else 2 or 8 a device.", 1)
_TARGETS = flags.DEFINE_integer("targets", 7, "Boxes in each image, as COCO has on average.", 0)
_RUNS = flags.DEFINE_integer("runs", None, "Timed runs of each; else 5 or, on accelerators, 50.", 1)
_SECTIONS = {
    name: flags.DEFINE_bool(name, True, f"Measure {text}?")
    for name, text in {
        "inference": "latency and throughput of detection",
        "train": "a training step",
        "parts": "backbone, encoder, decoder, heads, matching, losses, optimizer",
        "memory": "memory at the peak, each side in a process of its own",
    }.items()
}
_IMAGES = flags.DEFINE_string("images", None, "A folder of photographs, each at its own size.")
_DATA = flags.DEFINE_string("data", None, "A COCO folder, to measure the input pipeline.")
_SPLIT = flags.DEFINE_string("split", "train2017", "Its split.")
_AGAINST = flags.DEFINE_string("against", None, "torch, detr, conditional_detr, module:function.")
_AGAINST_STEP = flags.DEFINE_string("against_step", None, "module:function of a training step.")
_TORCH = flags.DEFINE_list("torch_modes", None, "Of eager, compiled; else eager, on GPUs both.")
_OUTPUT = flags.DEFINE_string("output", None, "Write OUTPUT.json and OUTPUT.md.")


def main(arguments: list[str]) -> None:
    """Measure, print the table, and write the figures."""
    if arguments:
        raise ValueError(f"unexpected arguments {arguments}; everything is given by flags")
    if _OUTPUT.value:
        check_output_file("output", Path(f"{_OUTPUT.value}.json"))
    with tempfile.TemporaryDirectory() as cache:
        # Compilation is measured; processes that measure memory find its programs.
        os.environ |= {
            "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # PyTorch needs memory, too
        }
        _measure()


def _measure() -> None:
    from anchor_detr_jax.benchmark.peaks import device_peak
    from anchor_detr_jax.benchmark.report import as_json, as_markdown, environment
    from anchor_detr_jax.benchmark.run import measurements

    plan = _plan()
    peaks = {precision: device_peak(precision) for precision in plan.precisions}
    about = {**environment(), "command": sys.argv}
    measured = []
    try:
        for one in measurements(plan):
            measured.append(one)
    finally:  # what was measured is said, whatever ends it
        if measured:
            table = as_markdown(measured, about, peaks)
            print(table)
            if _OUTPUT.value:
                figures = as_json(measured, about, peaks)
                text = json.dumps(figures, indent=2) + "\n"
                write_output_file(Path(f"{_OUTPUT.value}.json"), text)
                write_output_file(Path(f"{_OUTPUT.value}.md"), table + "\n")


def _plan() -> Any:
    import jax

    from anchor_detr_jax.benchmark.opponents import opponents
    from anchor_detr_jax.benchmark.run import Plan
    from anchor_detr_jax.benchmark.tasks import PRECISIONS

    backend, devices = jax.default_backend(), jax.device_count()
    slow, gpu = backend == "cpu", backend == "gpu"
    usual = PRECISIONS if gpu else PRECISIONS[:1] if slow else ("float32", "bfloat16")
    configs = {Path(name).stem: _config(name) for name in _CONFIGS.value}
    if _RCDA.value:
        how = {"rcda_impl": _RCDA.value}
        configs = {name: dataclasses.replace(one, **how) for name, one in configs.items()}
    hw = _SIZE.value or (800, 1216)
    modes = _chosen("torch_modes", ("eager", "compiled"), ("eager", "compiled")[: 1 + gpu])
    return Plan(
        configs=configs,
        precisions=_chosen("precisions", PRECISIONS, usual),
        hw=hw,
        step_hw=_TRAIN_SIZE.value or ((480, 640) if slow else hw),
        batch_sizes=_batch_sizes((1, 2) if slow else (1, 2, 4, 8, 16, 32, 64)),
        step_batch_size=_TRAIN_BATCH.value or (2 if slow else 8) * devices,
        targets=_TARGETS.value,
        runs=_RUNS.value or (5 if slow else 50),
        opponents=opponents(_AGAINST.value, _AGAINST_STEP.value, modes),
        sections=frozenset(name for name, flag in _SECTIONS.items() if flag.value),
        photographs=_IMAGES.value,
        data=(_DATA.value, str(_SPLIT.value)) if _DATA.value else None,
    )


def _config(name: str) -> Any:
    """A published configuration by its name, which needs no ml_collections, or that of a file."""
    from anchor_detr_jax.benchmark.presets import PRESETS
    from anchor_detr_jax.training.config import train_config_from_dict

    if name in PRESETS:
        return PRESETS[name]
    here = {file.stem: file for file in sorted((_ROOT / "configs").glob("*.py"))}
    file = here.get(name, Path(name))
    if not file.is_file():
        near = difflib.get_close_matches(name, {**PRESETS, **here})
        there = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(here)}"
        raise ValueError(f"--configs: there is no configuration {name!r}; {there}")
    try:
        get_config = runpy.run_path(str(file))["get_config"]
    except ImportError as error:
        raise ValueError(f"{file} needs a package: {error}; {', '.join(PRESETS)} do not") from None
    except KeyError:
        raise ValueError(f"{file} has no get_config") from None
    return train_config_from_dict(get_config().to_dict())


def _batch_sizes(usual: tuple[int, ...]) -> list[int]:
    given = _BATCH_SIZES.value or [str(one) for one in usual]
    if not all(one.isdecimal() and int(one) for one in given):
        raise ValueError(f"--batch_sizes is {','.join(given)!r}, expected numbers, such as 1,2,4")
    return sorted({1, *(int(one) for one in given)})  # latency is at batch 1


def _chosen(flag: str, there: tuple[str, ...], usual: tuple[str, ...]) -> tuple[str, ...]:
    given = tuple(flags.FLAGS[flag].value or usual)
    if not set(given) <= set(there):
        raise ValueError(f"--{flag} is {','.join(given)!r}, expected some of {','.join(there)}")
    return given


if __name__ == "__main__":
    run_command(main)
