"""Anchor DETR in JAX.

    import anchor_detr_jax as ad

    detector = ad.load("anchor_detr_r50_dc5.pth")
    for found in detector.predict(["a.jpg", "b.jpg"]):
        print(found.names, found.scores, found.boxes)

What this module offers is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anchor_detr_jax.detector import Detector
    from anchor_detr_jax.export.loaded import load_exported
    from anchor_detr_jax.loading import load
    from anchor_detr_jax.structures import Detection, Detections, Images, Outputs
    from anchor_detr_jax.visualize import draw_detections

__version__ = "0.1.0"
__all__ = [
    "Detection",
    "Detections",
    "Detector",
    "Images",
    "Outputs",
    "draw_detections",
    "load",
    "load_exported",
]

_HOMES = {
    "Detection": "structures",
    "Detections": "structures",
    "Detector": "detector",
    "Images": "structures",
    "Outputs": "structures",
    "draw_detections": "visualize",
    "load": "loading",
    "load_exported": "export.loaded",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
