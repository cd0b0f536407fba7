r"""Time a training step and the input pipeline, alone or beside another implementation.

    python scripts/benchmark_step.py --config configs/anchor_detr_r50_c5.py --size 480x640
    python scripts/benchmark_step.py --against module:function --coco path/to/coco

`--against` names a Python function of yours. It is called with the config's name, such as
`anchor_detr_r50_c5`, and returns a function that does a whole training step on float32 torch images
[b, 3, h, w] and a list of dicts with `labels` and `boxes` (cx, cy, w, h), one for each image. Both
run in turn in one process, so that the ratio holds on a noisy machine. `--coco` measures how many
pictures a core reads, decodes and augments in a second, and where that time goes.
"""

import importlib
import json
import os
import statistics
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
_SIZE = flags.DEFINE_string("size", "480x640", "Height and width of the images.")
_BATCH = flags.DEFINE_integer("batch_size", 2, "Images in a step.", 1)
_TARGETS = flags.DEFINE_integer("targets", 7, "Boxes in each image, as COCO has on average.", 0)
_AGAINST = flags.DEFINE_string("against", None, "module:function of the other implementation.")
_COCO = flags.DEFINE_string("coco", None, "A COCO folder, to measure the input pipeline.")
_SPLIT = flags.DEFINE_string("split", "train2017", "Its split.")
_RUNS = flags.DEFINE_integer("runs", 7, "Timed runs of each.", 1)
_OUTPUT = flags.DEFINE_string("output", None, "File for the figures, as JSON.")


def main(arguments: list[str]) -> None:
    """Measure, print a table, and write the figures."""
    if arguments:
        raise ValueError(f"unexpected arguments {arguments}; everything is given by flags")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = cache  # so that compiling is measured, too
        figures = _steps()
    if _COCO.value:
        figures["input"] = _input_pipeline()
    print(_table(figures))
    if _OUTPUT.value:
        Path(_OUTPUT.value).write_text(json.dumps(figures, indent=2) + "\n")


def _hw() -> tuple[int, int]:
    height, _, width = _SIZE.value.partition("x")
    return int(height), int(width)


def _batch() -> tuple[Any, Any]:
    import numpy as np

    from anchor_detr_jax.structures import Images, Targets

    b, n, rng = _BATCH.value, _TARGETS.value, np.random.default_rng(0)
    pixels = rng.integers(0, 256, (b, *_hw(), 3), np.uint8)
    boxes = np.concatenate([rng.uniform(0.3, 0.7, (b, n, 2)), rng.uniform(0.05, 0.5, (b, n, 2))], 2)
    targets = Targets(
        boxes.astype(np.float32),
        rng.integers(1, 91, (b, n)).astype(np.int32),
        np.full(b, n, np.int32),
    )
    return Images(pixels, np.full((b, 2), _hw(), np.int32)), targets


def _steps() -> dict[str, Any]:
    import jax

    images, targets = _batch()
    ours, compilation, matching = _ours(images, targets)
    runs = {"ours": ours}
    if _AGAINST.value:
        runs["theirs"] = _theirs(images, targets)
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in [*runs, "matching"]}
    for _ in range(_RUNS.value):
        for name, run in {**runs, "matching": matching}.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return {
        "config": Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem,
        "size": _SIZE.value,
        "batch_size": _BATCH.value,
        "device": f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores, jax {jax.__version__}",
        "compilation": str(compilation),
        "seconds": seconds,
    }


