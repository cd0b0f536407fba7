"""What is wrong with a split or with all of a data set, and with no single picture or box."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from anchor_detr_jax.data.categories import Categories
from anchor_detr_jax.data.formats.records import SplitRecords
from anchor_detr_jax.inspection.findings import Finding, finding
from anchor_detr_jax.inspection.statistics import SplitStatistics

__all__ = ["all_categories", "check_categories", "check_split", "check_unreferenced"]

_FEW = 10
"""Boxes below which nothing is concluded from all of them."""

_NEARLY_ALL, _MANY = 0.95, 0.3


def check_split(split: SplitStatistics, *, learned: bool) -> Iterator[Finding]:
    """Findings on a split as a whole.

    Args:
        split: its counts.
        learned: it is what training learns from.
    """
    name, pictures = split.name, len(split.hw)
    if not pictures:
        yield finding("no pictures", split.source, f"the split {name!r} has no pictures")
        return
    if not split.boxes:
        kind = "no boxes" if learned else "no annotations"
        yield finding(kind, split.source, f"the {pictures} pictures of {name!r} have no boxes")
    elif split.empty * 2 > pictures:
        message = f"{split.empty} of the {pictures} pictures of {name!r} have no boxes"
        yield finding("mostly without boxes", split.source, message)
    yield from _wrong_unit(split)


def _wrong_unit(split: SplitStatistics) -> Iterator[Finding]:
    """What is wrong with nearly all boxes alike is said once, whatever is said of each."""
    hw = split.hw[split.picture_of]
    known = (hw > 0).all(axis=1)
    boxes, hw = split.xyxy_px[known], hw[known]
    if len(boxes) < _FEW:
        return
    within = np.mean(boxes.max(axis=1) <= 1)
    if within >= _NEARLY_ALL:
        message = f"{100 * within:.0f} % of the boxes of {split.name!r} end within the first pixel"
        yield finding("boxes as fractions", split.source, message)
        return
    # Width and height taken for the second corner.
    others = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    outside, inside = 1 - np.mean(_inside(boxes, hw)), np.mean(_inside(others, hw))
    if outside >= _MANY and inside >= _NEARLY_ALL:
        message = (
            f"{100 * outside:.0f} % of the boxes of {split.name!r} leave their pictures, and "
            f"{100 * (1 - inside):.0f} % if width and height are taken for the second corner"
        )
        yield finding("boxes as corners", split.source, message)


def _inside(boxes: Float[np.ndarray, "n 4"], hw: Int[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
    """Whether boxes have an area, and are in their pictures but for a pixel."""
    first, second = boxes[:, :2], boxes[:, 2:]
    return np.all((first >= -1) & (second > first) & (second <= hw[:, ::-1] + 1), axis=1)


def all_categories(splits: Iterable[SplitRecords]) -> tuple[Categories, list[Finding]]:
    """The categories of all splits together, and findings where these contradict each other."""
    names: dict[int, str | None] = {}
    found = []
    for records in splits:
        for id_, name in zip(records.categories.ids, records.categories.names, strict=True):
            if names.setdefault(id_, name) != name:
                message = f"category {id_} is {name!r}, and {names[id_]!r} in another split"
                found.append(finding("categories differ", records.source, message))
    ids = tuple(sorted(names))
    return Categories(ids, tuple(names[id_] for id_ in ids)), found


def check_categories(
    categories: Categories, source: str, used: Mapping[str, Counter[int | str]], learned: str
) -> Iterator[Finding]:
    """Findings on the list of categories.

    Args:
        categories: all of the data set.
        source: where they are listed.
        used: how many boxes of each category, by split; keys are names where the file has these.
        learned: the split that training learns from; "" if there is none.
    """
    for name, count in sorted(Counter(n for n in categories.names if n is not None).items()):
        if not name.strip():
            yield finding("category without a name", source, f"{count} of the categories")
        elif count > 1:
            yield finding("duplicate category name", source, f"{count} categories are {name!r}")
    for id_, name in zip(categories.ids, categories.names, strict=True):
        if name is None:
            continue
        where = [split for split, counts in used.items() if {id_, name} & counts.keys()]
        if not where:
            message = f"category {id_} ({name}) has no box in any split"
            yield finding("unused category", source, message)
        elif learned and learned not in where:
            message = f"category {id_} ({name}) has boxes in {', '.join(where)}, none in {learned}"
            yield finding("category not in training", source, message)


def check_unreferenced(splits: Sequence[SplitRecords]) -> Iterator[Finding]:
    """Picture files that no split speaks of."""
    spoken_of = {picture.path for records in splits for picture in records.pictures}
    lonely = {path for records in splits for path in records.unreferenced} - spoken_of
    for path in lonely:
        yield finding("unreferenced file", str(path), f"no annotation speaks of {path.name}")
