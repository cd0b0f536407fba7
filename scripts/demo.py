"""Detect in a few photographs with a small model, evaluate it, and draw what it says.

    python scripts/demo.py

The model has seeded weights and has learned nothing: the demo shows that every step runs.
"""

import json
import shutil
from pathlib import Path

import jax
from absl import flags
from ml_collections import config_flags

from anchor_detr_jax.command import run_command

_ROOT = Path(__file__).resolve().parents[1]
_CONFIG = config_flags.DEFINE_config_file("config", str(_ROOT / "configs/demo.py"))
_COCO = flags.DEFINE_string("coco", str(_ROOT / "tests/data/coco"), "A folder in COCO's layout.")
_OUTPUT = flags.DEFINE_string("output", "demo_output", "Folder to write.")


def main(arguments: list[str]) -> None:
    """Make a model, save it, load it, evaluate it, draw."""
    import anchor_detr_jax as ad
    from anchor_detr_jax.checkpoint import StoredDetector, save_folder
    from anchor_detr_jax.data.categories import coco_columns
    from anchor_detr_jax.data.coco import read_coco_split
    from anchor_detr_jax.data.transforms import open_rgb
    from anchor_detr_jax.evaluation.coco_ap import score_results
    from anchor_detr_jax.evaluation.runner import detect_dataset
    from anchor_detr_jax.models.build import config_from_dict, init_variables, make_model

    if arguments:
        raise ValueError(f"unexpected arguments {arguments}; everything is given by flags")
    config = _CONFIG.value
    output = Path(_OUTPUT.value)
    if (output / "checkpoint/detector.json").is_file():
        shutil.rmtree(output / "checkpoint")
    model_config = config_from_dict(config.model.to_dict())
    variables = init_variables(make_model(model_config), jax.random.key(config.seed))
    source = {"seed": config.seed}
    save_folder(
        output / "checkpoint", StoredDetector(model_config, variables, coco_columns(), source)
    )
    detector = ad.load(output / "checkpoint")
    print(detector)

    sides = {"short_side": config.short_side, "long_side": config.long_side}
    dataset = read_coco_split(_COCO.value, "val2017")
    results = detect_dataset(detector, dataset, **sides, progress=True)
    (output / "results.json").write_text(json.dumps(results))
    print(score_results(results, dataset.annotations).summary)

    files = [image.path for image in dataset.images]
    found = detector.predict(files, threshold=0.0, top_k=3, **sides)
    for file, detections in zip(files, found, strict=True):
        drawn = output / file.name
        picture = open_rgb(file, apply_exif_rotation=True)
        ad.draw_detections(picture, detections).save(drawn)
        print(f"drawn: {drawn}")
    print(f"checkpoint: {output / 'checkpoint'}\nresults: {output / 'results.json'}")


if __name__ == "__main__":
    run_command(main)
