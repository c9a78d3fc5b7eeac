"""Requests to this machine never reach a proxy; others do, unless NO_PROXY names their server."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner

from imgclf import ImgclfError, cli, downloads
from imgclf.collect.downloader import Downloader
from imgclf.downloads import DownloadError
from imgclf.service.client import Client
from support.pictures import jpeg

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
TOKEN = "a-token-of-24-characters"


class Recorder(ThreadingHTTPServer):
    """A server that records request line and Authorization of each request, and answers as configured.

    Attributes
    ----------
    location : where it redirects to; empty: it answers 200 with the body "ten bytes!".
    """

    def __init__(self, location: str = "") -> None:
        self.requests: list[tuple[str, str]] = []
        self.location = location
        super().__init__(("", 0), _Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Recorder

    def answer(self) -> None:
        self.server.requests.append((self.requestline, self.headers.get("Authorization", "")))
        self.send_response(302 if self.server.location else 200)
        self.send_header("Location", self.server.location)
        self.send_header("Content-Length", "10")
        self.end_headers()
        self.wfile.write(b"ten bytes!")

    do_GET = do_POST = do_CONNECT = answer

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[type[Recorder]]:
    """Starts recorders; all are closed at the end of the test."""
    started = []

    def start(**settings: str) -> Recorder:
        started.append(Recorder(**settings))
        return started[-1]

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


@pytest.fixture(params=["HTTP_PROXY", "all_proxy"])
def proxy(serve, request, monkeypatch) -> Recorder:
    """A proxy that listens, and that the environment names in one of the usual ways."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(downloads, "BACK_OFF_SECONDS", 0.01)
    recorder = serve()
    monkeypatch.setenv(request.param, recorder.url)
    return recorder


def fetched(url: str) -> bytes:
    with Downloader(1, max_bytes=1000, seconds=10, purpose="is a test", private_addresses=True) as downloader:
        return downloader.get(url).body


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "127.0.0.2", "127.1", "0.0.0.0"])
def test_a_request_to_this_machine_goes_to_it_directly(serve, proxy, host):
    server = serve()
    assert fetched(f"http://{host}:{server.server_port}/x") == b"ten bytes!"
    assert len(server.requests) == 1 and proxy.requests == []


@pytest.mark.parametrize(
    "host",
    [
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "localhost.",
        "photos.localhost",
        "127.9.9.9",
        socket.gethostname(),
    ],
)
def test_a_request_to_this_machine_that_fails_is_not_sent_through_the_proxy(proxy, host):
    with pytest.raises(DownloadError, match="no connection"):  # nothing listens there
        fetched(f"http://{host}:1/x")
    assert proxy.requests == []


@pytest.mark.parametrize(
    "host", ["example.org", "localhost.example.org", "128.0.0.1", "127.example.org", "10.0.0.1"]
)
def test_a_request_to_another_machine_goes_through_the_proxy(proxy, host):
    assert fetched(f"http://{host}/x") == b"ten bytes!"
    assert proxy.requests == [(f"GET http://{host}/x HTTP/1.1", "")]


def test_no_proxy_is_honoured_for_other_machines(proxy, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "10.255.255.1.invalid, example.net")
    with pytest.raises(DownloadError, match="no connection"):
        fetched("http://10.255.255.1.invalid/x")
    assert proxy.requests == []
    fetched("http://example.org/x")
    assert len(proxy.requests) == 1


def test_a_redirect_from_outside_to_this_machine_does_not_come_back_to_the_proxy(serve, proxy):
    server = serve()
    proxy.location = f"{server.url}/inside"
    assert fetched("http://example.org/outside") == b"ten bytes!"
    assert [line for line, _ in proxy.requests] == ["GET http://example.org/outside HTTP/1.1"]
    assert [line for line, _ in server.requests] == ["GET /inside HTTP/1.1"]


def test_https_to_this_machine_is_no_tunnel_through_the_proxy(serve, proxy, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    with pytest.raises(DownloadError):
        fetched(f"https://127.0.0.1:{serve().server_port}/x")
    assert proxy.requests == []
    with pytest.raises(DownloadError):
        fetched("https://example.org/x")
    assert proxy.requests[0][0] == "CONNECT example.org:443 HTTP/1.1"


@pytest.mark.parametrize("command", [["call", "{url}"], ["verify", "--url", "{url}", "{model}"]])
def test_image_and_token_for_a_local_service_do_not_reach_the_proxy(
    serve, proxy, tmp_path, monkeypatch, command
):
    server = serve()
    monkeypatch.setenv("IMGCLF_TOKEN", TOKEN)
    (tmp_path / "a.jpg").write_bytes(jpeg("red"))
    (tmp_path / "x.onnx").touch()
    words = [word.format(url=server.url, model=tmp_path / "x.onnx") for word in command]
    result = CliRunner().invoke(cli.main, [*words, str(tmp_path / "a.jpg")])
    assert "not from an imgclf service" in result.stderr
    assert [token for _, token in server.requests] == [f"Bearer {TOKEN}"]
    assert proxy.requests == []


@pytest.mark.parametrize(
    "value", ["ftp://127.0.0.1:1", "http://127.0.0.1:port", "http://[::1", "socks4://127.0.0.1:1"]
)
def test_a_proxy_that_cannot_be_used_is_named_in_one_sentence(monkeypatch, value):
    monkeypatch.setenv("HTTP_PROXY", value)
    with pytest.raises(
        ImgclfError, match="the proxy set in the environment cannot be used: .*; correct HTTP_PROXY"
    ):
        Client("http://127.0.0.1:8080")


@pytest.mark.parametrize("certificates", ["gone.pem", ".", "empty.pem"])
def test_certificates_that_cannot_be_read_are_named_in_one_sentence(monkeypatch, tmp_path, certificates):
    (tmp_path / "empty.pem").touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / certificates))
    for start in (
        lambda: downloads.client("is a test"),
        lambda: fetched("http://127.0.0.1:1/"),
        lambda: Client("http://127.0.0.1"),
    ):
        with pytest.raises(ImgclfError) as caught:
            start()
        assert str(caught.value).startswith(f"SSL_CERT_FILE={tmp_path / certificates}: cannot be used (")
        assert str(caught.value).endswith("); name a file of certificates (PEM), or unset it")
