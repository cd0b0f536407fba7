"""What a command says of itself: its docstring, and its flags on one screen."""

from __future__ import annotations

import re
import sys
import textwrap
from typing import Any

from absl import flags

__all__ = ["help_text", "is_missing", "key_flags"]

_WIDTH, _COLUMN = 100, 24

_CONFIG = "config object"
_VALUES = {"int": " N", "float": " X", "size": " HEIGHTxWIDTH", _CONFIG: " FILE"}
"""What stands for a flag's value, by its type; else ..."""


def key_flags() -> list[flags.Flag]:
    """The command's own flags, in the order of their definition."""
    return flags.FLAGS.get_key_flags_for_module(sys.argv[0])


def is_missing(flag: flags.Flag) -> bool:
    """Whether a flag must be given, and has no value."""
    return flag.value is None and any(
        "other than None" in validator.message for validator in flag.validators
    )


def help_text() -> str:
    """The docstring of the program that runs, then its flags; those that must be given first."""
    own = key_flags()
    lines = [(sys.modules["__main__"].__doc__ or "").strip(), ""]
    for flag in sorted(own, key=lambda flag: not is_missing(flag)):
        lines += _described(_called(flag), _explained(flag))
        if _kind(flag) == _CONFIG:
            lines += _described(f"--{flag.name}.KEY VALUE", "Any key of the configuration.")
    lines += _described("--helpfull", "Also the flags of the libraries.")
    return "\n".join(lines)


def _called(flag: flags.Flag) -> str:
    if flag.boolean:
        return f"--[no]{flag.name}"
    choices: Any = getattr(flag.parser, "enum_values", None)
    return (
        f"--{flag.name}{' ' + '|'.join(choices) if choices else _VALUES.get(_kind(flag), ' ...')}"
    )


def _kind(flag: flags.Flag) -> str:
    return flag.flag_type().removeprefix("multi ")


def _explained(flag: flags.Flag) -> str:
    text = " ".join((flag.help or "").split()).partition("; repeat this option")[0]
    text = re.sub(r"^<[^>]*>: ", "", text)  # the choices, which stand with the name
    if is_missing(flag):
        return f"{text} [required]"
    if _kind(flag) == _CONFIG or flag.default in (None, "", False):
        return text
    return f"{text} [{flag.default}]"


def _described(name: str, explanation: str) -> list[str]:
    """Two columns; a name that is too long has a line of its own."""
    wrapped = textwrap.wrap(explanation, _WIDTH - _COLUMN - 4)
    if len(name) > _COLUMN:
        wrapped.insert(0, "")
    name = f"  {name}"
    rows = zip([name, *[""] * len(wrapped)], wrapped, strict=False)
    return [f"{left:{_COLUMN + 4}}{right}".rstrip() for left, right in rows]
