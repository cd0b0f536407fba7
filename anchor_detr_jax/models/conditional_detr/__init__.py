"""Conditional DETR: "Conditional DETR for Fast Training Convergence", Meng et al., ICCV 2021."""

from anchor_detr_jax.models.conditional_detr.config import ConditionalDETRConfig
from anchor_detr_jax.models.conditional_detr.model import ConditionalDETR

__all__ = ["ConditionalDETR", "ConditionalDETRConfig"]
