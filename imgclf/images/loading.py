"""Loading image files: read, decoded and preprocessed in a pool of threads that prefetches."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from joblib import cpu_count

from imgclf import ImgclfError
from imgclf.images import decoding, pointers
from imgclf.images.preprocessing import Preprocessing
from imgclf.images.stores import StoreError

T = TypeVar("T")
R = TypeVar("R")
PREFETCH = 32  # images decoded before they are needed
REMOTE_THREADS = 16  # a thread that waits for a store needs no processor


@dataclass(frozen=True)
class Skipped:
    """An image that could not be used, and why."""

    path: str
    reason: str


class Unseen(Exception):
    """A process on another machine does not see the same file at a path."""


@dataclass(frozen=True)
class Source:
    """An image file, and the sha256 that its content must have; "" for any content.

    Attributes
    ----------
    state : size, bytes, and time of the last change, ns, by which another machine knows the same file; None
        for any.
    encoded : the content, if it was sent along.
    """

    path: Path
    sha256: str = ""
    state: tuple[int, int] | None = None
    encoded: bytes | None = None

    def marked(self) -> "Source":
        """Return the source with the state of its file; a file that is gone is left to who reads it.

        An object of a store is read: a worker has no pointer to it.
        """
        if pointers.pointer(self.path):
            return self.with_content()
        with suppress(OSError):
            return replace(self, state=_state(self.path))
        return self

    def with_content(self) -> "Source":
        """Return the source with its content; a file that cannot be read is left to who reads it.

        Raises
        ------
        StoreError : a store does not answer.
        """
        try:
            with decoding.content(self.path) as encoded:
                return replace(self, encoded=encoded)
        except StoreError:
            raise
        except ImgclfError:
            return self

    @contextmanager
    def content(self) -> Iterator[bytes]:
        """Yield the content of the file, see `decoding.content`.

        Raises
        ------
        Unseen : the file is not that of which the state was taken.
        """
        if self.encoded is not None:
            yield self.encoded
            return
        if self.state and not self._is_seen():
            raise Unseen(f"{self.path} is another file, or none, for a worker of the cluster")
        with decoding.content(self.path) as encoded:
            yield encoded

    def _is_seen(self) -> bool:
        with suppress(OSError):
            return _state(self.path) == self.state
        return False

    def pixels(self, preprocessing: Preprocessing) -> np.ndarray:
        """Return the image decoded and letterboxed; (S, S, 3) uint8, RGB.

        Raises
        ------
        ImgclfError : it cannot be read or decoded, or has another content.
        """
        with self.content() as encoded:
            if self.sha256 and hashlib.sha256(encoded).hexdigest() != self.sha256:
                raise ImgclfError(
                    f"{self.path.name}: has changed since 01_prepare_data; run 01_prepare_data again"
                )
            return preprocessing.apply(encoded, self.path.name)


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def load(sources: Iterable[Source], preprocessing: Preprocessing) -> Iterator[np.ndarray | Skipped]:
    """Yield for each image file, in order, its pixels (S, S, 3) uint8, RGB; or why it cannot be used.

    Raises
    ------
    StoreError : a store does not answer, so the images at a URL cannot be used now.
    """

    def pixels_or_reason(source: Source) -> np.ndarray | Skipped:
        try:
            return source.pixels(preprocessing)
        except StoreError:
            raise
        except ImgclfError as error:
            return Skipped(str(source.path), str(error))

    rest = iter(sources)
    first = list(islice(rest, 1))
    threads = max((reading_threads(source.path) for source in first), default=1)
    return in_parallel(pixels_or_reason, chain(first, rest), threads=threads)


def reading_threads(path: Path) -> int:
    """Return how many threads read images in a folder, or others where this one is: more at a URL."""
    return max(cpu_count(), REMOTE_THREADS if pointers.url_of(path) else 0)


def in_parallel(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    threads: int = 0,
    ahead: int | Callable[[], int] = PREFETCH,
) -> Iterator[R]:
    """Yield `function` of each item, in order, computed ahead by threads.

    Stopped early, as by an interruption, it waits for none of them.

    Parameters
    ----------
    threads : 0: as many as there are cores.
    ahead : items that are with the threads, or done and not yet taken; a function is asked before each.
    """
    pool = ThreadPoolExecutor(threads or cpu_count())
    prefetched: deque[Future[R]] = deque()
    rest = iter(items)

    def fill() -> None:
        free = (ahead() if callable(ahead) else ahead) - len(prefetched)
        prefetched.extend(pool.submit(function, item) for item in islice(rest, max(0, free)))

    try:
        fill()
        while prefetched:
            found = prefetched.popleft().result()
            fill()
            yield found
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def load_all(paths: Sequence[Path], preprocessing: Preprocessing) -> np.ndarray:
    """Return the pixels of all image files that can be read; (n, S, S, 3) uint8, RGB.

    Raises
    ------
    ImgclfError : none can be read.
    """
    if not paths:
        raise ImgclfError("no images were given; give at least one image file")
    loaded = list(load(map(Source, paths), preprocessing))
    pixels = [image for image in loaded if not isinstance(image, Skipped)]
    if not pixels:
        first = next(image.reason for image in loaded if isinstance(image, Skipped))
        raise ImgclfError(f"none of the {len(paths)} images could be read; the first: {first}")
    return np.stack(pixels)


def existing(paths: Sequence[Path]) -> list[Path]:
    """Return the files that are still there.

    Raises
    ------
    ImgclfError : none is.
    """
    found = [path for path in paths if path.is_file()]
    if not found:
        raise ImgclfError(
            f"none of the {len(paths)} images is there any more; restore them, or run 01_prepare_data again"
        )
    return found


def skipped_note(skipped: Sequence[Skipped]) -> str:
    """Return a sentence about images that could not be read, with the reasons of the first three."""
    return "; ".join([f"{len(skipped)} images could not be read", *(image.reason for image in skipped[:3])])
