"""Metrics for Prometheus: counts, latencies and load."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from imgclf.classifier.results import Labelled

SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # where several workers of one service keep their metrics
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
FAMILIARITY = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1)


class Metrics:
    """The metrics of one process; with several workers, `exposition` sums over them."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "imgclf_requests",
            "Requests to score images, by HTTP status of the response.",
            ["status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "imgclf_request_seconds",
            "Latency from the request headers to the response.",
            buckets=SECONDS,
            registry=registry,
        )
        self._images = Counter(
            "imgclf_images",
            "Images scored, by predicted label, unsure or unfamiliar.",
            ["label"],
            registry=registry,
        )
        self._unfamiliar = Counter(
            "imgclf_unfamiliar_images",
            "Images scored that are unlike the training images, rejected or not.",
            registry=registry,
        )
        self._familiarity = Histogram(
            "imgclf_familiarity",
            "Familiarity of the images scored, 0 to 1.",
            buckets=FAMILIARITY,
            registry=registry,
        )
        self._unfamiliar_rate = Gauge(
            "imgclf_unfamiliar_rate",
            "Expected share of images like the training images that are unfamiliar; 0: none is.",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._together = Histogram(
            "imgclf_images_together", "Images per scoring batch.", buckets=(1, 2, 4, 8), registry=registry
        )
        self._in_progress = Gauge(
            "imgclf_requests_under_way",
            "Requests in progress: queued or being scored.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._workers = Gauge(
            "imgclf_workers",
            "Worker processes that are ready.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        if SHARED_FOLDER not in os.environ:
            ProcessCollector(registry=self._registry)

    def ready(self) -> None:
        """Count this process as a ready worker."""
        self._workers.set(1)

    def responded(self, status: int, seconds: float) -> None:
        """Count a response to a request to score images, and its latency."""
        self._requests.labels(str(status)).inc()
        self._seconds.observe(seconds)

    def loaded(self, unfamiliar_rate: float) -> None:
        """Record what the model promises."""
        self._unfamiliar_rate.set(unfamiliar_rate)

    def predicted(self, image: Labelled, familiar_from: float | None) -> None:
        """Count a scored image, and that it is unfamiliar if its familiarity is below the threshold."""
        self._images.labels(image.name).inc()
        if image.familiarity is not None:
            self._familiarity.observe(image.familiarity)
            self._unfamiliar.inc(image.familiarity < (familiar_from or 0))

    def scored_together(self, images: int) -> None:
        """Record the size of a scoring batch."""
        self._together.observe(images)

    @contextmanager
    def in_progress(self) -> Iterator[None]:
        """Count a request while it is in progress."""
        with self._in_progress.track_inprogress():
            yield

    def exposition(self) -> bytes:
        """Return all metrics in the Prometheus text format."""
        if SHARED_FOLDER not in os.environ:
            return generate_latest(self._registry)
        shared = CollectorRegistry()
        MultiProcessCollector(shared)
        return generate_latest(shared)
