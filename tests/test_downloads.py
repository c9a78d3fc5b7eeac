import random
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue

import pytest

from imgclf import downloads
from imgclf.downloads import Downloader, DownloadError, Response, retry

GIVE_UP_SECONDS = 30  # of a test that would otherwise hang


class Handler(BaseHTTPRequestHandler):
    """Sends ten bytes at /ten, 404 elsewhere; at /silent nothing, until the client disconnects."""

    def do_GET(self):
        self.server.requested.put(self.path)
        if self.path == "/silent":
            self.connection.settimeout(GIVE_UP_SECONDS)
            self.server.disconnected.put(self.connection.recv(1) == b"")
            self.close_connection = True
            return
        self.send_response(200 if self.path == "/ten" else 404)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(b"0123456789")

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    """A real server that notes the paths requested from it, and whether a client disconnected from /silent."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(downloads, "BACK_OFF_SECONDS", 0.01)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requested, server.disconnected = SimpleQueue(), SimpleQueue()
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def opened(threads=1, *, max_bytes=1000, seconds=10):
    return Downloader(threads, max_bytes=max_bytes, seconds=seconds, purpose="is a test")


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


def test_response_has_the_body_and_its_type(server):
    with opened() as downloader:
        assert downloader.get(f"{server.url}/ten") == Response(b"0123456789", "text/plain")


def test_body_may_be_as_large_as_the_limit_but_no_larger(server):
    with opened(max_bytes=10) as downloader:
        assert len(downloader.get(f"{server.url}/ten").body) == 10
    with opened(max_bytes=9) as downloader, pytest.raises(DownloadError) as caught:
        downloader.get(f"{server.url}/ten")
    assert (caught.value.reason, caught.value.kind) == ("larger than 9e-06 MB", downloads.PERMANENT)


def test_more_threads_than_connections_wait_for_each_other(server):
    with opened(2) as downloader, ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(downloader.get, [f"{server.url}/ten"] * 40))
    assert responses == [Response(b"0123456789", "text/plain")] * 40


def test_stop_aborts_the_request_in_progress_and_refuses_later_ones(server):
    with opened() as downloader:

        def stop():
            server.requested.get(timeout=GIVE_UP_SECONDS)
            downloader.stop()

        stopper = threading.Thread(target=stop)
        stopper.start()
        for path in ("silent", "ten"):
            with pytest.raises(DownloadError) as caught:
                downloader.get(f"{server.url}/{path}")
            assert (caught.value.reason, caught.value.kind) == ("the run was stopped", downloads.TRANSIENT)
        stopper.join()
        assert server.disconnected.get(timeout=GIVE_UP_SECONDS)  # by the client, before the server gave up
    assert server.requested.empty()  # neither another attempt nor the second URL


def test_time_limit_holds_for_all_attempts_together(server):
    with opened(seconds=0.3) as downloader, pytest.raises(DownloadError) as caught:
        downloader.get(f"{server.url}/silent")
    assert (caught.value.reason, caught.value.kind) == (
        "no complete response within 0.3 seconds",
        downloads.TRANSIENT,
    )
    assert server.disconnected.get(timeout=GIVE_UP_SECONDS)
    assert server.requested.qsize() == 1


def test_unreachable_server_is_not_tried_again(server):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    kinds = []
    with opened() as downloader:
        for name in "ab":
            with pytest.raises(DownloadError) as caught:
                downloader.get(f"http://127.0.0.1:{port}/{name}")
            kinds.append(caught.value.kind)
        assert kinds == [downloads.UNREACHABLE, downloads.NOT_TRIED]
        assert not downloader.has_response
        with pytest.raises(DownloadError):
            downloader.get(f"{server.url}/nothing")
        assert downloader.has_response


@pytest.mark.parametrize(
    "wrong", ["http://a..b/", "http://127.0.0.1:x/", "http:///x", "ftp://127.0.0.1/x", "nothing"]
)
def test_an_invalid_url_is_a_permanent_error(monkeypatch, wrong):
    monkeypatch.setenv("NO_PROXY", "*")
    with opened() as downloader, pytest.raises(DownloadError) as caught:
        downloader.get(wrong)
    assert (
        caught.value.reason.startswith("not a URL that can be fetched")
        and caught.value.kind == downloads.PERMANENT
    )


def test_downloads_import_neither_images_nor_manifests_nor_files():
    others = "{'imgclf.images.decoding', 'imgclf.collect.manifest', 'imgclf.files'}"
    program = f"import sys, imgclf.downloads; sys.exit(not {others}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
