"""A data set to train on, whatever it was read from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from anchor_detr_jax.data.categories import Categories

__all__ = ["AnnotatedDataset", "FilePictures", "Pictures"]


@runtime_checkable
class Pictures(Protocol):
    """Encoded pictures by number; handed to other processes, so small when pickled."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def name(self, index: int) -> str:
        """What messages call a picture, such as its file."""
        ...

    def encoded(self, index: int) -> bytes:
        """A picture as a JPEG, PNG or other file has it.

        Raises:
            OSError: if it cannot be read.
        """
        ...


@dataclass(frozen=True)
class FilePictures:
    """Pictures that are files of their own."""

    folder: Path
    files: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        """The file's path."""
        return str(self.folder / self.files[index])

    def encoded(self, index: int) -> bytes:
        """The file's bytes."""
        return (self.folder / self.files[index]).read_bytes()


@dataclass(frozen=True)
class AnnotatedDataset:
    """Pictures, and what there is to find in each; flat arrays, so that workers get them fast.

    Attributes:
        pictures: one for each row of `hw`.
        hw: height and width of each picture in pixels, known before any is decoded.
        boxes_xyxy_px: of all pictures, one picture after another; clipped to the picture, and with
            an area.
        labels: columns of the logits, one for each box.
        starts: picture i has boxes `starts[i]` up to `starts[i + 1]`.
        categories: what the columns stand for.
        dropped: how many annotations were left out, by reason.
        faults: what was wrong with annotations and pictures that were skipped, a message each.
    """

    pictures: Pictures
    hw: Int[np.ndarray, "n 2"]
    boxes_xyxy_px: Float[np.ndarray, "m 4"]
    labels: Int[np.ndarray, " m"]
    starts: Int[np.ndarray, " n+1"]
    categories: Categories
    dropped: dict[str, int] = field(default_factory=dict)
    faults: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.hw)

    def targets(self, index: int) -> tuple[Float[np.ndarray, "k 4"], Int[np.ndarray, " k"]]:
        """Boxes (x1, y1, x2, y2) in pixels, and labels, of one picture."""
        part = slice(self.starts[index], self.starts[index + 1])
        return self.boxes_xyxy_px[part], self.labels[part]

    @property
    def counts(self) -> Int[np.ndarray, " n"]:
        """How many boxes each picture has."""
        return np.diff(self.starts)

    @property
    def fingerprint(self) -> str:
        """A number that another data set, or another order of this one, does not have."""
        digest = hashlib.sha256()
        for array in (self.hw, self.boxes_xyxy_px, self.labels, self.starts):
            digest.update(np.ascontiguousarray(array).tobytes())
        digest.update(repr(self.categories).encode())
        for index in range(len(self)):
            # Without folders: a data set that was moved is still the same.
            digest.update(PurePath(self.pictures.name(index)).name.encode() + b"\n")
        return digest.hexdigest()[:16]
