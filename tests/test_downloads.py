import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from imgclf import downloads
from imgclf.downloads import Answer, Downloader, DownloadError


class Handler(BaseHTTPRequestHandler):
    """Gives ten bytes at /ten, nothing at all at /silent, 404 elsewhere."""

    def do_GET(self):
        if self.path == "/silent":
            self.server.ends.wait(20)
        self.send_response(200 if self.path == "/ten" else 404)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(b"0123456789")

    def log_message(self, *args):
        pass


@pytest.fixture
def address(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(downloads, "BACK_OFF_SECONDS", 0.01)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.ends, server.handle_error = threading.Event(), lambda *args: None
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.ends.set()
        server.shutdown()
        thread.join()


def opened(threads=1, *, max_bytes=1000, seconds=10):
    return Downloader(threads, max_bytes=max_bytes, seconds=seconds, purpose="is a test")


def test_answer_has_the_body_and_its_type(address):
    with opened() as servers:
        assert servers.ask(f"{address}/ten") == Answer(b"0123456789", "text/plain")


def test_body_may_be_as_large_as_the_cap_but_no_larger(address):
    with opened(max_bytes=10) as servers:
        assert len(servers.ask(f"{address}/ten").body) == 10
    with opened(max_bytes=9) as servers, pytest.raises(DownloadError) as caught:
        servers.ask(f"{address}/ten")
    assert (caught.value.reason, caught.value.kind) == ("larger than 9e-06 MB", downloads.FINAL)


def test_more_threads_than_lines_wait_for_each_other(address):
    with opened(2) as servers, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(servers.ask, [f"{address}/ten"] * 40))
    assert answers == [Answer(b"0123456789", "text/plain")] * 40


def test_stop_ends_what_is_asked_now_and_refuses_the_rest(address):
    begin = time.monotonic()
    with opened() as servers:
        stopper = threading.Timer(0.2, servers.stop)
        stopper.start()
        for path in ("silent", "ten"):
            with pytest.raises(DownloadError) as caught:
                servers.ask(f"{address}/{path}")
            assert (caught.value.reason, caught.value.kind) == ("the run was stopped", downloads.PASSING)
        stopper.join()
    assert time.monotonic() - begin < 5


def test_time_limit_holds_for_all_attempts_together(address):
    begin = time.monotonic()
    with opened(seconds=0.3) as servers, pytest.raises(DownloadError) as caught:
        servers.ask(f"{address}/silent")
    assert (caught.value.reason, caught.value.kind) == (
        "no whole answer within 0.3 seconds",
        downloads.PASSING,
    )
    assert time.monotonic() - begin < 2


def test_server_out_of_reach_is_not_tried_again(address):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    kinds = []
    with opened() as servers:
        for name in "ab":
            with pytest.raises(DownloadError) as caught:
                servers.ask(f"http://127.0.0.1:{port}/{name}")
            kinds.append(caught.value.kind)
        assert kinds == [downloads.UNREACHABLE, downloads.NOT_TRIED]
        assert not servers.has_answered
        with pytest.raises(DownloadError):
            servers.ask(f"{address}/nothing")
        assert servers.has_answered


@pytest.mark.parametrize(
    "wrong", ["http://a..b/", "http://127.0.0.1:x/", "http:///x", "ftp://127.0.0.1/x", "nothing"]
)
def test_what_is_no_web_address_is_final(monkeypatch, wrong):
    monkeypatch.setenv("NO_PROXY", "*")
    with opened() as servers, pytest.raises(DownloadError) as caught:
        servers.ask(wrong)
    assert (
        caught.value.reason.startswith("the link leads to no web address")
        and caught.value.kind == downloads.FINAL
    )


def test_asking_the_web_needs_no_images():
    others = "{'imgclf.images.decoding', 'imgclf.collect.manifest', 'imgclf.files'}"
    program = f"import sys, imgclf.downloads; sys.exit(not {others}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
