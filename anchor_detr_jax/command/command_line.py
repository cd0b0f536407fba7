"""A command line taken apart; what is wrong with it is answered with the nearest that exists."""

from __future__ import annotations

import difflib
import runpy
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from absl import flags

from anchor_detr_jax.command.help import help_text, is_missing, key_flags

__all__ = ["parsed"]

_CONFIG = "config"


def parsed(arguments: Sequence[str]) -> list[str]:
    """What is left of the command line when the flags are taken off it.

    Help is printed here, and so is what is wrong; both end the program.
    """
    if {"--help", "-help", "-h"} & set(arguments[1:]):
        print(help_text())
        sys.exit(0)
    try:
        _check_config_file(arguments)
        return flags.FLAGS(list(arguments))
    except flags.UnrecognizedFlagError as error:
        message = _unknown_flag(error.flagname)
    except flags.Error as error:
        missing = [f"--{flag.name}" for flag in key_flags() if is_missing(flag)]
        message = str(error)
        if "other than None" in message:
            message = f"{' and '.join(missing)} must be given; --help says more"
    except (AttributeError, KeyError, TypeError):  # as ml_collections raises for an unknown key
        message = _unknown_key(arguments)
        if message is None:
            raise
    except (OSError, ValueError) as error:
        message = str(error)
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)


def _unknown_flag(name: str) -> str:
    names = [flag.name for flag in key_flags()]
    head = name.partition(".")[0]
    near = difflib.get_close_matches(name, names)
    if _CONFIG in names and "." in name and head != _CONFIG:
        near = [f"{_CONFIG}.{name}"]  # `--data.root`, where `--config.data.root` is meant
    there = _did_you_mean([f"--{one}" for one in near]) or "; --help lists those there are"
    return f"there is no flag --{name}{there}"


def _did_you_mean(near: Sequence[str]) -> str:
    return f". Did you mean {' or '.join(near)}?" if near else ""


def _check_config_file(arguments: Sequence[str]) -> None:
    """Raise ValueError if --config names a file that is not there."""
    chosen = _config_file(arguments)
    if chosen is None or Path(chosen).is_file():
        return
    folders = dict.fromkeys([Path(chosen).parent, Path("configs")])
    files = [file for folder in folders for file in sorted(folder.glob("*.py"))]
    by_stem = {file.stem: str(file) for file in files if b"def get_config" in file.read_bytes()}
    stem = Path(chosen).stem
    near = [stem] if stem in by_stem else difflib.get_close_matches(stem, by_stem)
    there = _did_you_mean([by_stem[stem] for stem in near])
    there = there or f"; there are {', '.join(by_stem.values()) or 'none in configs/ here'}"
    raise ValueError(f"--config: there is no file {chosen!r}{there}")


def _config_file(arguments: Sequence[str]) -> str | None:
    """The file that --config names; None where it names none."""
    if _CONFIG not in (flag.name for flag in key_flags()):
        return None
    for argument, following in pairwise([*arguments, ""]):
        name, equals, given = argument.partition("=")
        if name in (f"--{_CONFIG}", f"-{_CONFIG}"):
            return (given if equals else following).partition(":")[0]
    return None


def _unknown_key(arguments: Sequence[str]) -> str | None:
    """What is to be said of the first `--config.KEY` that the configuration has not."""
    file = _config_file(arguments)
    if file is None:
        return None
    keys = list(_dotted(runpy.run_path(file)["get_config"]().to_dict()))
    for argument in arguments:
        start, _, key = argument.partition("=")[0].lstrip("-").partition(".")
        if start == _CONFIG and key and key not in keys:
            name, near = key.rpartition(".")[2], _nearest_keys(key, keys)
            if near:
                hint = f'. Did you mean "{near[0].rpartition(".")[2]}", as in --config.{near[0]}?'
            else:
                group = key.rpartition(".")[0] or "it"
                hint = f"; {group} has {', '.join(_siblings(key, keys)) or 'no keys'}"
            return f"the configuration has no key {name!r} (in {argument}){hint}"
    return None


def _dotted(tree: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """The names of all groups and values, such as `optimizer` and `optimizer.lr`."""
    for name, value in tree.items():
        yield above + name
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{above}{name}.")


def _nearest_keys(key: str, keys: Sequence[str]) -> list[str]:
    """Those with nearly this name where it was looked for; else those of this name elsewhere."""
    siblings, name = _siblings(key, keys), key.rpartition(".")[2]
    near = difflib.get_close_matches(name, siblings, cutoff=0.5)
    return [siblings[one] for one in near] or [k for k in keys if k.rpartition(".")[2] == name]


def _siblings(key: str, keys: Sequence[str]) -> dict[str, str]:
    """All that stands where a key was looked for, by its last name."""
    group = key.rpartition(".")[0]
    return {k.rpartition(".")[2]: k for k in keys if k.rpartition(".")[0] == group}
