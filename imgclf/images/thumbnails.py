"""Small pictures of many images, made in the background and kept while they are among the latest."""

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
IDLE_SECONDS = 10.0  # then the threads end, so that pictures which nobody holds any more are freed
QUALITY = 80

Pair = tuple[str, str | Path]


class Thumbnails:
    """JPEG pictures of images, at most `side` pixels wide and high; the latest `most` of them are kept.

    An image is asked for by a pair: a key that stands for its content (its picture survives when the file moves),
    and its present path below `folder`. All methods may be called from any thread and none of them reads a file.

    Parameters
    ----------
    folder : where the paths begin.
    side : the longer side of the pictures, pixels; smaller images stay as they are.
    most : how many pictures are kept; at least four pages of them, so that neighbours can be prepared.
    """

    def __init__(self, folder: Path, side: int, *, most: int = 600) -> None:
        self._folder, self._side, self._most = folder, side, most
        self._made: OrderedDict[str, bytes | None] = (
            OrderedDict()
        )  # latest used last; None: there was no file to read
        self._waiting: dict[str, str | Path] = {}  # the next one first
        self._doing: dict[str, str | Path] = {}
        self._threads: set[threading.Thread] = set()
        self._closed = False
        self._changed = threading.Condition()
        atexit.register(
            _close, weakref.ref(self)
        )  # a thread that decodes while Python ends would bring it down

    def prepare(self, pairs: Iterable[Pair]) -> None:
        """Begin to make the pictures of `pairs` that are missing, first to last, before all that was asked for earlier.

        Of what is still waiting, the oldest above half of `most` is given up: who pages quickly does not look back.
        """
        with self._changed:
            self._want(dict(pairs))

    def ready(self, pairs: Iterable[Pair], *, seconds: float) -> dict[str, bytes]:
        """The pictures of `pairs` that are there after at most `seconds` of waiting, as JPEG files by key.

        What is missing goes on being made. A file that cannot be decoded, or that is gone, gives b""; one that was gone
        is tried again at the next call, since it may be back under another path.
        """
        paths = dict(pairs)
        with self._changed:
            for key in paths.keys() & self._made.keys():
                self._made.move_to_end(key)
                if self._made[key] is None:
                    del self._made[key]
            self._want(paths)
            self._changed.wait_for(lambda: self._closed or paths.keys() <= self._made.keys(), timeout=seconds)
            return {key: self._made[key] or b"" for key in paths if key in self._made}

    def close(self) -> None:
        """End the threads, as soon as each has done its present image. Nothing is made afterwards."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
            threads = tuple(self._threads)
        for thread in threads:
            thread.join()

    def _want(self, paths: dict[str, str | Path]) -> None:
        """Put what is missing in front of the line, cut the line, and see to it that somebody works."""
        if self._closed:
            return
        new = {
            key: path for key, path in paths.items() if key not in self._made and self._doing.get(key) != path
        }
        line = new | {key: path for key, path in self._waiting.items() if key not in new}
        self._waiting = dict(islice(line.items(), max(1, self._most // 2)))
        self._threads = {thread for thread in self._threads if thread.is_alive()}
        for _ in range(min(MOST_THREADS, cpu_count(), len(self._waiting)) - len(self._threads)):
            thread = threading.Thread(target=self._work, name="imgclf-thumbnails", daemon=True)
            self._threads.add(thread)
            thread.start()
        self._changed.notify_all()

    def _work(self) -> None:
        while job := self._next():
            picture: bytes | None = (
                b""  # also if something unforeseen ends this thread: the image shows as broken, the next call starts another
            )
            try:
                picture = self._picture(job[1])
            finally:
                self._keep(*job, picture)

    def _next(self) -> Pair | None:
        """The image to do now, after waiting for one; None if there is nothing more to do."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed, timeout=IDLE_SECONDS)
            if not self._waiting:
                self._threads.discard(threading.current_thread())
                return None
            key = next(iter(self._waiting))
            path = self._doing[key] = self._waiting.pop(key)
            return key, path

    def _picture(self, path: str | Path) -> bytes | None:
        """A JPEG file; b"" if the image cannot be decoded, None if there is no file to read."""
        try:
            encoded = decoding.read_bytes(self._folder / path)
        except ImgclfError:
            return None
        try:
            pixels = decoding.decode(encoded, str(path), side=self._side)
        except ImgclfError:
            return b""
        return decoding.jpeg(decoding.shrink(pixels, self._side), quality=QUALITY)

    def _keep(self, key: str, path: str | Path, picture: bytes | None) -> None:
        with self._changed:
            if self._doing.get(key) == path:
                del self._doing[key]
            if picture is None and (key in self._waiting or key in self._doing or self._made.get(key)):
                return  # it has moved while its old path was tried, and was asked for under the new one
            self._waiting.pop(key, None)
            self._made[key] = picture
            self._made.move_to_end(key)
            while len(self._made) > self._most:
                self._made.popitem(last=False)
            self._changed.notify_all()


def _close(thumbnails: weakref.ref[Thumbnails]) -> None:
    if alive := thumbnails():
        alive.close()
