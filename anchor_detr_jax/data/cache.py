"""Encoded pictures kept in memory."""

from __future__ import annotations

import threading

from anchor_detr_jax.data.annotated import Pictures

__all__ = ["CachedPictures"]


class CachedPictures:
    """Another's pictures, kept as they come until a limit is reached; safe with threads.

    Each process that it is sent to starts with nothing, and has the limit for itself.

    Attributes:
        pictures: where they come from.
        limit_bytes: how much of them is kept, encoded.

    Raises:
        ValueError: for a negative limit.
    """

    def __init__(self, pictures: Pictures, limit_bytes: int) -> None:
        if limit_bytes < 0:
            raise ValueError(f"limit_bytes is {limit_bytes}, expected 0 (none kept) or more")
        self.pictures, self.limit_bytes = pictures, limit_bytes
        self._kept: dict[int, bytes] = {}
        self._kept_bytes = 0
        self._lock = threading.Lock()

    def __reduce__(self):
        return CachedPictures, (self.pictures, self.limit_bytes)

    def __len__(self) -> int:
        return len(self.pictures)

    def name(self, index: int) -> str:
        """What the other calls it."""
        return self.pictures.name(index)

    def encoded(self, index: int) -> bytes:
        """A picture's bytes, from memory if they are there."""
        kept = self._kept.get(index)
        if kept is not None:
            return kept
        encoded = self.pictures.encoded(index)
        with self._lock:
            if index not in self._kept and self._kept_bytes + len(encoded) <= self.limit_bytes:
                self._kept[index] = encoded
                self._kept_bytes += len(encoded)
        return encoded
