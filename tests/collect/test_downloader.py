import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue

import pytest

from imgclf import downloads
from imgclf.collect.downloader import Downloader, Response
from imgclf.downloads import DownloadError

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
    return Downloader(
        threads, max_bytes=max_bytes, seconds=seconds, purpose="is a test", private_addresses=True
    )


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
        assert downloader.responses == 0
        with pytest.raises(DownloadError):
            downloader.get(f"{server.url}/nothing")
        assert downloader.responses == 1


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
