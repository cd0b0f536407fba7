"""What every family's configuration must hold to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

__all__ = ["Rules", "check", "common_rules"]

Rules: TypeAlias = Iterator[tuple[str, bool, str]]
"""Name, whether it is right, and what would be."""


def check(config: Any, rules: Rules) -> None:
    """Refuse what is not right.

    Raises:
        ValueError: with the name, what it is, and what it must be.
    """
    for name, holds, expected in rules:
        if not holds:
            raise ValueError(f"{name} is {getattr(config, name)!r}, and must be {expected}")


def common_rules(config: Any) -> Rules:
    """Of transformers on a map's cells."""
    for name in ("num_classes", "num_queries", "decoder_layers", "num_heads", "feedforward_dim"):
        yield name, getattr(config, name) >= 1, "at least 1"
    heads = config.num_heads
    whole = config.hidden_dim > 0 and config.hidden_dim % heads == config.hidden_dim % 4 == 0
    yield "hidden_dim", whole, f"a multiple of num_heads ({heads}) and of 4 (sines of x and y)"
    yield "encoder_layers", config.encoder_layers >= 0, "at least 0"
    yield "dropout", 0 <= config.dropout < 1, "in [0, 1)"
