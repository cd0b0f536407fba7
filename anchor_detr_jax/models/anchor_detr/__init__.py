"""Anchor DETR: "Query Design for Transformer-Based Detector", Wang et al., AAAI 2022."""

from anchor_detr_jax.models.anchor_detr.config import AnchorDETRConfig
from anchor_detr_jax.models.anchor_detr.model import AnchorDETR

__all__ = ["AnchorDETR", "AnchorDETRConfig"]
