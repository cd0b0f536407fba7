"""What happens to a picture between a request and its answer."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from anchor_detr_jax.data.batching import PreparedImage
from anchor_detr_jax.serving.batcher import Batcher
from anchor_detr_jax.serving.limits import Limits
from anchor_detr_jax.serving.metrics import Metrics
from anchor_detr_jax.serving.pictures import decoded
from anchor_detr_jax.serving.reading import Asked
from anchor_detr_jax.serving.refusals import Refusal, UnreadRefusal
from anchor_detr_jax.serving.served import ServedDetector
from anchor_detr_jax.structures import RankedDetections

__all__ = ["Service"]

_DECODERS = min(4, os.cpu_count() or 1)
"""Pictures that are decoded and resized at once; each may have `max_pixels`."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Decoded:
    picture_wh: tuple[int, int]
    bucket: tuple[int, int]
    prepared: PreparedImage


class Service:
    """A served detector with its queue: decodes in threads, detects in batches.

    Attributes:
        served: the detector.
        limits: bounds of memory and time.
        asked: threshold, and `top_k`, where a request does not say its own.
        metrics: what is counted.
        compiled: programs that are ready.
    """

    def __init__(
        self, served: ServedDetector, limits: Limits, *, threshold: float, batch_wait_s: float
    ) -> None:
        self.served, self.limits = served, limits
        self.asked = Asked(threshold, served.top_k)
        self.compiled = 0
        self._under_way = 0
        self._decoders = ThreadPoolExecutor(_DECODERS, thread_name_prefix="decode")
        self._batcher = Batcher[tuple[int, int], PreparedImage, RankedDetections](
            self._run, batch_size=served.batch_sizes[-1], wait_s=batch_wait_s
        )
        self.metrics = Metrics(
            {
                "under_way": ("Requests for detections under way.", lambda: self._under_way),
                "queue_length": ("Pictures that wait for the device.", self._queue_length),
            }
        )

    @property
    def ready(self) -> bool:
        """Whether all programs are compiled."""
        return self.compiled == len(self.served.programs)

    @property
    def busy(self) -> bool:
        """Whether the device's thread is at work."""
        return self._batcher.busy

    @asynccontextmanager
    async def working(self) -> AsyncIterator[asyncio.Task[None]]:
        """Warm up and work, inside of this; the task is the warm-up, which may fail."""
        work = asyncio.create_task(self._batcher.work())
        warm_up = asyncio.create_task(self._warm_up())
        try:
            yield warm_up
        finally:
            work.cancel()
            warm_up.cancel()
            await asyncio.gather(work, warm_up, return_exceptions=True)
            self._batcher.close()
            self._decoders.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the queue, for as long as a request is under way.

        Raises:
            UnreadRefusal: if there is none, or the service is not ready.
        """
        if not self.ready:
            done = f"{self.compiled} of {len(self.served.programs)} programs are compiled"
            message = f"the service is warming up ({done}); GET /health says when it is ready"
            raise UnreadRefusal(503, "warming up", message, {"Retry-After": "5"})
        if self._under_way >= self.limits.queue_size:
            message = f"the queue is full ({self._under_way} requests are under way); try later"
            raise UnreadRefusal(503, "full", message, {"Retry-After": "1"})
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    async def detect(self, body: io.BytesIO, asked: Asked) -> dict[str, Any]:
        """The answer to a picture, as JSON.

        Raises:
            Refusal: for what is no picture, and where the model fails.
        """
        started = time.perf_counter()
        loop = asyncio.get_running_loop()
        ready = await loop.run_in_executor(self._decoders, self._decode, body)
        decode_s = time.perf_counter() - started
        try:
            done = await self._batcher.submit(ready.bucket, ready.prepared)
        except Exception as error:
            _log.exception("a batch failed")
            message = "the model failed on this batch; the service's log says how"
            raise Refusal(500, "model failed", message) from error
        width, height = ready.picture_wh
        return {
            "detections": self.served.named(done.found, asked.threshold, asked.top_k),
            "picture": {"width": width, "height": height},
            "batch": done.together,
            "seconds": {"decode": decode_s, "wait": done.waited_s, "device": done.ran_s},
        }

    def _decode(self, body: io.BytesIO) -> _Decoded:
        picture = decoded(body, self.limits.max_pixels)
        return _Decoded(picture.size, *self.served.prepare(picture))

    def _run(self, bucket: tuple[int, int], images: list[PreparedImage]) -> list[RankedDetections]:
        self.metrics.count_batch(len(images))
        return self.served.run(bucket, images)

    def _queue_length(self) -> int:
        return self._batcher.waiting

    async def _warm_up(self) -> None:
        started = time.perf_counter()
        for program in self.served.programs:
            await self._batcher.call(partial(self.served.compile, program))
            self.compiled += 1
        seconds = time.perf_counter() - started
        print(f"ready: {self.compiled} programs compiled in {seconds:.1f} s", flush=True)
