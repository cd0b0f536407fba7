"""Detections in videos, drawn frame by frame as they come."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path

import numpy as np

from anchor_detr_jax.data.video import Frame, VideoReader, VideoWriter
from anchor_detr_jax.structures import Detections
from anchor_detr_jax.visualize import draw_detections, legible_scale

__all__ = ["annotate_video", "frames_with_detections"]

Detect = Callable[[Iterable[np.ndarray]], Iterator[Detections]]
"""Such as `Detector.predict_stream`: detections for each image, in order, as they come."""


def annotate_video(
    video: VideoReader,
    target: str | Path,
    detect: Detect,
    *,
    on_damage: Callable[[float, str], object],
) -> Iterator[tuple[Frame, Detections]]:
    """Write a video with the boxes of what is found, and say what it is, frame by frame.

    Frames keep their times; sound is left out; a tiny video is enlarged by `legible_scale`.

    Args:
        video: to read.
        target: the MP4 to write.
        detect: what finds; few frames are in memory if it asks for few ahead.
        on_damage: called as by `VideoReader.frames`.
    """
    with VideoWriter(target, video) as writer:
        for frame, found in frames_with_detections(video.frames(on_damage), detect):
            height, width, _ = frame.pixels.shape
            drawn = draw_detections(frame.pixels, found, scale=legible_scale((width, height)))
            writer.write(np.asarray(drawn), frame.seconds)
            yield frame, found


def frames_with_detections(
    frames: Iterable[Frame], detect: Detect
) -> Iterator[tuple[Frame, Detections]]:
    """Each frame with what was found in it; a frame is kept until then."""
    waiting: deque[Frame] = deque()

    def pixels(alike: Iterable[Frame]) -> Iterator[np.ndarray]:
        for frame in alike:
            waiting.append(frame)
            yield frame.pixels

    # One size at a time: a frame of another one would wait for its batch, and all others for it.
    for _, alike in groupby(frames, key=lambda frame: frame.pixels.shape):
        for found in detect(pixels(alike)):
            yield waiting.popleft(), found
