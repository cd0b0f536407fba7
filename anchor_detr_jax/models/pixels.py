"""From uint8 pixels to what backbones were trained on."""

from __future__ import annotations

import jax.numpy as jnp

from anchor_detr_jax.layers.padding import FeatureMap
from anchor_detr_jax.structures import Images

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "normalised"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalised(images: Images | FeatureMap) -> FeatureMap:
    """RGB scaled to [0, 1], minus ImageNet's mean, over its standard deviation.

    A feature map is what that gives, and stays as it is.
    """
    if isinstance(images, FeatureMap):
        return images
    pixels = jnp.asarray(images.pixels, jnp.float32) / 255
    pixels = (pixels - jnp.asarray(IMAGENET_MEAN)) / jnp.asarray(IMAGENET_STD)
    return FeatureMap(pixels, jnp.asarray(images.valid_hw))
