"""Pictures that are there twice, within a split or in two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt8

from anchor_detr_jax.data.formats.records import PictureRecord
from anchor_detr_jax.inspection.findings import Finding, finding
from anchor_detr_jax.inspection.picture_files import PictureFacts

__all__ = ["Seen", "check_twins", "first_alike"]

_ALIKE = 15
"""Bits of 256 by which the looks of similar pictures differ at most.

On 139 photographs: 13 at half the size, 16 at JPEG quality 50; 61 and more for two photographs.
"""


@dataclass(frozen=True)
class Seen:
    """A picture that was looked at.

    Attributes:
        split: its name,
        rank: and place: what is learned from comes first.
        picture: what the annotations say.
        facts: what the file says.
    """

    split: str
    rank: int
    picture: PictureRecord
    facts: PictureFacts

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.picture.path.name} ({self.split})"


def check_twins(seen: Sequence[Seen]) -> Iterator[Finding]:
    """One finding for each picture that is the same as, or nearly the same as, one before it.

    The order is that of the splits, and in these of files and places in the annotations, so that
    it does not matter in which order pictures come.
    """
    ordered = sorted(seen, key=lambda s: (s.rank, str(s.picture.path), s.picture.where))
    first: dict[object, Seen] = {}
    for one in ordered:
        # Where nothing was decoded, a file that is named twice is still known.
        key = one.facts.pixels or str(one.picture.path)
        twin = first.setdefault(key, one)
        if twin is not one:
            apart = twin.split != one.split
            kind = "picture in two splits" if apart else "picture twice"
            message = f"{one.name} has the pixels of {twin.name}"
            yield finding(kind, one.picture.where, message)
    yield from _similar([one for one in first.values() if one.facts.look])


def _similar(seen: Sequence[Seen]) -> Iterator[Finding]:
    looks = np.frombuffer(b"".join(one.facts.look for one in seen), np.uint8).reshape(-1, 32)
    earlier = first_alike(looks)
    for i in np.flatnonzero(earlier < np.arange(len(seen))).tolist():
        one, twin = seen[i], seen[int(earlier[i])]
        apart = twin.split != one.split
        kind = "similar pictures in two splits" if apart else "similar pictures"
        yield finding(kind, one.picture.where, f"{one.name} looks like {twin.name}")


def first_alike(looks: UInt8[np.ndarray, "n 32"]) -> Int[np.ndarray, " n"]:
    """For each row the first one that differs from it in 15 bits at most; itself if it is that.

    The bits are dealt out to 16 hands. Rows that are alike have one hand in common, so only rows
    that have are compared.
    """
    first, hands = np.arange(len(looks)), _ALIKE + 1
    bits = np.unpackbits(looks, axis=1)
    for hand in range(hands):
        keys = np.packbits(bits[:, hand::hands], axis=1)
        _, key = np.unique(keys, axis=0, return_inverse=True)
        order = np.argsort(key.reshape(-1), kind="stable")
        borders = np.flatnonzero(np.diff(key.reshape(-1)[order])) + 1
        for group in np.split(order, borders):
            _note_alike(looks, group, first)
    return first


def _note_alike(
    looks: UInt8[np.ndarray, "n 32"], group: Int[np.ndarray, " g"], first: Int[np.ndarray, " n"]
) -> None:
    """Look for an earlier row than is known so far, among some rows in ascending order."""
    for place in range(1, len(group)):
        row, before = group[place], group[:place]
        distance = np.bitwise_count(looks[before] ^ looks[row]).sum(axis=1, dtype=np.int64)
        alike = before[distance <= _ALIKE]
        if len(alike):
            first[row] = min(first[row], alike[0])
