"""An evaluation as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping

from anchor_detr_jax.data.formats.coco import CocoImage
from anchor_detr_jax.evaluation.figures import (
    calibration_figure,
    category_curves_figure,
    error_count_figure,
    error_gain_figure,
    mean_curves_figure,
    score_figure,
    size_figure,
    threshold_figure,
)
from anchor_detr_jax.evaluation.precision_recall import precision_recall
from anchor_detr_jax.evaluation.report import EvaluationReport
from anchor_detr_jax.evaluation.worst_images import draw_errors
from anchor_detr_jax.html_page import (
    Section,
    columns_html,
    figure_html,
    heading_html,
    html_page,
    picture_html,
    table_html,
    text_html,
)

__all__ = ["evaluation_page"]

_MEANS = {
    "AP": "mean over IoU 0.50, 0.55, ... 0.95 and over the categories",
    "AP50": "at IoU 0.50",
    "AP75": "at IoU 0.75",
    "AP small": "of boxes below 32² pixels",
    "AP medium": "of boxes of 32² to 96² pixels",
    "AP large": "of larger boxes",
    "AR at 1": "share of the boxes that is found, with one detection of a category in an image",
    "AR at 10": "with 10",
    "AR at 100": "with 100",
    "AR small": "with 100, of boxes below 32² pixels",
    "AR medium": "with 100, of boxes of 32² to 96² pixels",
    "AR large": "with 100, of larger boxes",
    "VOC AP, 11 points": "Pascal VOC's until 2009, at IoU 0.50, without difficult boxes",
    "VOC AP, all points": "Pascal VOC's from 2010, likewise",
}


def evaluation_page(
    report: EvaluationReport, images: Mapping[int, CocoImage] | None = None, *, subtitle: str = ""
) -> str:
    """A page for people, with all figures and pictures within it.

    Args:
        report: the numbers.
        images: by their ids, to show the worst; without them these are only listed.
        subtitle: what was evaluated on what.
    """
    sections = [
        _overall(report),
        _precision_recall(report),
        _errors(report),
        _thresholds(report),
        _sizes(report),
        _categories(report),
        _worst(report, images or {}),
    ]
    return html_page("Evaluation", sections, subtitle=subtitle)


def _overall(report: EvaluationReport) -> Section:
    boxes = report.judged.boxes
    counts = (
        f"{len(boxes.image_ids):,} images with {report.scores.boxes:,} boxes of "
        f"{sum(c.boxes > 0 for c in report.categories):,} categories; "
        f"{len(boxes.found.score):,} detections."
    )
    numbers = {
        **report.coco.named,
        "VOC AP, 11 points": report.voc.ap_11,
        "VOC AP, all points": report.voc.ap_all,
    }
    rows = [(name, _cell(value), _MEANS[name]) for name, value in numbers.items()]
    return Section("Overall", [text_html(counts), table_html(["", "", "what it is"], rows)])


def _precision_recall(report: EvaluationReport) -> Section:
    curves = precision_recall(report.coco)
    figures = [
        figure_html(mean_curves_figure(curves), "Mean precision over recall at several IoUs"),
        figure_html(category_curves_figure(curves), "Precision over recall of each category"),
    ]
    text = (
        "Precision is the share of the detections that is right, recall the share of the boxes "
        "that is found, as the threshold on the score falls. The area under a curve is its AP."
    )
    return Section("Precision and recall", [text_html(text), columns_html(figures)])


def _errors(report: EvaluationReport) -> Section:
    errors = report.errors
    text = (
        f"AP50 is {errors.ap50:.3f}. Each wrong detection is of one kind; the gain is what AP50 "
        "would rise by if all of that kind were mended and nothing else changed. Gains do not add "
        "up, since mending one kind changes what others cost."
    )
    header = ["error", "gain in AP50", f"from score {errors.threshold:.2f} on", "all", "what it is"]
    rows = [
        (kind.name, kind.gain, kind.shown, kind.all, kind.means)
        for kind in (*errors.kinds, *errors.together)
    ]
    right = (
        f"{errors.correct:,} detections are right, {errors.correct_shown:,} of them from score "
        f"{errors.threshold:.2f} on."
    )
    if errors.ignored:
        right += (
            f" {errors.ignored:,} are neither right nor wrong: they lie in a crowd, or beyond the "
            "100 best of a category in an image."
        )
    figures = [
        figure_html(error_gain_figure(errors), "AP50 gained without each kind of error"),
        figure_html(error_count_figure(errors), "How many errors of each kind there are"),
    ]
    parts = [text_html(text), columns_html(figures), table_html(header, rows), text_html(right)]
    return Section("Errors", [*parts, *_confused(report)])


def _confused(report: EvaluationReport) -> list[str]:
    if not report.confused:
        return []
    pairs = [(pair.truth, pair.found, pair.count) for pair in report.confused]
    return [
        text_html("Categories that are taken for another most often:"),
        table_html(["is", "taken for", "how often"], pairs),
    ]


def _thresholds(report: EvaluationReport) -> Section:
    best = report.best
    if best.f1:
        text = (
            f"The best F1 is {best.f1:.3f}, with detections from score {best.threshold:.2f} on: "
            f"{best.precision:.1%} of them are right, and {best.recall:.1%} of the boxes are found."
            " Choose a higher threshold for fewer false alarms, a lower one to miss less."
        )
    else:
        text = "No detection is right, so that no threshold is better than another."
    calibrated = (
        "Where the share that is right lies below the dashed line, scores promise too much; how "
        "far it is off is the mean distance. All of this is at IoU 0.50."
    )
    figures = [
        figure_html(threshold_figure(report.scores, best), "Precision, recall and F1"),
        figure_html(score_figure(report.scores), "Right and wrong detections by score"),
        figure_html(calibration_figure(report.calibration), "Share that is right by score"),
    ]
    parts = [text_html(text), columns_html(figures), text_html(calibrated)]
    return Section("Which score threshold", [*parts, *_category_thresholds(report)])


def _category_thresholds(report: EvaluationReport) -> list[str]:
    """The best first."""
    parts = []
    rows = [
        (c.name, c.best.threshold, c.best.precision, c.best.recall, c.best.f1, c.boxes)
        for c in report.categories
        if c.best
    ]
    if rows:
        header = ["category", "threshold", "precision", "recall", "F1", "boxes"]
        rows.sort(key=lambda row: -(row[4] or 0.0))
        parts += [
            text_html("The threshold of each category's best F1, and what it gives:"),
            table_html(header, rows),
        ]
    never = [c.name for c in report.categories if c.boxes and not c.best]
    if never:
        parts.append(text_html(f"No detection is right of: {', '.join(never)}."))
    return parts


def _sizes(report: EvaluationReport) -> Section:
    header = ["size", "area", "boxes", "AP", "AP50", "AR"]
    rows = [(s.name, s.area, s.boxes, *map(_cell, (s.ap, s.ap50, s.recall))) for s in report.sizes]
    figure = figure_html(size_figure(report.sizes), "AP of small, medium and large boxes")
    return Section("Sizes", [figure, table_html(header, rows)])


def _categories(report: EvaluationReport) -> Section:
    """The best first."""
    header = ["category", "boxes", "AP", "AP50", "AP75", "small", "medium", "large"]
    header += ["VOC 11", "VOC all"]
    there = [c for c in report.categories if c.ap is not None]
    rows = []
    for c in sorted(there, key=lambda c: c.ap or 0.0, reverse=True):
        numbers = [c.ap, c.ap50, c.ap75, c.ap_small, c.ap_medium, c.ap_large, c.voc_11, c.voc_all]
        rows.append((c.name, c.boxes, *map(_cell, numbers)))
    absent = [c.name for c in report.categories if c.ap is None]
    text = [text_html(f"There is nothing to find of: {', '.join(absent)}.")] if absent else []
    return Section("Categories", [table_html(header, rows), *text])


def _worst(report: EvaluationReport, images: Mapping[int, CocoImage]) -> Section:
    threshold = report.best.threshold
    if not report.worst:
        return Section("Worst images", [text_html("No image has an error.")])
    parts = [
        text_html(
            f"The images with the most errors among detections from score {threshold:.2f} on: the "
            "scores of the wrong ones added up, and 1 for each missed box. Ground truth is on the "
            "left."
        )
    ]
    for place, errors in enumerate(report.worst, start=1):
        image = images.get(errors.image_id)
        name = image.path.name if image else f"image {errors.image_id}"
        caption = f"{place}. {name}: {errors}; {errors.badness:.1f} together"
        parts.append(heading_html(caption))
        if image:
            parts.append(_drawn(report, image, caption))
    return Section("Worst images", parts)


def _drawn(report: EvaluationReport, image: CocoImage, caption: str) -> str:
    """The picture, or why it cannot be read."""
    try:
        with image.opened() as picture:
            drawn = draw_errors(report.judged, picture, image.id, threshold=report.best.threshold)
    except (ValueError, OSError) as error:
        return text_html(str(error))
    return picture_html(drawn, caption)


def _cell(value: float | None) -> float | str:
    return "-" if value is None else value
