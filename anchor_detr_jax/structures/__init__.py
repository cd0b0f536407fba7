"""What crosses from one package to the next: arrays on the device, and what was found."""

from anchor_detr_jax.structures.arrays import Images, Outputs, RankedDetections, Targets, pytree
from anchor_detr_jax.structures.detections import (
    Detection,
    Detections,
    coco_results,
    no_detections,
)

__all__ = [
    "Detection",
    "Detections",
    "Images",
    "Outputs",
    "RankedDetections",
    "Targets",
    "coco_results",
    "no_detections",
    "pytree",
]
