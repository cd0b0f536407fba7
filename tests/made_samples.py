"""Samples for tests of augmentation: plain and noisy pictures, with boxes."""

import numpy as np
from PIL import Image

from anchor_detr_jax.data.steps import Sample


def sample(hw, boxes, colour=(0, 0, 0)):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Sample(Image.new("RGB", hw[::-1], colour), boxes, np.arange(len(boxes)))


def noise(hw, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (*hw, 3)).astype(np.uint8)
    return Sample(Image.fromarray(pixels), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))


def assert_unrelated(*drawn):
    correlations = np.corrcoef(np.array(drawn, float))
    assert abs(correlations - np.eye(len(drawn))).max() < 0.05
