"""Evaluate a detector on COCO, or score results that exist.

    python scripts/evaluate.py --checkpoint out/ --coco path/to/coco --split val2017 \
        --output results.json
    python scripts/evaluate.py --checkpoint out/ --annotations a.json --images folder/ \
        --output results.json
    python scripts/evaluate.py --results results.json --annotations a.json --output scored.json

Writes the results to --output and COCO's 12 numbers to `<output>.stats.json`.
"""

import json
from pathlib import Path
from typing import Any

from absl import flags

from anchor_detr_jax.command import run_command
from anchor_detr_jax.data.coco import CocoDataset, read_coco, read_coco_split

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Folder of a detector, or a .pth.")
_COCO = flags.DEFINE_string("coco", None, "A folder in COCO's layout.")
_SPLIT = flags.DEFINE_string("split", "val2017", "Which part of --coco.")
_ANNOTATIONS = flags.DEFINE_string("annotations", None, "A COCO annotation file.")
_IMAGES = flags.DEFINE_string("images", None, "The folder with the pictures of --annotations.")
_RESULTS = flags.DEFINE_string("results", None, "Results to score; no detector is run.")
_OUTPUT = flags.DEFINE_string("output", None, "File for the results.", required=True)
_SHORT_SIDE = flags.DEFINE_integer("short_side", 800, "Short side of the resized images.", 1)
_LONG_SIDE = flags.DEFINE_integer("long_side", 1333, "Limit of their long side.", 1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 1, "Images at a time; changes no number.", 1)


def main(arguments: list[str]) -> None:
    """Detect and score, or score alone."""
    if arguments:
        raise ValueError(f"unexpected arguments {arguments}; everything is given by flags")
    output = Path(_OUTPUT.value)
    if not output.absolute().parent.is_dir():
        raise ValueError(f"--output {output}: there is no folder {output.absolute().parent}")
    if _RESULTS.value:
        if not _ANNOTATIONS.value:
            raise ValueError("--results needs --annotations to be scored against")
        annotations = Path(_ANNOTATIONS.value)
        results = _read_results(Path(_RESULTS.value))
    else:
        dataset = _dataset()
        annotations = dataset.annotations
        results = _detect(dataset)
    _write_json(output, results)
    _score(results, annotations, output)


def _dataset() -> CocoDataset:
    if _COCO.value and not (_ANNOTATIONS.value or _IMAGES.value):
        return read_coco_split(_COCO.value, _SPLIT.value)
    if _ANNOTATIONS.value and _IMAGES.value and not _COCO.value:
        return read_coco(_ANNOTATIONS.value, _IMAGES.value)
    raise ValueError("say either --coco (with --split), or --annotations and --images")


def _detect(dataset: CocoDataset) -> list[dict[str, Any]]:
    import anchor_detr_jax as ad
    from anchor_detr_jax.evaluation.runner import detect_dataset

    if not _CHECKPOINT.value:
        raise ValueError("--checkpoint is missing: a folder that convert_torch_weights.py wrote")
    return detect_dataset(
        ad.load(_CHECKPOINT.value),
        dataset,
        short_side=_SHORT_SIDE.value,
        long_side=_LONG_SIDE.value,
        batch_size=_BATCH_SIZE.value,
        progress=True,
    )


def _read_results(path: Path) -> list[dict[str, Any]]:
    try:
        results = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON file: {error}") from None
    if not isinstance(results, list):
        raise ValueError(f"{path} holds a {type(results).__name__}, expected a list of results")
    return results


def _score(results: list[dict[str, Any]], annotations: Path, output: Path) -> None:
    from anchor_detr_jax.evaluation.coco_ap import score_results

    scores = score_results(results, annotations)
    print(scores.summary)
    stats = output.with_name(output.name + ".stats.json")
    _write_json(stats, scores.stats)
    print(f"{len(results)} results in {output}, the 12 numbers in {stats}")


def _write_json(path: Path, content: Any) -> None:
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(json.dumps(content))
    unfinished.replace(path)


if __name__ == "__main__":
    run_command(main)
