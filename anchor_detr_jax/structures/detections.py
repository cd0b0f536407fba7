"""What was found in an image, for people and their tools."""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
import PIL.Image
from jaxtyping import Float, Int

if TYPE_CHECKING:
    import pandas

__all__ = ["Detection", "Detections", "coco_results", "no_detections"]

_SHOWN = 8
"""Detections that a `repr` names."""

_SCREEN = 1200
"""Pixels that a picture in a notebook may be wide or high."""


class Detection(NamedTuple):
    """One thing that was found.

    Attributes:
        name: of its category.
        score: in [0, 1].
        box: x1, y1, x2, y2 in pixels of the image.
        label: id of its category.
    """

    name: str
    score: float
    box: tuple[float, float, float, float]
    label: int


@dataclass(frozen=True, eq=False, repr=False)
class Detections:
    """What was found in one image, best first; host arrays.

    In Jupyter they show as the picture with its boxes, where they know their picture, else as a
    table.

    Examples:
        >>> found = ad.Detections(
        ...     boxes=np.array([[12, 30, 64, 58], [40, 8, 52, 60]], np.float32),
        ...     scores=np.array([0.93, 0.34], np.float32),
        ...     labels=np.array([3, 1]),
        ...     names=["car", "person"],
        ... )
        >>> found
        Detections(car 0.93, person 0.34)
        >>> found[found.scores > 0.5].names
        ['car']
        >>> found[1].box
        (40.0, 8.0, 52.0, 60.0)
        >>> [one.name for one in found if one.label == 1]
        ['person']
        >>> found.to_coco(image_id=7)[0]["bbox"]
        [12.0, 30.0, 52.0, 28.0]
        >>> found.to_pandas()[["name", "x1", "x2"]]
             name    x1    x2
        0     car  12.0  64.0
        1  person  40.0  52.0

    Attributes:
        boxes: (x1, y1, x2, y2) in pixels of the image, float32 [n, 4].
        scores: in [0, 1], float32 [n].
        labels: category ids, int [n].
        names: the categories' names, n strings.
        drawer: draws detections over the picture that these were found in, which it keeps alive if
            it was given as an array; None where the picture is not known.
    """

    boxes: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]
    names: list[str]
    drawer: Callable[[Detections], PIL.Image.Image] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        shown = [f"{one.name} {one.score:.2f}" for one in self[:_SHOWN]]
        more = [f"and {len(self) - _SHOWN} more"] if len(self) > _SHOWN else []
        return f"Detections({', '.join(shown + more) or 'nothing'})"

    def __iter__(self) -> Iterator[Detection]:
        return (self[i] for i in range(len(self)))

    @overload
    def __getitem__(self, which: int) -> Detection: ...
    @overload
    def __getitem__(self, which: slice | Sequence[int | bool] | np.ndarray) -> Detections: ...
    def __getitem__(self, which: Any) -> Detection | Detections:
        """One detection by its number; several by a slice, by their numbers, or by a mask."""
        if isinstance(which, int | np.integer):
            x1, y1, x2, y2 = self.boxes[which].tolist()
            score, label = float(self.scores[which]), int(self.labels[which])
            return Detection(self.names[which], score, (x1, y1, x2, y2), label)
        chosen = np.arange(len(self))[which]
        return Detections(
            boxes=self.boxes[chosen],
            scores=self.scores[chosen],
            labels=self.labels[chosen],
            names=[self.names[i] for i in chosen],
            drawer=self.drawer,
        )

    def draw(self) -> PIL.Image.Image:
        """The picture that these were found in, upright, with their boxes; tiny ones enlarged.

        Raises:
            ValueError: where the picture is not known, as for detections that you put together.
            OSError: if its file is not there any more.
        """
        if self.drawer is None:
            raise ValueError(
                "these detections do not know their picture; "
                "anchor_detr_jax.draw_detections(image, detections) draws them over one"
            )
        return self.drawer(self)

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """COCO's results format: dicts of image_id, category_id, bbox (x, y, w, h) and score."""
        return coco_results(self.boxes, self.scores, self.labels, image_id=image_id)

    def to_numpy(self) -> Float[np.ndarray, "n 6"]:
        """One row each, x1, y1, x2, y2, score, category id: what trackers take; float64."""
        return np.column_stack([self.boxes, self.scores, self.labels]).astype(np.float64)

    def to_pandas(self) -> pandas.DataFrame:
        """A table with the columns name, score, x1, y1, x2, y2 and label.

        Raises:
            ImportError: without pandas.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError(f"{error}; pip install pandas brings it") from error
        return pandas.DataFrame(
            {
                "name": self.names,
                "score": self.scores,
                **dict(zip(("x1", "y1", "x2", "y2"), self.boxes.T, strict=True)),
                "label": self.labels,
            }
        )

    def _repr_jpeg_(self) -> bytes | None:
        """For Jupyter: the picture, not larger than a screen; None where there is none."""
        try:
            picture = self.draw()
        except (ValueError, OSError):
            return None
        picture.thumbnail((_SCREEN, _SCREEN))
        encoded = io.BytesIO()
        picture.save(encoded, "jpeg", quality=90, subsampling=0)
        return encoded.getvalue()

    def _repr_html_(self) -> str | None:
        """For Jupyter: a table, where there is no picture."""
        if self.drawer is not None:
            return None
        heads = "".join(f"<th>{head}</th>" for head in ("", "score", "x1", "y1", "x2", "y2"))
        rows = "".join(
            f"<tr><th>{html.escape(one.name)}</th><td>{one.score:.2f}</td>"
            + "".join(f"<td>{side:.1f}</td>" for side in one.box)
            + "</tr>"
            for one in self
        )
        return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def coco_results(
    boxes: Float[np.ndarray, "n 4"],
    scores: Float[np.ndarray, " n"],
    category_ids: Int[np.ndarray, " n"],
    *,
    image_id: int,
) -> list[dict[str, Any]]:
    """What was found in one image, in COCO's results format.

    Args:
        boxes: (x1, y1, x2, y2) in pixels.
        scores: of the boxes.
        category_ids: of the boxes.
        image_id: of the image.

    Returns:
        Dicts of image_id, category_id, bbox (x, y, w, h) and score, one for each box.
    """
    corner, opposite = boxes[:, :2], boxes[:, 2:]
    boxes_xywh = np.concatenate([corner, opposite - corner], axis=1).tolist()
    rows = zip(category_ids.tolist(), boxes_xywh, scores.tolist(), strict=True)
    return [
        {"image_id": image_id, "category_id": category_id, "bbox": box, "score": score}
        for category_id, box, score in rows
    ]


def no_detections() -> Detections:
    """What is found in an image where nothing is."""
    return Detections(
        boxes=np.zeros((0, 4), np.float32),
        scores=np.zeros(0, np.float32),
        labels=np.zeros(0, np.int64),
        names=[],
    )
