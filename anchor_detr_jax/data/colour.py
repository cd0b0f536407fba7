"""Changes of colour, which leave the boxes where they are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image, ImageEnhance

from anchor_detr_jax.data.steps import Sample

__all__ = ["JITTER_DRAWS", "ColourJitter", "drawn_jitter"]

JITTER_DRAWS = 5
"""Numbers that a jitter is drawn from."""

_FACTORS = (0.5, 1.5)
_HUE = 18
"""How far hues are turned at most, of Pillow's 256 for the whole circle."""

_NAMES = ("brightness", "contrast", "saturation", "hue")
_ORDERS = tuple(itertools.permutations(range(len(_NAMES))))


@dataclass(frozen=True, slots=True)
class ColourJitter:
    """Changes of brightness, contrast, saturation and hue, one after another.

    Attributes:
        changes: which, and how far: factors, of which 1 changes nothing; for "hue" what is added
            to Pillow's hues, in 256ths of the circle.
    """

    changes: tuple[tuple[str, float], ...]

    def __call__(self, sample: Sample) -> Sample:
        """Change the colours."""
        image = sample.image
        for name, amount in self.changes:
            if name == "hue":
                image = _turned(image, round(amount))
            else:
                image = _ENHANCERS[name](image).enhance(amount)
        return replace(sample, image=image)


def drawn_jitter(draws: Sequence[float]) -> ColourJitter:
    """A jitter from `JITTER_DRAWS` numbers in [0, 1): the four changes, and their order."""
    *amounts, order = draws
    least, most = _FACTORS
    factors = [least + (most - least) * amount for amount in amounts[:3]]
    hue = float(int(amounts[3] * (2 * _HUE + 1)) - _HUE)
    changes = list(zip(_NAMES, (*factors, hue), strict=True))
    return ColourJitter(tuple(changes[place] for place in _ORDERS[int(order * len(_ORDERS))]))


_ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}


def _turned(image: Image.Image, by: int) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    turned = hue.point([(level + by) % 256 for level in range(256)])
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")
