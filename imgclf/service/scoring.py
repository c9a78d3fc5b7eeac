"""Scoring: a thread that batches queued images, and the models that it scores with."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from pathlib import Path, PurePath
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import numpy as np

from imgclf import ImgclfError
from imgclf.classifier.activation_maps import Explainer, NoMaps
from imgclf.classifier.model import Classifier, Outputs, check_familiarity, read_metadata
from imgclf.files import sha256
from imgclf.parameters.table import HUB_MODEL

# Queued images are scored as a batch, each by a stream of the engine (dynamic batching). On two cores with
# other work, 16 clients got 38 responses a second with batches of 2 or of 8, and 30 without batching; for one
# client it makes no difference. 8 keeps more cores busy.
MAX_BATCH = 8
VERSION_DIGITS = 12

log = logging.getLogger("uvicorn.error")


@dataclass(frozen=True, eq=False)
class Model:
    """A classifier that has passed its self-test, and its name in responses.

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

    @property
    def unfamiliar_rate(self) -> float:
        """Share of images like the training images that are unfamiliar, 0 to 1; 0 if no image is."""
        return float(self.classifier.metadata.get("familiarity", {}).get("unfamiliar_rate", 0))

    @cached_property
    def _explainer(self) -> Explainer | NoMaps:
        path = self.classifier.path
        self._check_file()
        try:
            found: Explainer | NoMaps = Explainer.load(path, batch_size=1)
        except NoMaps as error:
            found = error
        self._check_file()
        return found

    def _check_file(self) -> None:
        """Compare the file with the one that was loaded.

        Raises
        ------
        ImgclfError : it was replaced.
        OSError : it cannot be read.
        """
        if sha256(self.classifier.path) != self.sha256:
            raise ImgclfError(f"{self.classifier.path}: was replaced")

    def explainer(self) -> Explainer:
        """Return what computes class activation maps; loaded at the first call, by one thread.

        Raises
        ------
        NoMaps : the classifier has no maps.
        ImgclfError, OSError : its file was replaced, moved, or deleted since it was loaded.
        """
        found = self._explainer
        if isinstance(found, NoMaps):
            raise found
        return found

    @classmethod
    def load(cls, path: Path, *, reject_unfamiliar: bool = False) -> "Model":
        """Open a classifier and run its self-test.

        Raises
        ------
        ImgclfError : see `Classifier.load`; or unfamiliar images are to be rejected, and it cannot tell them.
        """
        # Most requests hold a single image; a batch of two takes twice as long, even half empty.
        content = sha256(path) if path.is_file() else ""  # the next line reports a missing file
        if reject_unfamiliar:
            check_familiarity(path, read_metadata(path))
        classifier = Classifier.load(path, batch_size=1)
        if sha256(path) != content:
            return cls.load(path, reject_unfamiliar=reject_unfamiliar)  # the file was replaced meanwhile
        name = classifier.metadata.get("parameters", {}).get("dataset_name", "classifier")
        return cls(classifier, name, content)

    def about(self) -> dict[str, Any]:
        """Return what clients may see: labels, preprocessing, metrics at training time; no local path."""
        metadata = self.classifier.metadata
        optional: dict[str, Any] = {
            key: metadata[key] for key in ("metrics", "training_images", "imgclf_version") if key in metadata
        }
        if self.classifier.familiar_from is not None:
            optional["familiar_from"] = self.classifier.familiar_from
            optional["unfamiliar_rate"] = self.unfamiliar_rate
        backbone = str(metadata.get("backbone", ""))
        if not HUB_MODEL.fullmatch(backbone):
            backbone = PurePath(backbone).name  # it may be a path on the training machine
        about: dict[str, Any] = {
            "name": self.name,
            "version": self.version,
            "sha256": self.sha256,
            "labels": self.classifier.labels,
            "preprocessing": self.classifier.preprocessing.as_json(),
            "backbone": backbone,
        }
        return about | optional


@dataclass(frozen=True, eq=False)
class _Job:
    """A queued image: (S, S, 3) uint8 pixels, preprocessed for `classifier`."""

    classifier: Classifier
    pixels: np.ndarray
    result: "Future[Outputs]"


class Scorer:
    """Scores queued images in batches, in a thread of its own.

    A classifier is used by one thread at a time, and uses all cores for a batch of several images. Each
    queued image refers to its classifier, so that a model can be replaced while images are queued.

    Parameters
    ----------
    max_batch : largest number of images per batch.
    on_batch : called with the size of each batch.
    """

    def __init__(
        self, *, max_batch: int = MAX_BATCH, on_batch: Callable[[int], None] = lambda images: None
    ) -> None:
        self._max_batch = max_batch
        self._on_batch = on_batch
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="scorer", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def submit(self, classifier: Classifier, pixels: np.ndarray) -> "Future[Outputs]":
        """Queue an image (S, S, 3) uint8; the future holds the outputs of the classifier for it alone."""
        job = _Job(classifier, pixels, Future())
        self._queue.put(job)
        return job.result

    def close(self) -> None:
        """Score all queued images, then end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while self._score_next():
            continue

    def _score_next(self) -> bool:
        """Score the next batch; return whether the queue goes on behind it.

        A function of its own, so that no variable keeps a classifier while the next image is awaited.
        """
        if (first := self._queue.get()) is None:
            return False
        jobs, is_last = self._take(first)
        for classifier, same in groupby(jobs, key=attrgetter("classifier")):
            self._score(classifier, list(same))
        return not is_last

    def _take(self, first: _Job) -> tuple[list[_Job], bool]:
        """Return a batch that begins with `first`, and whether the queue was closed behind it."""
        jobs = [first]
        while len(jobs) < self._max_batch:
            try:
                job = self._queue.get_nowait()
            except Empty:
                break
            if job is None:
                return jobs, True
            jobs.append(job)
        return jobs, False

    def _score(self, classifier: Classifier, jobs: Sequence[_Job]) -> None:
        self._on_batch(len(jobs))
        try:
            found = classifier.outputs(np.stack([job.pixels for job in jobs]))
            parts = [part for part in found if part is not None]
            scored = [Outputs(*of_one) for of_one in zip(*parts, strict=True)]
        except Exception as error:  # every request must get a response, and the thread must go on
            log.exception("scoring failed")
            for job in jobs:
                job.result.set_exception(error)
            return
        for job, result in zip(jobs, scored, strict=True):
            job.result.set_result(result)
