"""What the service counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

__all__ = ["Metrics"]

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Counters, gauges and histograms, in a registry of their own.

    Attributes:
        content_type: of `text`.
    """

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, gauges: Mapping[str, tuple[str, Callable[[], float]]]) -> None:
        """Start from nothing.

        Args:
            gauges: for each name what it means, and what says its value.
        """
        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "anchor_detr_requests",
            "Requests answered; 499: the client hung up before.",
            ["path", "status"],
            registry=registry,
        )
        self._rejected = Counter(
            "anchor_detr_rejected", "Requests refused, by why.", ["reason"], registry=registry
        )
        self._images = Counter("anchor_detr_images", "Pictures answered for.", registry=registry)
        self._batches = Counter(
            "anchor_detr_batches", "Batches run, by their pictures.", ["images"], registry=registry
        )
        self._seconds = Histogram(
            "anchor_detr_seconds",
            "Seconds of an answered request, by stage: read, decode, wait, device; all.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        for name, (meaning, value) in gauges.items():
            Gauge(f"anchor_detr_{name}", meaning, registry=registry).set_function(value)

    def count_request(self, path: str, status: int) -> None:
        """One more request that ended."""
        self._requests.labels(path, str(status)).inc()

    def count_rejected(self, reason: str) -> None:
        """One more request that was refused."""
        self._rejected.labels(reason).inc()

    def count_batch(self, images: int) -> None:
        """One more batch that ran."""
        self._batches.labels(str(images)).inc()

    def count_answered(self, seconds: Mapping[str, float]) -> None:
        """One more picture that was answered for, with the seconds of each stage."""
        self._images.inc()
        for stage, duration in seconds.items():
            self._seconds.labels(stage).observe(duration)

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)
