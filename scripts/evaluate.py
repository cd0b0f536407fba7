"""Evaluate a detector on COCO, or score results that exist.

    python scripts/evaluate.py --checkpoint out/ --coco path/to/coco --split val2017 \
        --output results.json
    python scripts/evaluate.py --checkpoint out/ --coco path/to/coco --split test-dev2017 \
        --output results.json
    python scripts/evaluate.py --checkpoint out/ --annotations a.json --images folder/ \
        --output results.json
    python scripts/evaluate.py --results results.json --annotations a.json --output scored.json

Writes the results to --output and COCO's 12 numbers to `<output>.stats.json`; with --per_class, the
AP of each category to `<output>.per_class.json`. Where there are no annotations, as for test-dev,
it writes the results alone. If pictures cannot be read, the results of all the others go to
`<output>.partial.json`, nothing is scored, and the exit code is 1.
"""

import dataclasses
import json
import os
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
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size",
    None,
    "Images at a time, over all local devices together, rounded up to a multiple of their number; "
    "changes no number. By default, for each device: 1 on the CPU, 8 elsewhere.",
    1,
)
_SCORER = flags.DEFINE_enum(
    "scorer", "pycocotools", ["pycocotools", "hotcoco"], "hotcoco: the same numbers, sooner."
)
_PER_CLASS = flags.DEFINE_bool("per_class", False, "Say the AP of each category too.")

_SCORES = (".stats.json", ".per_class.json")


def main(arguments: list[str]) -> None:
    """Detect and score, or score alone."""
    if arguments:
        raise ValueError(f"unexpected arguments {arguments}; everything is given by flags")
    output = Path(_OUTPUT.value)
    _check_output(output)
    if _RESULTS.value:
        _score_file(Path(_RESULTS.value), output)
    else:
        _evaluate(_dataset(), output)


def _check_output(output: Path) -> None:
    folder = output.absolute().parent
    if not folder.is_dir():
        fault = f"{folder} is a file" if folder.exists() else f"there is no folder {folder}"
        raise ValueError(f"--output {output}: {fault}")
    if output.is_dir():
        raise ValueError(f"--output {output} is a folder, expected a file's name")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"--output {output}: {folder} cannot be written to")


def _dataset() -> CocoDataset:
    if _COCO.value and not (_ANNOTATIONS.value or _IMAGES.value):
        return read_coco_split(_COCO.value, _SPLIT.value)
    if _ANNOTATIONS.value and _IMAGES.value and not _COCO.value:
        return read_coco(_ANNOTATIONS.value, _IMAGES.value)
    raise ValueError("say either --coco (with --split), or --annotations and --images")


def _score_file(path: Path, output: Path) -> None:
    """Score results that exist."""
    from anchor_detr_jax.evaluation.coco_ap import score_results
    from anchor_detr_jax.evaluation.truth import read_truth

    if not _ANNOTATIONS.value:
        raise ValueError("--results needs --annotations to be scored against")
    truth, results = read_truth(_ANNOTATIONS.value), _read_results(path)
    try:
        scores = score_results(results, truth, scorer=_SCORER.value)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    _write_results(output, results)
    _report(scores, output)


def _evaluate(dataset: CocoDataset, output: Path) -> None:
    """Detect, and score if there is something to score against."""
    from anchor_detr_jax.evaluation.coco_ap import check_scorer, score_results
    from anchor_detr_jax.evaluation.truth import read_truth

    # What would fail after the detection fails before it.
    check_scorer(_SCORER.value)
    truth = read_truth(dataset.annotations) if dataset.annotated else None
    results = _detect(dataset, output)
    _write_results(output, results)
    if truth:
        _report(score_results(results, truth, scorer=_SCORER.value), output)
    else:
        print(_nothing_to_score(dataset.annotations, output))


def _detect(dataset: CocoDataset, output: Path) -> list[dict[str, Any]]:
    import anchor_detr_jax as ad
    from anchor_detr_jax.detector import default_batch_size
    from anchor_detr_jax.evaluation.runner import run_dataset

    if not _CHECKPOINT.value:
        raise ValueError("--checkpoint is missing: a folder that convert_torch_weights.py wrote")
    run = run_dataset(
        ad.load(_CHECKPOINT.value),
        dataset,
        short_side=_SHORT_SIDE.value,
        long_side=_LONG_SIDE.value,
        batch_size=_BATCH_SIZE.value or default_batch_size(),
        progress=True,
    )
    if run.unreadable:
        partial = output.with_name(output.name + ".partial.json")
        _write_json(partial, run.results)
        raise ValueError(
            f"{len(run.unreadable)} of {len(dataset.images)} pictures cannot be read, first "
            f"{run.unreadable[0]}; nothing was scored, and the results of the others are in "
            f"{partial}, which --results scores as it is"
        )
    print(run.speed)
    return run.results


def _read_results(path: Path) -> list[dict[str, Any]]:
    try:
        results = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON file: {error}") from None
    if not isinstance(results, list):
        raise ValueError(f"{path} holds a {type(results).__name__}, expected a list of results")
    return results


def _write_results(output: Path, results: list[dict[str, Any]]) -> None:
    """Results; what an earlier run said of other results goes away."""
    _write_json(output, results)
    for suffix in (*_SCORES, ".partial.json"):
        output.with_name(output.name + suffix).unlink(missing_ok=True)
    print(f"{len(results)} results in {output}")


def _report(scores: Any, output: Path) -> None:
    from anchor_detr_jax.evaluation.per_class import per_class_table

    stats, per_class = (output.with_name(output.name + suffix) for suffix in _SCORES)
    print(scores.summary)
    _write_json(stats, scores.stats)
    print(f"the 12 numbers in {stats}")
    if _PER_CLASS.value:
        print(per_class_table(scores.per_class))
        _write_json(per_class, [dataclasses.asdict(scores) for scores in scores.per_class])
        print(f"the AP of each category in {per_class}")


def _nothing_to_score(annotations: Path, output: Path) -> str:
    if "test-dev" in annotations.name:
        split = annotations.stem.removeprefix("image_info_")
        advice = (
            "COCO keeps them to itself. To have the results scored, rename the file to "
            f"detections_{split}_NAME_results.json, zip it, and upload it as "
            "https://cocodataset.org/#upload says"
        )
    else:
        advice = (
            f"to score with others: python scripts/evaluate.py --results {output} "
            "--annotations a.json --output scored.json"
        )
    return f"{annotations} has no annotations, so nothing was scored; {advice}"


def _write_json(path: Path, content: Any) -> None:
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(json.dumps(content))
    unfinished.replace(path)


if __name__ == "__main__":
    run_command(main)
