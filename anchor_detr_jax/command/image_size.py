"""The flags that say what size images are brought to."""

from __future__ import annotations

import re
from typing import Any

from absl import flags

__all__ = ["HeightAndWidth", "ImageSizeFlags"]

flags.disclaim_key_flags()  # they are flags of the command that asks for them


class HeightAndWidth(flags.ArgumentParser[tuple[int, int]]):
    """For a flag such as `--fixed_hw=640x640`."""

    syntactic_help = "HEIGHTxWIDTH"

    def flag_type(self) -> str:
        """What absl calls it."""
        return "size"

    def parse(self, argument: str | tuple[int, int]) -> tuple[int, int]:
        """Raises a ValueError for what is none."""
        if isinstance(argument, tuple):
            return argument
        found = re.fullmatch(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})", argument)
        if not found:
            raise ValueError("expected HEIGHTxWIDTH, such as 640x640")
        return int(found[1]), int(found[2])


class ImageSizeFlags:
    """`--short_side`, `--long_side` and `--fixed_hw`, for commands that run a detector."""

    def __init__(self) -> None:
        self._short_side = flags.DEFINE_integer(
            "short_side", 800, "Short side of the resized images.", 1
        )
        self._long_side = flags.DEFINE_integer("long_side", 1333, "Limit of their long side.", 1)
        self._fixed_hw = flags.DEFINE(
            HeightAndWidth(), "fixed_hw", None, "Size of all instead, whatever their aspect was."
        )

    @property
    def value(self) -> dict[str, Any]:
        """What was given, as `Detector.predict` takes it."""
        return {
            "short_side": self._short_side.value,
            "long_side": self._long_side.value,
            "fixed_hw": self._fixed_hw.value or (),
        }
