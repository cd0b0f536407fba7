"""What the service takes, and for how long it waits."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """Bounds of memory and time.

    Attributes:
        queue_size: requests for detections under way at once, from the first byte of their body to
            the last of their answer.
        max_body_bytes: of a request.
        max_pixels: of a picture.
        read_timeout_s: seconds for a request's head to come, and as many for its body.
        answer_timeout_s: seconds from there to the answer.

    Raises:
        ValueError: for numbers that are not positive.
    """

    queue_size: int = 64
    max_body_bytes: int = 20_000_000
    max_pixels: int = 40_000_000
    read_timeout_s: float = 30.0
    answer_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        for field in fields(self):
            number = getattr(self, field.name)
            if not (number > 0 and math.isfinite(number)):
                raise ValueError(f"{field.name} is {number}, expected more than 0")
