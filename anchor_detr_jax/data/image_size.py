"""The size that images are brought to before a detector looks at them."""

from __future__ import annotations

from dataclasses import dataclass

from anchor_detr_jax.data.buckets import inference_buckets, padded_to
from anchor_detr_jax.data.transforms import resized_hw

__all__ = ["ImageSize"]


@dataclass(frozen=True)
class ImageSize:
    """What an image's size becomes.

    Attributes:
        short_side: its short side is this long,
        long_side: unless its long side would be longer than this.
        fixed_hw: height and width of all instead of these, whatever their aspect was; (): none.

    Raises:
        ValueError: for a length below 1.
    """

    short_side: int = 800
    long_side: int = 1333
    fixed_hw: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("short_side", "long_side"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.fixed_hw and (len(self.fixed_hw) != 2 or min(self.fixed_hw) < 1):
            raise ValueError(f"fixed_hw is {self.fixed_hw}, expected (height, width) in pixels")

    def of(self, hw: tuple[int, int]) -> tuple[int, int]:
        """What an image of this height and width is resized to."""
        if self.fixed_hw:
            return self.fixed_hw[0], self.fixed_hw[1]
        return resized_hw(hw, self.short_side, self.long_side)

    def buckets(self) -> list[tuple[int, int]]:
        """At most six sizes that hold all images, once they are resized."""
        if self.fixed_hw:
            return [padded_to([(self.fixed_hw[0], self.fixed_hw[1])])]
        return inference_buckets(self.short_side, self.long_side)
