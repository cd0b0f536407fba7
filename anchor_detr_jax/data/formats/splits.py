"""Which pictures a split has, and a share of one that is held out by chance.

`train:held_out:0.2:7` is a fifth of `train`, drawn by seed 7, and `train:rest:0.2:7` all others.
Each picture's lot depends on its file's name and the seed alone, so that it is the same on every
host, in every format, and in any order, and stays when other pictures come or go.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

__all__ = ["AUTO", "Share", "chosen_splits", "share_of"]

AUTO = "auto"
"""Stands for a split with one of the usual names."""

_HELD_OUT, _REST = "held_out", "rest"
_TO_LEARN = ("train", "train2017", "trainval", "all")
_WITH_VALIDATION = ("trainval", "all")
"""Splits that a validation split may be a part of."""

_TO_VALIDATE = ("val", "valid", "validation", "val2017")
"""A test set is never among them: what is chosen by it is not measured by it."""

_COPY = re.compile(r"\.rf\.\w+(?=\.\w+$)")
"""How Roboflow tells the augmented copies of one picture apart."""


@dataclass(frozen=True)
class Share:
    """Some of the pictures of a split.

    Attributes:
        fraction: share that is held out; in (0, 1).
        seed: of the draw.
        held_out: these, or the rest.
    """

    fraction: float
    seed: int
    held_out: bool

    def has(self, name: str) -> bool:
        """Whether a picture of this name is among them, as all copies of it are.

        Folders do not matter.
        """
        source = _COPY.sub("", PurePath(name).name)
        digest = hashlib.sha256(f"{self.seed} {source}".encode(errors="replace"))
        lot = int.from_bytes(digest.digest()[:8], "big") / 2**64
        return (lot < self.fraction) == self.held_out


def chosen_splits(
    there: Sequence[str], train: str, val: str, *, fraction: float, seed: int
) -> tuple[str, str]:
    """What to learn from and what to measure on; "auto" never lets them share a picture.

    Args:
        there: the data set's splits.
        train: a split, or "auto".
        val: a split, "auto", or "".
        fraction: share of `train` that is held out where `val` is nothing; 0: none.
        seed: of which pictures are held out.

    Returns:
        Two splits for `read_records`; the second is "" where there is nothing to measure on.

    Raises:
        ValueError: if no split has a usual name.
    """
    if train == AUTO:
        train = next((name for name in _TO_LEARN if name in there), "")
        if not train:
            raise ValueError(
                f"there is no split {' or '.join(_TO_LEARN)}, but {', '.join(there) or 'none'}; "
                "say data.train_split"
            )
    if val == AUTO:
        known = (*_WITH_VALIDATION, *_TO_VALIDATE)
        usual = () if share_of(train)[0] in known else _TO_VALIDATE
        val = next((name for name in usual if name in there), "")
    if val or not fraction:
        return train, val
    if share_of(train)[1]:
        raise ValueError(f"data.train_split is a share already, {train!r}; say data.val_split")
    return f"{train}:{_REST}:{fraction:g}:{seed}", f"{train}:{_HELD_OUT}:{fraction:g}:{seed}"


def share_of(split: str) -> tuple[str, Share | None]:
    """A split's own name, and which share of it is meant; None for all of it.

    Raises:
        ValueError: if the words after a colon are none that `chosen_splits` writes.
    """
    name, *words = split.split(":")
    if not words:
        return name, None
    try:
        kind, fraction, *seed = words
        share = Share(float(fraction), int(*seed), kind == _HELD_OUT)
        if kind in (_HELD_OUT, _REST) and 0 < share.fraction < 1:
            return name, share
    except (ValueError, TypeError):
        pass
    raise ValueError(
        f"split {split!r}: expected a name, or as in 'train:held_out:0.2' or 'train:rest:0.2:7' "
        "which share of it, with the fraction that is held out, in (0, 1), and the seed"
    )
