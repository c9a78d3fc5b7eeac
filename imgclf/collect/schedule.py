"""The order in which images are fetched: hosts in turn, and only few requests to one host at once."""

from collections import Counter, deque
from collections.abc import Iterable
from math import inf
from urllib.parse import urlsplit

from imgclf.collect.manifest import Entry
from imgclf.downloads import TRANSIENT, DownloadError

PER_HOST = 4  # requests to one host at once
MAX_CONSECUTIVE_FAILURES = (
    10  # of one host, each after all attempts; then the rest of it waits for the next run
)


def host(source: str) -> str:
    """Return host name and port of a source, in lower case; empty for the demo set, or if there is none."""
    try:
        parts = urlsplit(source)
    except ValueError:
        return ""
    return parts.netloc.rpartition("@")[2].lower() if parts.scheme != "demo" else ""


class Schedule:
    """Entries that wait for a thread. Each operation takes the same short time, however many there are.

    A slow host occupies `PER_HOST` threads at most. A host that fails `MAX_CONSECUTIVE_FAILURES` times in a
    row, for example by status 429 or timeouts, gets no more requests in this run.
    """

    def __init__(self, entries: Iterable[Entry]):
        self._waiting: dict[str, deque[Entry]] = {}
        for entry in entries:
            self._waiting.setdefault(host(entry.source), deque()).append(entry)
        self._free = deque(self._waiting)  # the hosts that have entries waiting and may get a request
        self._active: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()  # in a row

    def take(self) -> Entry | None:
        """Return the next entry to fetch; None if there is none before one in progress is done."""
        if not self._free:
            return None
        name = self._free.popleft()
        entry = self._waiting[name].popleft()
        self._active[name] += 1
        self._offer(name)
        return entry

    def done(self, entry: Entry, problem: DownloadError | None) -> dict[Entry, DownloadError]:
        """Note the outcome of an entry that was taken; return the errors of those that are given up by it."""
        name = host(entry.source)
        was_free = self._may_get_a_request(name)
        self._active[name] -= 1
        is_failure = problem is not None and problem.kind == TRANSIENT
        self._failures[name] = self._failures[name] + 1 if is_failure else 0
        if problem and name and self._failures[name] >= MAX_CONSECUTIVE_FAILURES:
            return self._give_up(name, problem, was_free)
        if not was_free:
            self._offer(name)
        return {}

    def _may_get_a_request(self, name: str) -> bool:
        return bool(self._waiting[name]) and self._active[name] < (PER_HOST if name else inf)

    def _offer(self, name: str) -> None:
        if self._may_get_a_request(name):
            self._free.append(name)

    def _give_up(self, name: str, problem: DownloadError, was_free: bool) -> dict[Entry, DownloadError]:
        reason = (
            f"not tried: {MAX_CONSECUTIVE_FAILURES} images of this host in a row failed ({problem.reason})"
        )
        left = {entry: DownloadError(reason, TRANSIENT) for entry in self._waiting[name]}
        self._waiting[name].clear()
        if was_free:
            self._free.remove(name)
        return left
