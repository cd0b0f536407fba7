"""Train a small detector from nothing on made-up pictures, evaluate it, draw what it finds.

    python scripts/demo.py
    python scripts/demo.py --output elsewhere/ --seed 1

The pictures show circles, squares and triangles on striped, noisy grounds. 200 of them are kept
apart, and AP is measured on these. Anything in configs/demo.py can be set, as for training:
`--config.schedule.steps=100`; but not the data's folder and the seed, which follow from --output
and --seed.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from anchor_detr_jax.command import run_command

_ROOT = Path(__file__).resolve().parents[1]
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "A file of configs/; configs/demo.py by default."
)
_OUTPUT = flags.DEFINE_string("output", "demo_output", "Folder to write.")
_PICTURES = flags.DEFINE_integer("pictures", 4000, "Pictures to learn from.", 1)
_UNSEEN = flags.DEFINE_integer("unseen", 200, "Pictures to measure AP on.", 1)
_SHOWN = 12
_MARK = "README"
_SEED = flags.DEFINE_integer("seed", 0, "Of the pictures, the weights and the order.", 0)


def main(arguments: list[str]) -> int:
    """Make the data, train, evaluate, draw, and say where everything is."""
    if arguments:
        raise ValueError(f"unexpected arguments {arguments}; everything is given by flags")
    import dataclasses

    import anchor_detr_jax as ad
    from anchor_detr_jax.data.shapes import make_shapes
    from anchor_detr_jax.evaluation.coco_ap import score_results
    from anchor_detr_jax.evaluation.runner import run_dataset
    from anchor_detr_jax.evaluation.sets import read_evaluation_set
    from anchor_detr_jax.training.config import train_config_from_dict
    from anchor_detr_jax.training.curves import save_curves
    from anchor_detr_jax.training.loop import train
    from anchor_detr_jax.training.report import described, ended
    from anchor_detr_jax.training.run import prepare_run
    from anchor_detr_jax.visualize import contact_sheet, draw_beside

    output = Path(_OUTPUT.value)
    _clear(output)
    make_shapes(output / "data", train=_PICTURES.value, val=_UNSEEN.value, seed=_SEED.value)
    config = train_config_from_dict(_CONFIG.value.to_dict())
    data = dataclasses.replace(config.data, root=str(output / "data"))
    config = dataclasses.replace(config, data=data, seed=_SEED.value)
    run = prepare_run(config, output / "run")
    print("\n".join(described(run)))
    end = train(run)
    print("\n".join(ended(run, end)))
    if end.reason.startswith("SIG"):
        return 130

    detector = ad.load(output / "run")
    print(detector)
    dataset, truth = read_evaluation_set(output / "data", config.data.val_split)
    sides: dict[str, Any] = {
        "short_side": config.evaluation.short_side,
        "long_side": config.evaluation.long_side,
        "fixed_hw": config.evaluation.fixed_hw,
        "batch_size": config.evaluation.batch_size,
    }
    results = run_dataset(detector, dataset, **sides).results
    (output / "results.json").write_text(json.dumps(results))
    print(score_results(results, truth).summary)

    shown = dataset.images[:_SHOWN]
    pictures = [image.opened() for image in shown]
    found = detector.predict(pictures, threshold=0.4, **sides)
    beside = [
        draw_beside(picture, truth.of_image(image.id), detections)
        for picture, image, detections in zip(pictures, shown, found, strict=True)
    ]
    contact_sheet(beside, columns=2, width=1600).save(output / "found.png")
    save_curves([output / "run"], output / "curves.png")
    for name in ("found.png", "curves.png", "results.json", "run", "data"):
        print(f"{name.partition('.')[0] + ':':9}{output / name}")
    return 0


def _clear(output: Path) -> None:
    """Remove what an earlier demo wrote, and nothing else."""
    if output.exists() and not (output / _MARK).is_file() and any(output.iterdir()):
        raise FileExistsError(f"{output} holds something else; choose another --output")
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    (output / _MARK).write_text("Written by scripts/demo.py, which begins by removing it.\n")


if __name__ == "__main__":
    run_command(main, default_config=_ROOT / "configs/demo.py")
