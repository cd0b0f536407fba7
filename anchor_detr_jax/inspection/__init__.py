"""A check of a data set before it is trained on."""

from anchor_detr_jax.inspection.doctor import Inspection, inspect_data

__all__ = ["Inspection", "inspect_data"]
