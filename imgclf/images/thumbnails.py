"""Thumbnails: made by background threads, kept in an LRU cache (the least recently used is dropped)."""

import atexit
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from joblib import cpu_count

from imgclf import ImgclfError
from imgclf.images import decoding

MOST_THREADS = 4
IDLE_SECONDS = 10.0  # then the threads end, so that thumbnails without a reference are freed
QUALITY = 80  # of the JPEG

Pair = tuple[str, str | Path]


class Thumbnails:
    """An LRU cache of `most` thumbnails: JPEG pictures of images, at most `side` pixels wide and high.

    An image is requested by a pair: a key that stands for its content, so that its thumbnail survives when
    the file moves, and its present path below `folder`. All methods are thread-safe; none reads a file.

    Parameters
    ----------
    folder : where the paths begin.
    side : the longer side of the thumbnails, pixels; smaller images are not enlarged.
    most : size of the cache; at least four pages of thumbnails, so that the next pages can be prepared.
    """

    def __init__(self, folder: Path, side: int, *, most: int = 600) -> None:
        self._folder, self._side, self._most = folder, side, most
        self._cache: OrderedDict[str, bytes | None] = OrderedDict()  # None: there was no file to read
        self._queue: dict[str, str | Path] = {}  # the next one first
        self._in_progress: dict[str, str | Path] = {}
        self._threads: set[threading.Thread] = set()
        self._is_closed = False
        self._changed = threading.Condition()
        # A thread that still decodes when Python exits would crash it.
        atexit.register(_close, weakref.ref(self))

    def prepare(self, pairs: Iterable[Pair]) -> None:
        """Enqueue the missing thumbnails of `pairs` in their order, before all earlier requests.

        Of the earlier requests, the oldest beyond half of `most` are dropped: their page is no longer shown.
        """
        with self._changed:
            self._enqueue(dict(pairs))

    def ready(self, pairs: Iterable[Pair], *, seconds: float) -> dict[str, bytes]:
        """Return the thumbnails of `pairs` that exist after a wait of at most `seconds`, as JPEGs by key.

        Missing ones stay enqueued. The value is b"" for a file that cannot be decoded or is gone; a file that
        was gone is tried again at the next call, since it may be back under another path.
        """
        paths = dict(pairs)
        with self._changed:
            for key in paths.keys() & self._cache.keys():
                self._cache.move_to_end(key)
                if self._cache[key] is None:
                    del self._cache[key]
            self._enqueue(paths)
            self._changed.wait_for(
                lambda: self._is_closed or paths.keys() <= self._cache.keys(), timeout=seconds
            )
            return {key: self._cache[key] or b"" for key in paths if key in self._cache}

    def close(self) -> None:
        """End the threads, each after its present image; nothing is made afterwards."""
        with self._changed:
            self._is_closed = True
            self._queue.clear()
            self._changed.notify_all()
            threads = tuple(self._threads)
        for thread in threads:
            thread.join()

    def _enqueue(self, paths: dict[str, str | Path]) -> None:
        """Put missing thumbnails at the front of the queue, cut it, and start threads where too few run."""
        if self._is_closed:
            return
        new = {
            key: path
            for key, path in paths.items()
            if key not in self._cache and self._in_progress.get(key) != path
        }
        queue = new | {key: path for key, path in self._queue.items() if key not in new}
        self._queue = dict(islice(queue.items(), max(1, self._most // 2)))
        self._threads = {thread for thread in self._threads if thread.is_alive()}
        for _ in range(min(MOST_THREADS, cpu_count(), len(self._queue)) - len(self._threads)):
            thread = threading.Thread(target=self._work, name="imgclf-thumbnails", daemon=True)
            self._threads.add(thread)
            thread.start()
        self._changed.notify_all()

    def _work(self) -> None:
        while job := self._dequeue():
            # Stored also when an unexpected error ends this thread: the image shows as broken.
            thumbnail: bytes | None = b""
            try:
                thumbnail = self._thumbnail(job[1])
            finally:
                self._store(*job, thumbnail)

    def _dequeue(self) -> Pair | None:
        """Return the next image, after a wait for one; None if there is nothing left to do."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._is_closed, timeout=IDLE_SECONDS)
            if not self._queue:
                self._threads.discard(threading.current_thread())
                return None
            key = next(iter(self._queue))
            path = self._in_progress[key] = self._queue.pop(key)
            return key, path

    def _thumbnail(self, path: str | Path) -> bytes | None:
        """Return a JPEG file; b"" if the image cannot be decoded, None if there is no file to read."""
        try:
            with decoding.content(self._folder / path) as encoded:
                try:
                    pixels = decoding.decode(encoded, str(path), side=self._side)
                except ImgclfError:
                    return b""
        except ImgclfError:
            return None
        return decoding.jpeg(decoding.shrink(pixels, self._side), quality=QUALITY)

    def _store(self, key: str, path: str | Path, thumbnail: bytes | None) -> None:
        with self._changed:
            if self._in_progress.get(key) == path:
                del self._in_progress[key]
            if thumbnail is None and (key in self._queue or key in self._in_progress or self._cache.get(key)):
                return  # the file has moved meanwhile, and was requested under its new path
            self._queue.pop(key, None)
            self._cache[key] = thumbnail
            self._cache.move_to_end(key)
            while len(self._cache) > self._most:
                self._cache.popitem(last=False)
            self._changed.notify_all()


def _close(thumbnails: weakref.ref[Thumbnails]) -> None:
    if alive := thumbnails():
        alive.close()
