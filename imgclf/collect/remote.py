"""Fetching in the workers of a cluster: they download, check and downscale images for another process."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock

from imgclf.collect import demo
from imgclf.collect.downloader import Downloader, Response
from imgclf.collect.manifest import Entry
from imgclf.collect.validation import validated
from imgclf.downloads import DownloadError, check_status

THREADS = 16  # downloads at once in one worker
_downloaders: dict[str, Downloader] = {}  # of this worker, by the id of the run
_lock = Lock()


@dataclass(frozen=True)
class RemoteRun:
    """What a worker needs to know of a call of `fetch.fetch_images`."""

    id: str
    max_image_side: int
    private_addresses: bool
    max_bytes: int
    seconds: float


@dataclass(frozen=True)
class Fetched:
    """What a worker made of an entry: what to store, or why there is nothing.

    Attributes
    ----------
    url : one that had a response meanwhile; "" if none had one.
    """

    content: bytes = b""
    suffix: str = ""
    reason: str = ""
    kind: str = ""
    url: str = ""


def fetch_one(run: RemoteRun, entry: Entry) -> Fetched:
    """Fetch and validate one image, in a worker."""
    if entry.source.startswith("demo:"):
        return _outcome(run, entry, lambda: demo_response(entry.source))
    web = _downloader(run)
    before = web.responses
    fetched = _outcome(run, entry, lambda: _downloaded(web, entry.source))
    return replace(fetched, url=web.last_url) if web.responses > before else fetched


def demo_response(source: str) -> Response:
    """Return the rendered image of a source of the demo set.

    Raises
    ------
    DownloadError : the demo set has no such image.
    """
    response = demo.response(source)
    check_status(response.status)
    return Response(response.body, response.content_type)


def stop(run: RemoteRun) -> None:
    """Abort, in a worker, what it downloads for a run."""
    with _lock:
        if web := _downloaders.pop(run.id, None):
            web.stop()


def _outcome(run: RemoteRun, entry: Entry, response: Callable[[], Response]) -> Fetched:
    try:
        return Fetched(*validated(entry, response(), run.max_image_side))
    except DownloadError as problem:
        return Fetched(reason=problem.reason, kind=problem.kind)


def _downloader(run: RemoteRun) -> Downloader:
    with _lock:
        if run.id not in _downloaders:
            _downloaders[run.id] = Downloader(
                THREADS,
                max_bytes=run.max_bytes,
                seconds=run.seconds,
                purpose="fetches a list of images",
                private_addresses=run.private_addresses,
            )
        return _downloaders[run.id]


def _downloaded(web: Downloader, url: str) -> Response:
    """Return the response for a URL; meanwhile the worker computes something else."""
    from distributed import rejoin, secede

    secede()
    try:
        return web.get(url)
    finally:
        rejoin()
