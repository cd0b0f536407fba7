"""What TensorBoard reads."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX.proto import event_pb2, summary_pb2
from tensorboardX.record_writer import masked_crc32c

from anchor_detr_jax.whole_files import append_whole

__all__ = ["EventFile"]

# Protobuf makes these when it is imported, unseen by a type checker.
_EVENT_MESSAGES: Any = event_pb2
_SUMMARY_MESSAGES: Any = summary_pb2
Event, SessionLog = _EVENT_MESSAGES.Event, _EVENT_MESSAGES.SessionLog
Summary = _SUMMARY_MESSAGES.Summary


class EventFile:
    """A new event file in a folder of TensorBoard's.

    The messages and the checksum are tensorboardX's, the writing is ours: its `SummaryWriter`
    writes in a thread, which a full disk ends, and then the run waits for that thread for ever; and
    it overwrites a file that was begun in the same second.
    """

    def __init__(self, folder: Path, start_step: int) -> None:
        """Begin a file; what earlier ones say of steps after `start_step` is hidden by it."""
        folder.mkdir(exist_ok=True)
        count = sum(1 for _ in folder.iterdir())
        name = f"events.out.tfevents.{int(time.time()):010}.{socket.gethostname()}.{count:05}"
        self._path = folder / name
        self._write(Event(file_version="brain.Event:2"))
        self._write(Event(step=start_step + 1, session_log=SessionLog(status=SessionLog.START)))

    def add_scalars(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write numbers by their tags."""
        values = [Summary.Value(tag=tag, simple_value=x) for tag, x in numbers.items()]
        self._write(Event(step=step, summary=Summary(value=values)))

    def add_picture(self, step: int, tag: str, size: tuple[int, int], encoded: bytes) -> None:
        """Write an RGB picture of this (width, height), encoded as JPEG or PNG."""
        image = Summary.Image(
            width=size[0], height=size[1], colorspace=3, encoded_image_string=encoded
        )
        self._write(Event(step=step, summary=Summary(value=[Summary.Value(tag=tag, image=image)])))

    def _write(self, event) -> None:
        """In the frame of TFRecord: length, its checksum, content, its checksum."""
        event.wall_time = time.time()
        content = event.SerializeToString()
        length = struct.pack("<Q", len(content))
        framed = [length, _checksum(length), content, _checksum(content)]
        append_whole(self._path, b"".join(framed))


def _checksum(content: bytes) -> bytes:
    return struct.pack("<I", masked_crc32c(content))
