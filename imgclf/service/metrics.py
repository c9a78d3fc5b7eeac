"""What Prometheus may know: how many, how long, how busy."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

SHARED_FOLDER = (
    "PROMETHEUS_MULTIPROC_DIR"  # where the workers of one service keep their counts, if there are several
)
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The counts of one process; if there are several workers, `exposition` adds them up."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        made = {"registry": self._registry}
        self._requests = Counter(
            "imgclf_requests", "Requests to score images, by the status of their answer.", ["status"], **made
        )
        self._seconds = Histogram(
            "imgclf_request_seconds", "Time from a request's headers to its answer.", buckets=SECONDS, **made
        )
        self._images = Counter(
            "imgclf_images", "Images scored, by the label that was given.", ["label"], **made
        )
        self._together = Histogram(
            "imgclf_images_together", "Images scored together.", buckets=(1, 2, 4, 8), **made
        )
        self._under_way = Gauge(
            "imgclf_requests_under_way",
            "Requests whose images wait or are scored.",
            multiprocess_mode="livesum",
            **made,
        )
        self._workers = Gauge(
            "imgclf_workers", "Processes that are ready.", multiprocess_mode="livesum", **made
        )
        if SHARED_FOLDER not in os.environ:
            ProcessCollector(registry=self._registry)

    def ready(self) -> None:
        """Count this process."""
        self._workers.set(1)

    def answered(self, status: int, seconds: float) -> None:
        """Count an answer to a request to score images."""
        self._requests.labels(str(status)).inc()
        self._seconds.observe(seconds)

    def labelled(self, label: str) -> None:
        """Count an image."""
        self._images.labels(label).inc()

    def together(self, images: int) -> None:
        """Count images that are scored at once."""
        self._together.observe(images)

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Count a request while it is worked on."""
        with self._under_way.track_inprogress():
            yield

    def exposition(self) -> bytes:
        """All counts in Prometheus' text format."""
        if SHARED_FOLDER not in os.environ:
            return generate_latest(self._registry)
        shared = CollectorRegistry()
        MultiProcessCollector(shared)
        return generate_latest(shared)
