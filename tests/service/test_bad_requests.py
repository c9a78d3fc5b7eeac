"""Each bad request is answered by a fault in JSON that says what to do; no harm comes of it, and the next good one is answered."""

import json
import re
import select
import socket
import threading
import time
from contextlib import suppress

import httpx
import pytest

from support import bad_requests
from support.pictures import jpeg
from support.serving import Server

LIMITS = json.dumps({"body_seconds": 2, "header_seconds": 1, "body_bytes": 32_000_000})
MOST_MEMORY_MB = 600  # more than before the first bad request, at any moment
INSIDE = re.compile(r"Traceback|\.py\b|site-packages|/tmp|/home|/work|/root|<module>|Error\(", re.IGNORECASE)


@pytest.fixture(scope="module")
def server(serve) -> Server:
    """A service that loses patience soon."""
    started = serve(limits=LIMITS)
    assert started.score(jpeg("red")).status_code == 200
    return started


@pytest.fixture(scope="module", autouse=True)
def memory_before(server) -> float:
    return server.memory_mb()


def fault(response: httpx.Response) -> str:
    """What a fault says; it must be JSON that tells nothing of the inside."""
    assert 400 <= response.status_code < 500, response.text
    assert response.headers["Content-Type"] == "application/json"
    assert not INSIDE.search(response.text) and len(response.content) < 2000
    said = response.json()
    assert set(said) <= {"error", "images"} and (
        "; " in said["error"] or "says" in said["error"]
    )  # what is wrong; what to do
    return said["error"]


@pytest.mark.parametrize("name", bad_requests.ALL)
def test_a_bad_request_gets_an_error_that_says_what_to_do(server, name):
    bad = bad_requests.ALL[name]
    headers = {**({"Content-Type": bad.kind} if bad.kind is not None else {}), **bad.headers}
    target = httpx.URL(server.url).copy_with(
        raw_path=bad.address.encode()
    )  # as it stands: httpx would tidy it up
    response = server.http.request(bad.method, target, content=bad.made(), headers=headers)
    assert (response.status_code, bad.says in fault(response)) == (bad.status, True), response.text
    assert bad.status != 405 or response.headers["Allow"]
    assert server.score(jpeg("red")).json()["images"][0]["label"] == "red"


@pytest.mark.parametrize("name", bad_requests.RAW)
def test_malformed_http_gets_an_error(server, name):
    status, sent = bad_requests.RAW[name]
    with socket.create_connection(server.address, timeout=20) as line:
        with suppress(ConnectionError):  # it may be refused before all is sent
            line.sendall(sent)
        answer = received(line)
    assert answer.status_code == status and fault(answer)
    assert server.score(jpeg("green")).json()["images"][0]["label"] == "green"


def received(line: socket.socket) -> httpx.Response:
    """The first answer on a line."""
    content = b""
    while (answer := parsed(content)) is None:
        piece = line.recv(65536)
        assert piece, f"the line was closed after {content!r}"
        content += piece
    return answer


def parsed(content: bytes) -> httpx.Response | None:
    """An answer, if it is all there."""
    head, end, body = content.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    if not end or len(body) < int(headers["content-length"]):
        return None
    return httpx.Response(int(lines[0].split()[1]), headers=headers, content=body)


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (421, b"Host: evil.example\r\n"),
        (403, b"Host: localhost\r\nOrigin: https://evil.example\r\n"),
        (415, b"Host: localhost\r\nContent-Type: text/plain\r\n"),
        (415, b"Host: localhost\r\nContent-Type: image/png\r\nContent-Encoding: br\r\n"),
        (401, b"Host: localhost\r\nContent-Type: image/png\r\nAuthorization: Bearer wrong\r\n"),
    ],
)
def test_what_the_headers_forbid_is_refused_before_the_body_comes(server, serve, status, headers):
    if status == 401:
        server = serve(environment={"IMGCLF_TOKEN": "0123456789abcdef"}, headers={})
    with socket.create_connection(server.address, timeout=20) as line:
        line.sendall(b"POST /score HTTP/1.1\r\n" + headers + b"Content-Length: 9000000\r\n\r\n")
        assert received(line).status_code == status


def test_a_hundred_slow_clients_block_nobody_and_time_out(server):
    lines = [socket.create_connection(server.address, timeout=20) for _ in range(100)]
    stop = threading.Event()

    def drip() -> None:
        """A byte of a header, or of a body, to each, ten times a second."""
        for i, line in enumerate(lines):
            line.sendall(
                b"POST /score HTTP/1.1\r\nHost: localhost\r\n"
                + (b"Content-Type: image/png\r\nContent-Length: 9000\r\n\r\n" if i % 2 else b"X: ")
            )
        while not stop.wait(0.1):
            for line in lines:
                with suppress(OSError):  # ended, as it should be
                    line.send(b"x")

    dripping = threading.Thread(target=drip)
    dripping.start()
    while True:
        assert server.score(jpeg("blue")).status_code == 200
        if select.select(lines, [], [], 0)[0]:  # the first of them is ended
            break
    answers = [received(line) for line in lines]
    stop.set()
    dripping.join()
    for line in lines:
        line.close()
    assert [answer.status_code for answer in answers] == [408] * 100


def test_the_rest_of_a_rejected_body_times_out(server):
    with socket.create_connection(server.address, timeout=20) as line:
        line.sendall(b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\n")
        with pytest.raises(ConnectionError):
            for _ in range(150):
                line.sendall(b"x")
                time.sleep(0.1)


def test_a_client_that_disconnects_leaves_nothing_behind(server):
    for _ in range(20):
        with socket.create_connection(server.address) as line:
            line.sendall(
                b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 5000000\r\n\r\n"
                + bytes(100_000)
            )
    assert server.score(jpeg("red")).status_code == 200
    assert server.metric("imgclf_requests_under_way") == 0


def test_one_undecodable_image_is_named(server):
    contents = [jpeg("red"), b"", jpeg("blue"), b"hello"]
    answer = server.http.post(
        "/score", files=[("images", (str(i), content)) for i, content in enumerate(contents)]
    )
    assert answer.status_code == 422
    assert answer.json()["images"] == [
        {"image": 1, "error": "images[1]: the file is empty; replace or delete it"},
        {"image": 3, "error": "images[3]: not an image that can be read; replace or delete it"},
    ]


def test_after_all_bad_requests_memory_is_bounded_and_no_error_was_logged(server, memory_before):
    assert server.memory_mb("VmHWM") < memory_before + MOST_MEMORY_MB
    assert server.metric("imgclf_requests_under_way") == 0
    log = server.log.read_text()
    assert "Traceback" not in log and "Error" not in log and "unexpected" not in log.lower()
    print(
        f"memory {memory_before:.0f} MB before, {server.memory_mb('VmHWM'):.0f} MB at most, {server.memory_mb():.0f} MB after"
    )
