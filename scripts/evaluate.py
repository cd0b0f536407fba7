"""Measure how good a detector is, or score results that exist.

    python scripts/evaluate.py --checkpoint out/ --data folder/ --output r.json --report page.html
    python scripts/evaluate.py --checkpoint out/ --coco coco/ --split val2017 --output r.json
    python scripts/evaluate.py --checkpoint out/ --annotations a.json --images dir/ --output r.json
    python scripts/evaluate.py --results r.json --annotations a.json --output scored.json

Writes the results to --output and COCO's 12 numbers to `<output>.stats.json`; with --per_class the
AP of each category to `<output>.per_class.json`, with --voc Pascal VOC's to `<output>.voc.json`,
with --report a page, and its numbers to `<report>.json`. Where there are no annotations, as for
test-dev, it writes the results alone. After Ctrl-C, or if pictures cannot be read, what was found
goes to `<output>.partial.json`, and nothing is scored.
"""

import dataclasses
import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from anchor_detr_jax.command import run_command
from anchor_detr_jax.command.image_size import ImageSizeFlags
from anchor_detr_jax.command.output_file import check_output_file, write_output_file
from anchor_detr_jax.data.formats.coco import CocoDataset, read_coco, read_coco_split

if TYPE_CHECKING:
    from anchor_detr_jax import Detector
    from anchor_detr_jax.evaluation.coco_ap import CocoScores
    from anchor_detr_jax.evaluation.runner import DatasetRun
    from anchor_detr_jax.evaluation.truth import CocoTruth

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Folder of a detector or a run, or a .pth.")
_DATA = flags.DEFINE_string("data", None, "Data set in the layout of COCO, VOC, YOLO or TFDS.")
_COCO = flags.DEFINE_string("coco", None, "The same in COCO's layout; may have no annotations.")
_SPLIT = flags.DEFINE_string("split", None, "Which part of it; else val, val2017 or the like.")
_ANNOTATIONS = flags.DEFINE_string("annotations", None, "A COCO annotation file.")
_IMAGES = flags.DEFINE_string("images", None, "The folder with the pictures of --annotations.")
_ON_BAD = flags.DEFINE_enum(
    "on_bad", "stop", ["stop", "skip"], "At faults in what --data says: leave them out?"
)
_RESULTS = flags.DEFINE_string("results", None, "Results to score; no detector is run.")
_OUTPUT = flags.DEFINE_string("output", None, "File for the results.", required=True)
_REPORT = flags.DEFINE_string(
    "report", None, "HTML page to write: curves, kinds of errors, thresholds, the worst images."
)
_PER_CLASS = flags.DEFINE_bool("per_class", False, "Say the AP of each category too.")
_VOC = flags.DEFINE_bool("voc", False, "Say Pascal VOC's AP too, over 11 and over all points.")
_SIZE = ImageSizeFlags()
_WARMUP = flags.DEFINE_bool("warmup", False, "Compile for images of every shape before the first.")
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size",
    None,
    "Images at a time, over all local devices; changes no number. Else, for each device: 1 on the "
    "CPU, 8 elsewhere.",
    1,
)
_SCORER = flags.DEFINE_enum(
    "scorer", "pycocotools", ["pycocotools", "hotcoco"], "hotcoco: the same numbers, sooner."
)

_SCORES = (".stats.json", ".per_class.json", ".voc.json")


def main(arguments: list[str]) -> None:
    """Detect and score, or score alone."""
    if arguments:
        raise ValueError(f"unexpected arguments {arguments}; everything is given by flags")
    output = Path(_OUTPUT.value)
    for name, value in {"output": _OUTPUT.value, "report": _REPORT.value}.items():
        if value is not None:
            check_output_file(name, Path(value))
    if _RESULTS.value:
        _score_file(Path(_RESULTS.value), output)
    else:
        _evaluate(output)


def _score_file(path: Path, output: Path) -> None:
    """Score results that exist."""
    if not (_ANNOTATIONS.value or _DATA.value or _COCO.value):
        raise ValueError("--results needs --annotations, or --data, to be scored against")
    from anchor_detr_jax.evaluation.coco_ap import score_results

    dataset, truth = _read_set()
    if truth is None:
        raise ValueError(f"{dataset and dataset.annotations} has no annotations to score against")
    results = _read_results(path)
    try:
        scores = score_results(results, truth, scorer=_SCORER.value)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    _write_results(output, results)
    _tell(scores, output)
    _tell_more(results, truth, scores, dataset)


def _evaluate(output: Path) -> None:
    """Detect, and score if there is something to score against."""
    from anchor_detr_jax.evaluation.coco_ap import check_scorer, score_results

    # What would fail after the detection fails before it.
    check_scorer(_SCORER.value)
    dataset, truth = _read_set()
    if dataset is None:
        raise ValueError("--images is missing: the folder with the pictures of --annotations")
    if truth is None and (_REPORT.value or _VOC.value):
        raise ValueError(f"--report and --voc: {dataset.annotations} has no annotations to score")
    results = _detect(dataset, output)
    _write_results(output, results)
    if truth is None:
        print(_nothing_to_score(dataset.annotations, output))
        return
    scores = score_results(results, truth, scorer=_SCORER.value)
    _tell(scores, output)
    _tell_more(results, truth, scores, dataset)


