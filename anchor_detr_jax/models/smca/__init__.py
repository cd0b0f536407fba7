"""SMCA: "Fast Convergence of DETR with Spatially Modulated Co-Attention", Gao et al., ICCV 2021."""

from anchor_detr_jax.models.smca.config import SMCAConfig
from anchor_detr_jax.models.smca.model import SMCA

__all__ = ["SMCA", "SMCAConfig"]