def _ours(images: Any, targets: Any) -> tuple[Callable[[], Any], Any, Callable[[], Any]]:
    """A step; what compiling it took; the matching of that step alone."""
    import jax
    import numpy as np

    from anchor_detr_jax.matcher import match
    from anchor_detr_jax.models.build import init_variables, make_model
    from anchor_detr_jax.training.compiled import CompiledSteps, state_shapes
    from anchor_detr_jax.training.config import train_config_from_dict
    from anchor_detr_jax.training.optimizer import make_optimizer, make_schedules, parameter_groups
    from anchor_detr_jax.training.sharding import make_placement
    from anchor_detr_jax.training.state import start_state
    from anchor_detr_jax.training.step import make_train_step, step_settings
    from anchor_detr_jax.variable_names import flatten

    config = train_config_from_dict(_CONFIG.value.to_dict())
    model, settings = step_settings(config, config.model)
    placement = make_placement(batch_size=_BATCH.value)
    variables = init_variables(make_model(config.model), jax.random.key(0))
    groups = parameter_groups(flatten(variables["params"]), config.optimizer)
    schedules = make_schedules(config.optimizer, config.schedule, steps_per_epoch=1000)
    optimizer = make_optimizer(config.optimizer, schedules, groups)
    state = start_state(variables, optimizer, groups)
    compiled: list[Any] = []
    steps = CompiledSteps(
        make_train_step(model, optimizer, placement, settings),
        placement,
        state_shapes(jax.eval_shape(lambda: state), placement),
        report=compiled.append,
    )
    holder = [state]

    def run():
        holder[0], metrics = steps(holder[0], images, targets)
        jax.block_until_ready(metrics)

    run()
    outputs = jax.jit(model.apply)(holder[0].variables(), images)
    matching = jax.jit(match)
    jax.block_until_ready(matching(outputs, targets))
    return run, compiled[0], lambda: np.asarray(matching(outputs, targets))


def _theirs(images: Any, targets: Any) -> Callable[[], Any]:
    torch: Any = importlib.import_module("torch")
    module, _, function = str(_AGAINST.value).partition(":")
    name = Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    step = getattr(importlib.import_module(module), function)(name)
    pixels = torch.from_numpy(images.pixels).permute(0, 3, 1, 2).float() / 255
    their_targets = [
        {"labels": torch.from_numpy(labels).long(), "boxes": torch.from_numpy(boxes)}
        for labels, boxes in zip(targets.labels, targets.boxes, strict=True)
    ]
    return lambda: step(pixels, their_targets)


def _input_pipeline() -> dict[str, float]:
    """Pictures for each second of processor time, and the parts of that time, in ms a picture."""
    from anchor_detr_jax.data.categories import coco_columns
    from anchor_detr_jax.data.pipeline import BatchReader
    from anchor_detr_jax.data.plan import make_plan
    from anchor_detr_jax.data.sources import read_training_set
    from anchor_detr_jax.data.transforms import open_rgb
    from anchor_detr_jax.training.config import train_config_from_dict

    config = train_config_from_dict(_CONFIG.value.to_dict())
    dataset = read_training_set(str(_COCO.value), _SPLIT.value, columns=coco_columns())
    plan = make_plan(dataset.hw, batch_size=8, augmentation=config.augmentation)
    reader = BatchReader(dataset, plan, 512)
    steps = range(min(20, 3 * plan.steps_per_epoch))
    pictures = [picture for step in steps for picture in plan.batch(step).pictures]

    def per_picture(function: Callable[[], object]) -> float:
        started = time.process_time()
        function()
        return 1000 * (time.process_time() - started) / len(pictures)

    import io

    def decode() -> None:
        for picture in pictures:
            encoded = dataset.pictures.encoded(picture.index)
            open_rgb(io.BytesIO(encoded), apply_exif_rotation=False)

    whole = per_picture(lambda: [reader(step) for step in steps])
    read = per_picture(lambda: [dataset.pictures.encoded(p.index) for p in pictures])
    decoded = per_picture(decode)
    augmented = per_picture(lambda: [reader.augmented(picture) for picture in pictures])
    return {
        "pictures_per_second_per_core": 1000 / whole,
        "read_ms": read,
        "decode_ms": decoded - read,
        "augment_ms": augmented - decoded,
        "pad_and_pack_ms": whole - augmented,
    }


def _table(figures: dict[str, Any]) -> str:
    seconds = figures["seconds"]
    ours = statistics.median(seconds["ours"])
    lines = [
        f"{figures['config']}, batch {figures['batch_size']} of {figures['size']}, on "
        f"{figures['device']}; {figures['compilation']}",
        "",
        "| | median s | min s |",
        "|---|---|---|",
    ]
    for name, times in seconds.items():
        lines.append(f"| {name} | {statistics.median(times):.3f} | {min(times):.3f} |")
    lines.append(f"| matching / step | {statistics.median(seconds['matching']) / ours:.3f} | |")
    if "theirs" in seconds:
        pairs = zip(seconds["ours"], seconds["theirs"], strict=True)
        lines.append(f"| ours / theirs | {statistics.median(a / b for a, b in pairs):.2f} | |")
    for name, value in figures.get("input", {}).items():
        lines.append(f"| {name} | {value:.2f} | |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main, default_config=_ROOT / "configs/anchor_detr_r50_c5.py")