def _read_set() -> "tuple[CocoDataset | None, CocoTruth | None]":
    """The pictures, where it is said which, and what is in them, where that is known."""
    given = [name for name in (_COCO, _DATA, _ANNOTATIONS) if name.value]
    if len(given) != 1 or (_IMAGES.value and not _ANNOTATIONS.value):
        raise ValueError(
            "say either --coco or --data (with --split), or --annotations and --images"
        )
    from anchor_detr_jax.data.formats.layout import data_format
    from anchor_detr_jax.evaluation.sets import read_evaluation_set
    from anchor_detr_jax.evaluation.truth import read_truth

    if _DATA.value:
        # Categories that have names alone get the ids that the detector has for them.
        if not _CHECKPOINT.value and data_format(_DATA.value) != "coco":
            raise ValueError(f"{_DATA.value} has names alone; say --checkpoint, which knows ids")
        columns = _detector().categories if _CHECKPOINT.value else None
        split = _SPLIT.value or _usual_split(_DATA.value)
        return read_evaluation_set(_DATA.value, split, columns=columns, on_bad=_ON_BAD.value)
    if _COCO.value:
        dataset = read_coco_split(_COCO.value, _SPLIT.value or "val2017")
    elif _IMAGES.value:
        dataset = read_coco(str(_ANNOTATIONS.value), _IMAGES.value)
    else:
        return None, read_truth(str(_ANNOTATIONS.value))
    return dataset, read_truth(dataset.annotations) if dataset.annotated else None


def _usual_split(root: str) -> str:
    from anchor_detr_jax.data.formats.layout import split_names

    names = split_names(root)
    usual = [name for name in names if name.startswith("val")]
    if len(usual) != 1:
        there = ", ".join(names) or "none"
        held_out = f"; fine-tuning's held-out part is {names[0]}:held_out:0.15:0" if names else ""
        raise ValueError(f"--split is missing: {root} has {there}{held_out}")
    return usual[0]


@functools.cache
def _detector() -> "Detector":
    import anchor_detr_jax as ad

    if not _CHECKPOINT.value:
        raise ValueError("--checkpoint is missing: a folder that convert_torch_weights.py wrote")
    return ad.load(_CHECKPOINT.value)


def _detect(dataset: CocoDataset, output: Path) -> list[dict[str, Any]]:
    from anchor_detr_jax.detector import default_batch_size
    from anchor_detr_jax.evaluation.runner import InterruptedRun, run_dataset

    how = {
        **_SIZE.value,
        "batch_size": _BATCH_SIZE.value or default_batch_size(),
        "progress": True,
    }
    if _WARMUP.value:
        print(_detector().warm_up(**how))
    try:
        run = run_dataset(_detector(), dataset, **how)
    except InterruptedRun as interrupted:
        if interrupted.run.results:
            print(f"nothing was scored; {_kept(interrupted.run, dataset, output)}")
        raise
    if run.unreadable:
        raise ValueError(
            f"{len(run.unreadable)} of {len(dataset.images)} pictures cannot be read, first "
            f"{run.unreadable[0]}; nothing was scored, and {_kept(run, dataset, output)}"
        )
    print(run.speed)
    return run.results


def _kept(run: "DatasetRun", dataset: CocoDataset, output: Path) -> str:
    """Keep the results of a part of the pictures, and say where."""
    partial = output.with_name(output.name + ".partial.json")
    _write_json(partial, run.results)
    return (
        f"the results of {run.speed.images} of {len(dataset.images)} pictures are in {partial}, "
        "which --results scores as it is"
    )


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


def _tell(scores: "CocoScores", output: Path) -> None:
    """COCO's numbers."""
    from anchor_detr_jax.evaluation.per_class import per_class_table

    stats, per_class, _ = (output.with_name(output.name + suffix) for suffix in _SCORES)
    print(scores.summary)
    _write_json(stats, scores.stats)
    print(f"the 12 numbers in {stats}")
    if _PER_CLASS.value:
        print(per_class_table(scores.per_class))
        _write_json(per_class, [dataclasses.asdict(scores) for scores in scores.per_class])
        print(f"the AP of each category in {per_class}")


def _tell_more(
    results: list[dict[str, Any]],
    truth: "CocoTruth",
    scores: "CocoScores",
    dataset: CocoDataset | None,
) -> None:
    """What was asked for beside COCO's numbers."""
    from anchor_detr_jax.evaluation.box_arrays import box_arrays
    from anchor_detr_jax.evaluation.report import evaluation_report
    from anchor_detr_jax.evaluation.report_page import evaluation_page
    from anchor_detr_jax.evaluation.voc_ap import score_voc

    if _VOC.value:
        voc, file = score_voc(box_arrays(results, truth)), Path(_OUTPUT.value + _SCORES[2])
        print(voc)
        _write_json(file, voc.to_json())
        print(f"these, and those of each category, in {file}")
    if _REPORT.value:
        page, numbers = Path(_REPORT.value), Path(_REPORT.value + ".json")
        report = evaluation_report(results, truth, scores)
        images = {image.id: image for image in dataset.images} if dataset else {}
        subtitle = f"{_CHECKPOINT.value or _RESULTS.value} on {truth.source}"
        write_output_file(page, evaluation_page(report, images, subtitle=subtitle))
        _write_json(numbers, report.to_json())
        print(f"a page for people in {page}, its numbers in {numbers}")


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
    write_output_file(path, json.dumps(content))


if __name__ == "__main__":
    run_command(main)
