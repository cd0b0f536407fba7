"""An inspection as a page for people, and in a few lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from anchor_detr_jax.data.categories import Categories
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
from anchor_detr_jax.inspection.doctor import Inspection
from anchor_detr_jax.inspection.findings import SEVERITIES, advice_on, by_kind
from anchor_detr_jax.inspection.statistics import SplitStatistics
from anchor_detr_jax.inspection.training_plan import TrainingPreview

__all__ = ["inspection_page", "inspection_summary"]

_SHOWN = 10
"""Findings of a kind that the page lists; all of them are in the JSON."""

_WORDS = {"error": "error", "warning": "warning", "info": "remark"}

_SPLIT_HEADER = ("split", "pictures", "without boxes", "boxes", "crowd", "categories used",
                 "median box", "picture sizes")  # fmt: skip


def inspection_page(inspection: Inspection) -> str:
    """One HTML file with the findings, the plots, the plan and the contact sheet."""
    quick = " Headers alone were read: nothing was decoded." if inspection.quick else ""
    sections = [
        Section("What is in it", [table_html(_SPLIT_HEADER, _split_rows(inspection))]),
        Section("What was found", list(_findings(inspection))),
        Section("Counts and sizes", [columns_html(_plots(inspection))]),
        Section("What training would make of it", list(_training(inspection.training))),
    ]
    return html_page(
        f"Data set {inspection.root.resolve().name}",
        sections,
        subtitle=f"{inspection.root}, {inspection.format} layout. {_verdict(inspection)}.{quick}",
    )


def inspection_summary(inspection: Inspection) -> Iterator[str]:
    """The splits, what was found with an example of each kind, and the plan, line by line."""
    yield f"{inspection.root}: {inspection.format} layout, {len(inspection.categories)} categories"
    rows = [_SPLIT_HEADER, *([str(cell) for cell in row] for row in _split_rows(inspection))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *cells in rows:
        numbers = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        yield f"  {name.ljust(widths[0])}  {'  '.join(numbers)}"
    for kind, found in by_kind(inspection.findings).items():
        first = found[0]
        if first.severity != "info":
            example = f"{first.where}: {first.message}"
            more = f" ({len(found):,}), first" if found[1:] else ":"
            yield f"{first.severity}: {kind}{more} {example}"
    yield from _plan_lines(inspection.training)
    yield _verdict(inspection)


def _verdict(inspection: Inspection) -> str:
    counts = {severity: inspection.count(severity) for severity in SEVERITIES}
    if not any(counts.values()):
        return "nothing is wrong with it, as far as can be seen"
    return ", ".join(
        f"{count:,} {_WORDS[severity]}{'' if count == 1 else 's'}"
        for severity, count in counts.items()
    )


def _split_rows(inspection: Inspection) -> list[tuple[object, ...]]:
    return [_split_row(split, inspection.categories) for split in inspection.splits]


def _split_row(split: SplitStatistics, categories: Categories) -> tuple[object, ...]:
    used = sum(count > 0 for count in split.per_name(categories).values())
    sides = split.sides_px
    median = " x ".join(f"{side:.0f}" for side in np.median(sides, axis=0)) if len(sides) else "-"
    areas = sorted({(w * h, w, h) for h, w in split.hw.tolist() if h})
    sizes = " to ".join(f"{w} x {h}" for _, w, h in areas[:: max(1, len(areas) - 1)]) or "-"
    return (split.name, len(split.hw), split.empty, split.boxes, split.crowd, used, median, sizes)


def _findings(inspection: Inspection) -> Iterator[str]:
    if not inspection.findings:
        yield text_html("Nothing is wrong with it, as far as can be seen.")
    for kind, found in by_kind(inspection.findings).items():
        yield heading_html(f"{kind} ({len(found):,})", mark=found[0].severity)
        if advice := advice_on(kind):
            yield text_html(advice)
        yield table_html(("where", "what"), [(f.where, f.message) for f in found[:_SHOWN]])
        if len(found) > _SHOWN:
            yield text_html(f"and {len(found) - _SHOWN:,} more, which report.json lists")


def _plots(inspection: Inspection) -> list[str]:
    return [figure_html(figure, name) for name, figure in inspection.figures().items()]


def _plan_lines(training: TrainingPreview) -> Iterator[str]:
    plan = training.plan
    if plan is None:
        return
    yield (
        f"training: {plan.pictures:,} pictures, {plan.steps:,} steps of {plan.batch_size} an "
        f"epoch, {len(plan.buckets)} shapes of batches, {100 * plan.waste:.1f} % of all pixels "
        "padding"
    )
    if training.memory:
        yield f"memory of a device for the largest batch: {training.memory}"


def _training(training: TrainingPreview) -> Iterator[str]:
    if training.refusal:
        yield text_html(f"Training would refuse: {training.refusal}")
    for line in _plan_lines(training):
        yield text_html(line[0].upper() + line[1:])
    if training.memory and not training.memory.planned:
        yield text_html(
            "Estimated as 1.15 times the parameters, the optimizer's state and what the forward "
            "pass keeps for the backward pass: within 2 % of what XLA planned on a CPU for R50-C5 "
            "and R50-DC5. --memory has XLA plan it."
        )
    if training.plan:
        yield heading_html("Batches of the first epoch")
        yield table_html(
            ("width x height", "steps", "padding"),
            [
                (f"{bucket.hw[1]} x {bucket.hw[0]}", bucket.steps, f"{100 * bucket.waste:.1f} %")
                for bucket in training.plan.buckets
            ],
        )
    if training.sheet:
        yield heading_html("Augmented pictures, as the model will see them")
        yield text_html(
            "Each with its name, its size after augmentation and the size that its batch is padded "
            "to. Black beside or below a picture is padding."
        )
        yield picture_html(training.sheet, "augmented training pictures with their boxes")
