"""What the columns of a class head stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool

__all__ = ["COCO_NAMES", "Categories", "coco_columns", "numbered_columns"]

_COCO = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,,"
    "stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,,"
    "backpack,umbrella,,,handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,"
    "baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,,wine glass,cup,fork,"
    "knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,"
    "couch,potted plant,bed,,dining table,,,toilet,,tv,laptop,mouse,remote,keyboard,cell phone,"
    "microwave,oven,toaster,sink,refrigerator,,book,clock,vase,scissors,teddy bear,hair drier,"
    "toothbrush"
)
COCO_NAMES: dict[int, str] = {i: name for i, name in enumerate(_COCO.split(","), start=1) if name}
"""COCO's 80 categories by their ids, which have gaps: 1 to 90."""


@dataclass(frozen=True)
class Categories:
    """The category of each column of the logits.

    Attributes:
        ids: the data set's category ids.
        names: their names; None for a column that stands for nothing.
    """

    ids: tuple[int, ...]
    names: tuple[str | None, ...]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.names):
            raise ValueError(f"{len(self.ids)} category ids but {len(self.names)} names")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def in_use(self) -> Bool[np.ndarray, " c"]:
        """True for columns that stand for a category."""
        return np.array([name is not None for name in self.names])

    def check_same_ids(self, others: Categories, source: str) -> None:
        """See that another data set gives a category that both have the same id.

        Raises:
            ValueError: if it does not; a car would count as whatever has its id here.
        """
        ids: dict[str, set[int]] = {}
        for id_, name in zip(self.ids, self.names, strict=True):
            if name is not None:
                ids.setdefault(name, set()).add(id_)
        for id_, name in zip(others.ids, others.names, strict=True):
            if name in ids and id_ not in ids[name]:
                raise ValueError(
                    f"{source} gives {name!r} the id {id_}, where {sorted(ids[name])[0]} is "
                    "expected; give the splits the same ids (or, to train on the data's own "
                    "categories, say data.categories='dataset')"
                )

    def to_json(self) -> list[dict[str, Any]]:
        """As COCO writes categories, unused columns included."""
        return [{"id": i, "name": n} for i, n in zip(self.ids, self.names, strict=True)]

    @classmethod
    def from_json(cls, items: Sequence[Mapping[str, Any]]) -> Categories:
        """The inverse of `to_json`."""
        return cls(tuple(item["id"] for item in items), tuple(item["name"] for item in items))


def coco_columns(*, gaps: bool = True) -> Categories:
    """The 91 columns of the official models: column = COCO's id, 11 of them unused.

    Without gaps: the 80 ids that are used, in ascending order, as detrex has them.
    """
    ids = tuple(range(91)) if gaps else tuple(COCO_NAMES)
    return Categories(ids, tuple(COCO_NAMES.get(i) for i in ids))


def numbered_columns(count: int) -> Categories:
    """Columns of which nothing is known: `class 0`, `class 1`, ..."""
    return Categories(tuple(range(count)), tuple(f"class {i}" for i in range(count)))
