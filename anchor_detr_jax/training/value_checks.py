"""Settings that cannot be are refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["check_choice", "check_least"]


def check_choice(config: Any, section: str, name: str, choices: tuple[str, ...]) -> None:
    """Refuse a value that is none of these.

    Args:
        config: has the value.
        section: what precedes its name on the command line, such as `data`; or "".
        name: of the value.
        choices: what it may be.

    Raises:
        ValueError: with the name, the value and the choices.
    """
    value, key = getattr(config, name), f"{section}.{name}".removeprefix(".")
    if value not in choices:
        raise ValueError(f"{key} is {value!r}, and must be one of {choices}")


def check_least(config: Any, section: str, least: Mapping[str, int]) -> None:
    """Refuse values that are less than these.

    Args:
        config: has the values.
        section: as for `check_choice`.
        least: bounds by the values' names.

    Raises:
        ValueError: with the name, the value and the bound.
    """
    for name, bound in least.items():
        value, key = getattr(config, name), f"{section}.{name}".removeprefix(".")
        if value < bound:
            raise ValueError(f"{key} is {value}, and must be at least {bound}")
