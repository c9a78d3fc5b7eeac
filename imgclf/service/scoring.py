"""One thread that scores what waits, and the models that it scores with."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path, PurePath
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import numpy as np

from imgclf.classifier.model import Classifier
from imgclf.files import sha256

# Images that wait are scored together, each by a stream of the engine. On two cores with other work, 16 clients got 38 answers a second
# with 2 or with 8 together, and 30 with one by one; for one client it makes no difference. 8 keeps more cores busy.
MOST_TOGETHER = 8
VERSION_DIGITS = 12

log = logging.getLogger("uvicorn.error")


@dataclass(frozen=True, eq=False)
class Model:
    """A classifier that has passed its self-test, and what answers call it.

    Attributes
    ----------
    name : of its data set. sha256 : of the file, in hexadecimal digits.
    """

    classifier: Classifier
    name: str
    sha256: str

    @property
    def version(self) -> str:
        """The first digits of the file's sha256."""
        return self.sha256[:VERSION_DIGITS]

    @classmethod
    def load(cls, path: Path) -> "Model":
        """Open a classifier and run its self-test.

        Raises
        ------
        ImgclfError : see `Classifier.load`.
        """
        # Single images are what is asked for mostly; a batch of two takes twice as long, also half empty.
        content = sha256(path) if path.is_file() else ""  # a file that is not there is told by the next line
        classifier = Classifier.load(path, batch_size=1)
        if sha256(path) != content:
            return cls.load(path)  # it was replaced meanwhile
        name = classifier.metadata.get("parameters", {}).get("dataset_name", "classifier")
        return cls(classifier, name, content)

    def about(self) -> dict[str, Any]:
        """What a caller may know of it: labels, input size, metrics at training time; no path of this machine."""
        metadata = self.classifier.metadata
        told = {
            key: metadata[key] for key in ("metrics", "training_images", "imgclf_version") if key in metadata
        }
        backbone = PurePath(
            str(metadata.get("backbone", ""))
        ).name  # may be the path of a file where it was trained
        return {
            "name": self.name,
            "version": self.version,
            "sha256": self.sha256,
            "labels": self.classifier.labels,
            "preprocessing": self.classifier.preprocessing.as_json(),
            "backbone": backbone,
            **told,
        }


@dataclass(frozen=True, eq=False)
class _Job:
    """One image that waits: (S, S, 3) uint8 pixels prepared for `classifier`."""

    classifier: Classifier
    pixels: np.ndarray
    result: "Future[tuple[np.ndarray, np.ndarray]]"


class Scorer:
    """Scores images in a thread of its own, those that wait together.

    A classifier scores for one thread at a time, and uses all cores if it is given several images. Each image brings its
    classifier, so that a model can be replaced while images for the old one wait.

    Parameters
    ----------
    most_together : images taken from the queue at once, at most.
    watch : told how many images are scored together, each time.
    """

    def __init__(
        self, *, most_together: int = MOST_TOGETHER, watch: Callable[[int], None] = lambda images: None
    ) -> None:
        self._most_together = most_together
        self._watch = watch
        self._waiting: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="scorer", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def submit(self, classifier: Classifier, pixels: np.ndarray) -> "Future[tuple[np.ndarray, np.ndarray]]":
        """The scores and probabilities, each (k,) float32, that one image (S, S, 3) uint8 will have."""
        job = _Job(classifier, pixels, Future())
        self._waiting.put(job)
        return job.result

    def close(self) -> None:
        """Score all that waits, then end."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            jobs, is_last = self._take(first)
            for classifier, same in groupby(jobs, key=attrgetter("classifier")):
                self._score(classifier, list(same))
            if is_last:
                return

    def _take(self, first: _Job) -> tuple[list[_Job], bool]:
        """What waits, `first` in front, and whether the end was among it."""
        jobs = [first]
        while len(jobs) < self._most_together:
            try:
                job = self._waiting.get_nowait()
            except Empty:
                break
            if job is None:
                return jobs, True
            jobs.append(job)
        return jobs, False

    def _score(self, classifier: Classifier, jobs: Sequence[_Job]) -> None:
        self._watch(len(jobs))
        try:
            scored = list(zip(*classifier.scores(np.stack([job.pixels for job in jobs])), strict=True))
        except Exception as error:  # each request that waits must get an answer, and the thread must live on
            log.exception("scoring failed")
            for job in jobs:
                job.result.set_exception(error)
            return
        for job, result in zip(jobs, scored, strict=True):
            job.result.set_result(result)
