"""DETR: "End-to-End Object Detection with Transformers", Carion et al., ECCV 2020."""

from anchor_detr_jax.models.detr.config import DETRConfig
from anchor_detr_jax.models.detr.model import DETR

__all__ = ["DETR", "DETRConfig"]
