import random
import subprocess
import sys
import threading
import time

import pytest

from imgclf import downloads
from imgclf.downloads import DownloadError, retry


class Waits(threading.Event):
    """A stop event that notes the waits and does not spend them; set after so many, if given."""

    def __init__(self, stop_after=None):
        super().__init__()
        self.seconds, self.stop_after = [], stop_after

    def wait(self, timeout=None):
        self.seconds.append(timeout)
        return len(self.seconds) == self.stop_after


class Failing:
    """A request that fails with one error after another, then succeeds."""

    def __init__(self, *errors):
        self.errors, self.sent = list(errors), 0

    def __call__(self):
        self.sent += 1
        if self.errors:
            raise self.errors.pop(0)
        return "the result"


def transient(retry_after=0.0):
    return DownloadError("busy", downloads.TRANSIENT, retry_after)


def test_back_off_doubles_and_has_jitter(monkeypatch):
    monkeypatch.setattr(random, "uniform", lambda low, high: {(0.5, 1.5): 0.75}[low, high])
    waits, request = Waits(), Failing(transient(), DownloadError("away", downloads.UNREACHABLE), transient())
    assert retry(request, attempts=4, back_off_seconds=0.5, stop=waits) == "the result"
    assert (request.sent, waits.seconds) == (4, [0.375, 0.75, 1.5])


def test_attempts_end_and_their_number_is_in_the_error():
    waits, request = Waits(), Failing(*(transient() for _ in range(9)))
    with pytest.raises(DownloadError, match="busy") as caught:
        retry(request, attempts=3, back_off_seconds=0.5, stop=waits)
    assert (request.sent, caught.value.attempts, len(waits.seconds)) == (3, 3, 2)


@pytest.mark.parametrize("kind", [downloads.PERMANENT, downloads.NOT_TRIED])
def test_an_error_that_no_attempt_changes_is_not_retried(kind):
    request = Failing(DownloadError("gone", kind))
    with pytest.raises(DownloadError, match="gone"):
        retry(request, attempts=3, back_off_seconds=0.5, stop=Waits())
    assert request.sent == 1


def test_retry_after_is_the_shortest_wait_and_a_long_one_ends_the_attempts():
    waits, request = Waits(), Failing(transient(20), transient(downloads.MAX_WAIT_SECONDS + 1))
    with pytest.raises(DownloadError):
        retry(request, attempts=9, back_off_seconds=0.5, stop=waits)
    assert (request.sent, waits.seconds) == (2, [20])


def test_no_wait_goes_beyond_the_deadline():
    waits, request = Waits(), Failing(transient(5), transient(25))
    with pytest.raises(DownloadError):
        retry(request, attempts=9, back_off_seconds=0.01, deadline=time.monotonic() + 15, stop=waits)
    assert (request.sent, waits.seconds) == (2, [5])


def test_a_wait_that_is_stopped_is_followed_by_no_attempt():
    waits, request = Waits(stop_after=2), Failing(*(transient() for _ in range(9)))
    with pytest.raises(DownloadError, match="busy"):
        retry(request, attempts=9, back_off_seconds=0.5, stop=waits)
    assert (request.sent, len(waits.seconds)) == (2, 2)


def test_attempts_and_back_off_start_anew_when_bytes_came(monkeypatch):
    monkeypatch.setattr(random, "uniform", lambda low, high: 1.0)
    received = iter(
        [0, 0, 0, 7, 7, 7, 7, 7]
    )  # before and after each request: the second one receives 7 bytes
    waits, request = Waits(), Failing(*(transient() for _ in range(9)))
    with pytest.raises(DownloadError):
        retry(request, attempts=3, back_off_seconds=1, stop=waits, received=lambda: next(received))
    assert (request.sent, waits.seconds) == (4, [1, 1, 2])


def test_less_than_one_attempt_is_refused():
    with pytest.raises(ValueError, match="attempts=0: must be at least 1"):
        retry(Failing(), attempts=0, back_off_seconds=1)


def test_downloads_import_neither_images_nor_manifests_nor_files():
    others = "{'imgclf.images.decoding', 'imgclf.collect.manifest', 'imgclf.files'}"
    program = f"import sys, imgclf.downloads; sys.exit(not {others}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
