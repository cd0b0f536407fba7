"""Precision over recall, of each category and on average."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from anchor_detr_jax.evaluation.coco_ap import CocoScores

__all__ = ["PrecisionRecall", "precision_recall"]

_IOUS = np.linspace(0.5, 0.95, 10)


@dataclass(frozen=True)
class PrecisionRecall:
    """Curves as COCO draws them: the best precision at a recall or more.

    Attributes:
        recall: where precision is taken.
        mean: by IoU, over the categories that there are to find; none where there are none.
        per_class: at IoU 0.50, by name, of those that there are to find.
    """

    recall: Float[np.ndarray, " recall"]
    mean: dict[float, Float[np.ndarray, " recall"]]
    per_class: dict[str, Float[np.ndarray, " recall"]]

    def to_json(self) -> dict[str, Any]:
        """The curves, ready for `json.dumps`, to four decimals."""

        def rounded(curve: np.ndarray) -> list[float]:
            return curve.round(4).tolist()

        return {
            "recall": rounded(self.recall),
            "mean": {f"{iou:.2f}": rounded(curve) for iou, curve in self.mean.items()},
            "per_class_at_iou_0.50": {n: rounded(curve) for n, curve in self.per_class.items()},
        }


def precision_recall(scores: CocoScores) -> PrecisionRecall:
    """The curves whose means are COCO's AP."""
    precision = scores.precision[:, :, :, 0]
    known = [i for i, c in enumerate(scores.per_class) if c.ap is not None]
    means = precision[:, :, known].mean(axis=2) if known else ()
    return PrecisionRecall(
        recall=np.linspace(0, 1, precision.shape[1]),
        mean={float(iou): curve for iou, curve in zip(_IOUS.round(2), means, strict=False)},
        per_class={scores.per_class[i].name: precision[0, :, i] for i in known},
    )
