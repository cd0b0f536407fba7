"""Videos, frame by frame: never more than one of them is in memory here.

PyAV, which brings FFmpeg with it, is an extra of this package and imported when a video is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

__all__ = ["Frame", "VideoReader", "VideoWriter", "check_video_support"]

_BT709, _UNSPECIFIED, _HD = 1, 2, 720
"""How a video says its colours, as H.273 numbers it; from how many rows on 709 is what is meant."""

_QUALITY = {"crf": "20", "preset": "veryfast"}

_SLACK = 0.5
"""Seconds by which a video may be shorter than it says it is."""


@dataclass(frozen=True)
class Frame:
    """One frame of a video.

    Attributes:
        number: among the frames that could be decoded, from 0.
        seconds: when it is shown, from the first frame on.
        pixels: RGB, upright.
    """

    number: int
    seconds: Fraction
    pixels: UInt8[np.ndarray, "h w 3"]


def check_video_support() -> None:
    """Refuse to go on without PyAV.

    Raises:
        ValueError: with the command that installs it.
    """
    _av()


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise ValueError(
            f'videos need PyAV ({error}); pip install "anchor_detr_jax[video]" brings it'
        ) from None
    return av


class VideoReader:
    """A video file to read once, from its beginning. A context manager.

    Attributes:
        path: of the file.
        fps: frames a second, on average.
        tick: the unit of its clock, in seconds.
        count: frames that there should be; None if the file does not say it.
        has_sound: whether there is any.
    """

    def __init__(self, path: str | Path) -> None:
        """Open a file.

        Raises:
            ValueError: if PyAV is missing, or the file is no video or damaged at its head.
            OSError: if there is no such file, or it cannot be read.
        """
        self.path = Path(path)
        self._av = _av()
        with self.path.open("rb"):
            pass  # Python's own message for a file that is not there
        try:
            self._container = self._av.open(str(self.path))
        except self._av.FFmpegError as error:
            raise ValueError(f"{self.path}: not a readable video ({error.strerror})") from None
        if not self._container.streams.video:
            self._container.close()
            raise ValueError(f"{self.path}: there is no picture in this video, sound at most")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self.fps: Fraction = Fraction(self._stream.average_rate or self._stream.guessed_rate or 25)
        self.tick: Fraction = self._stream.time_base
        duration = self._duration()
        guessed = round(duration * self.fps) if duration else None
        self.count: int | None = self._stream.frames or guessed
        self.has_sound = bool(self._container.streams.audio)

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def frames(self, on_damage: Callable[[float, str], object]) -> Iterator[Frame]:
        """All frames that can be decoded, turned upright, as they are asked for.

        Args:
            on_damage: called with the second and with what is wrong there, for each part that
                cannot be decoded, for each frame that is decoded with faults (it is given out),
                and if the file ends before it should.
        """
        start, end = None, Fraction(0)

        def note(what: str) -> None:
            on_damage(float(end), what)

        for number, decoded in enumerate(self._decoded(note)):
            if decoded.pts is not None:
                shown_at = decoded.pts * self.tick
                start = shown_at if start is None else start
                end = shown_at - start
            seconds = end
            if decoded.is_corrupt:
                note("a frame is decoded with faults")
            end = seconds + ((decoded.duration or 0) * self.tick or 1 / self.fps)
            yield Frame(number, seconds, _upright(decoded))
        duration = self._duration()
        if duration and end < duration - _SLACK:
            note(f"the file ends, and should go on to {float(duration):.2f} s")

    def _duration(self) -> Fraction | None:
        if self._stream.duration:
            return self._stream.duration * self._stream.time_base
        if self._container.duration and not self._container.streams.audio:
            return Fraction(self._container.duration, self._av.time_base)
        return None

    def _decoded(self, note: Callable[[str], object]) -> Iterator[VideoFrame]:
        """Frames as they are stored."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except self._av.FFmpegError as error:
                note(f"the file cannot be read on ({error.strerror})")
                return
            try:
                yield from packet.decode()
            except self._av.FFmpegError as error:
                note(f"a frame cannot be decoded ({error.strerror})")


class VideoWriter:
    """Writes an MP4 (H.264, no sound). A context manager; what was written before an error stays.

    The first frame's size is the video's; an odd side grows by one pixel, as the format has it.
    """

    def __init__(self, path: str | Path, like: VideoReader) -> None:
        """Prepare to write, at the speed and with the clock of another video.

        Raises:
            ValueError: if PyAV is missing.
        """
        self._path, self._fps, self._tick = Path(path), like.fps, like.tick
        self._av = _av()
        self._container: Any = None
        self._stream: Any = None
        self._last = -1

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._container is None:
            return
        try:
            if self._stream and self._stream.codec_context.is_open:  # else no frame was taken
                self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()

    def write(self, pixels: UInt8[np.ndarray, "h w 3"], seconds: Fraction) -> None:
        """Add a frame that is shown from then on; frames come in their order.

        Raises:
            OSError: if the file cannot be written.
        """
        frame = self._av.VideoFrame.from_ndarray(_even(pixels), format="rgb24")
        try:
            self._encode(frame, seconds)
        except self._av.FFmpegError as error:
            size = f"{frame.width}x{frame.height}"
            raise OSError(f"{self._path} cannot be written at {size} ({error.strerror})") from None

    def _encode(self, frame: VideoFrame, seconds: Fraction) -> None:
        if self._last < 0:
            self._open(frame.width, frame.height)
        size = {"width": self._stream.width, "height": self._stream.height}
        frame = frame.reformat(**size, format="yuv420p", dst_colorspace="ITU709")
        # Two frames at one time, which some files have, are one too many for the format.
        self._last = max(round(seconds / self._tick), self._last + 1)
        frame.pts, frame.time_base = self._last, self._tick
        self._container.mux(self._stream.encode(frame))

    def _open(self, width: int, height: int) -> None:
        self._container = self._av.open(str(self._path), "w", format="mp4")
        self._stream = self._container.add_stream("libx264", rate=self._fps, options=_QUALITY)
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.time_base = self._tick
        context.colorspace = context.color_primaries = context.color_trc = _BT709


def _upright(decoded: VideoFrame) -> UInt8[np.ndarray, "h w 3"]:
    """Pixels, turned as the file asks for, which says it counter-clockwise."""
    unsaid = decoded.colorspace == _UNSPECIFIED and decoded.height >= _HD
    colours = "ITU709" if unsaid or decoded.colorspace == _BT709 else None
    pixels = decoded.to_ndarray(format="rgb24", src_colorspace=colours)
    return np.ascontiguousarray(np.rot90(pixels, round(decoded.rotation / 90)))


def _even(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "_ _ 3"]:
    """Odd sides grown by one pixel, which repeats the last."""
    height, width, _ = pixels.shape
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
