"""Too many requests, the end, a new model, several workers: nothing that was accepted is lost, and nothing is written."""

import json
import os
import select
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from imgclf.service.client import Client, Labelled
from support.bad_requests import base64_of, saved
from support.classifiers import trained
from support.networks import write_tiny_network
from support.pictures import jpeg, png, write_colours
from support.serving import Server, running

NO_FILES = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); "  # to write a byte to a file fails from here on
each_number_of_workers = pytest.mark.parametrize("workers", ["1", "2"])


@pytest.fixture(scope="module")
def long_form() -> list:
    """Files of a request that takes about a second: black PNGs of 16 megapixels, and a red image."""
    black = png(4000, 4000)
    return [("images", ("black.png", black))] * 4 + [("images", ("red.jpg", jpeg("red")))]


def post(server: Server, form: list) -> httpx.Response:
    with httpx.Client(base_url=server.url, verify=False, trust_env=False, timeout=60) as http:
        return http.post("/score", files=form)


def wait_until(is_so: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


@contextmanager
def asking(server: Server, threads: int = 4) -> Iterator[list]:
    """Ask for labels without a pause from several threads; each answer, or error, is put into the list."""
    found: list = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=server.url, verify=False, trust_env=False, timeout=60) as http:
            while not stop.is_set():
                try:
                    found.append(
                        http.post("/score", content=jpeg("red"), headers={"Content-Type": "image/jpeg"})
                    )
                except httpx.TransportError as error:
                    found.append(error)
                    if isinstance(error, httpx.ConnectError):
                        return

    asked = [threading.Thread(target=ask) for _ in range(threads)]
    for thread in asked:
        thread.start()
    try:
        yield found
    finally:
        stop.set()
        for thread in asked:
            thread.join()


def test_a_full_queue_gives_503_and_a_retrying_client_succeeds(serve, long_form):
    server = serve("--queue", "2")
    with ThreadPoolExecutor(2) as pool:
        long = [pool.submit(post, server, long_form) for _ in range(2)]
        wait_until(lambda: server.metric("imgclf_requests_under_way") == 2)
        refused = server.score(jpeg("red"))
        with Client(server.url, attempts=20) as client:
            patient = client.label([jpeg("green")])
        assert all(one.result().status_code == 200 for one in long)
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert refused.json() == {
        "error": "2 requests are waiting already; send the request again after the seconds that Retry-After says"
    }
    assert isinstance(patient[0], Labelled) and patient[0].label == "green"
    assert server.score(jpeg("red")).status_code == 200


def test_slow_uploads_stay_below_the_memory_limit(serve):
    server = serve(limits=json.dumps({"body_bytes": 2_000_000, "held_bytes": 3_000_000}))
    head = b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 2000000\r\n\r\n"
    with socket.create_connection(server.address) as one, socket.create_connection(server.address) as other:
        one.sendall(head + bytes(1_500_000))
        time.sleep(0.5)
        other.sendall(head + bytes(1_600_000))
        other.settimeout(20)
        assert other.recv(100).startswith(b"HTTP/1.1 503")
        assert server.score(jpeg("red")).status_code == 200
    wait_until(lambda: server.score(bytes(1_900_000)).status_code == 422)  # what was held is free again


@each_number_of_workers
def test_shutdown_finishes_all_accepted_requests(model, long_form, workers):
    with running(model, "--workers", workers) as server, ThreadPoolExecutor(6) as pool:
        long = [pool.submit(post, server, long_form) for _ in range(6)]
        wait_until(lambda: server.metric("imgclf_requests_under_way") == 6)
        with asking(server) as short:
            time.sleep(0.2)
            server.signal(signal.SIGTERM)
            answers = [one.result() for one in long]
        assert "Traceback" not in server.stop()
    assert [answer.status_code for answer in answers] == [200] * 6
    assert [answer.json()["images"][4]["label"] for answer in answers] == ["red"] * 6
    assert all(
        isinstance(one, httpx.TransportError) or one.json()["images"][0]["label"] == "red" for one in short
    )
    # Where a line is closed when a request is under way to it, no answer has begun.
    assert {type(one) for one in short if isinstance(one, Exception)} <= {
        httpx.ConnectError,
        httpx.RemoteProtocolError,
        httpx.ReadError,
        httpx.WriteError,
    }


@each_number_of_workers
def test_reload_loses_no_request_and_rejects_a_bad_model(model, tmp_path, workers):
    served = shutil.copy(model, tmp_path / "classifier.onnx")
    (tmp_path / "other").mkdir()
    other = trained(
        write_tiny_network(tmp_path / "other" / "dnn_fixed.onnx"),
        write_colours(tmp_path / "other" / "colours"),
        names={"red": "rouge"},
    )
    with running(served, "--workers", workers) as server, asking(server) as answers:
        wait_until(lambda: server.metric("imgclf_workers") == int(workers))
        before = server.http.get("/metadata").json()["version"]
        os.replace(other, served)
        server.signal(signal.SIGHUP)
        wait_until(lambda: server.log.read_text().count("now serving") == int(workers))
        wait_until(lambda: {answer.json()["images"][0]["label"] for answer in answers[-20:]} == {"rouge"})
        count = len(answers)
        served.write_bytes(b"no model")
        server.signal(signal.SIGHUP)
        wait_until(lambda: server.log.read_text().count("the model is kept as it was") == int(workers))
        wait_until(lambda: len(answers) > count + 20)
    assert [answer for answer in answers if isinstance(answer, Exception) or answer.status_code != 200] == []
    labels = {
        (answer.json()["model"]["version"] == before, answer.json()["images"][0]["label"])
        for answer in answers
    }
    assert labels == {(True, "red"), (False, "rouge")}


def test_a_hundred_reloads_keep_memory_and_threads_flat(model):
    def reload(server: Server, times: int) -> tuple[float, int]:
        for _ in range(times):
            before = server.log.read_text().count("now serving")
            server.signal(signal.SIGHUP)
            wait_until(lambda: server.log.read_text().count("now serving") > before)  # noqa: B023
            assert server.score(jpeg("red")).status_code == 200
        return server.memory_mb(), server.threads()

    with running(model) as server:
        (memory, threads), (later_memory, later_threads) = reload(server, 10), reload(server, 90)
    print(
        f"{memory:.0f} MB and {threads} threads after 10 reloads, {later_memory:.0f} and {later_threads} after 100"
    )
    assert later_threads <= threads + 1 and later_memory < memory + 30


def test_workers_end_when_their_parent_is_killed(model):
    with running(model, "--workers", "2") as server:
        wait_until(lambda: server.metric("imgclf_workers") == 2)
        processes = server.children()
        assert len(processes) >= 2 + 2 * 2  # workers and their decoders
        server.signal(signal.SIGKILL)
        wait_until(lambda: not any(Path(f"/proc/{process}").exists() for process in processes))
        with pytest.raises(ConnectionError):
            socket.create_connection(server.address, timeout=5).close()


def test_a_stalled_upload_is_ended_early_and_one_that_moves_is_not(serve):
    server = serve(limits=json.dumps({"stall_seconds": 1, "stall_bytes": 1000}))
    head = (
        b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 9000\r\n\r\n"
    )
    with (
        socket.create_connection(server.address, timeout=20) as stalled,
        socket.create_connection(server.address, timeout=20) as dripping,
        socket.create_connection(server.address, timeout=20) as moving,
    ):
        stalled.sendall(head + bytes(5000))
        dripping.sendall(head)
        moving.sendall(head)
        for _ in range(30):  # 3 seconds
            time.sleep(0.1)
            moving.sendall(bytes(300))
            with suppress(ConnectionError):  # ended, as it should be
                dripping.sendall(b"x")
        for line in (stalled, dripping):
            answer = line.recv(1000)
            assert answer.startswith(b"HTTP/1.1 408")
            assert b"less than 1,000 bytes arrived within 1 seconds" in answer + line.recv(1000)
        assert moving.recv(1000).startswith(b"HTTP/1.1 422")  # all of it came


@contextmanager
def connections(server: Server, count: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(server.address, timeout=20)) for _ in range(count)
        ]


def another_client(server: Server) -> httpx.Client:
    """A client with another address."""
    return httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.2"), base_url=server.url)


def test_one_client_cannot_hold_all_memory_of_bodies(serve):
    server = serve(limits=json.dumps({"body_bytes": 1_000_000, "held_bytes": 4_000_000}))
    head = b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 1000000\r\n\r\n"
    with connections(server, 8) as lines, another_client(server) as other:
        for line in lines:
            with suppress(ConnectionError):  # refused before all is sent
                line.sendall(head + bytes(900_000))
        wait_until(lambda: len(select.select(lines, [], [], 0)[0]) == 6)
        assert b"503" in select.select(lines, [], [], 0)[0][0].recv(1000)
        answer = other.post("/score", content=jpeg("red"), headers={"Content-Type": "image/jpeg"})
    assert answer.status_code == 200


def test_one_client_cannot_open_all_connections(serve):
    server = serve(limits=json.dumps({"client_connections": 20}))
    with connections(server, 40) as lines, another_client(server) as other:
        answers = [line.recv(1000) for line in lines[-10:]]
        assert other.get("/health").status_code == 200
    assert all(answer.startswith(b"HTTP/1.1 503") and b"too many connections" in answer for answer in answers)
    assert server.score(jpeg("red")).status_code == 200


def test_a_client_that_does_not_read_is_disconnected(serve):
    server = serve(limits=json.dumps({"write_seconds": 1}))
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with line:
        line.connect(server.address)
        line.settimeout(20)
        with pytest.raises(ConnectionError):
            while True:  # it reads nothing, so that the service cannot send its answers
                line.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
    assert server.score(jpeg("red")).status_code == 200


def test_metrics_of_workers_are_summed_and_leave_no_files(model, tmp_path):
    (tmp_path / "temporary").mkdir()
    with running(model, "--workers", "2", environment={"TMPDIR": str(tmp_path / "temporary")}) as server:
        for _ in range(30):
            assert post(server, [("images", ("a.jpg", jpeg("blue")))]).status_code == 200
        assert {server.metric("imgclf_images_total") for _ in range(5)} == {30}
        assert server.metric("imgclf_requests_under_way") == 0
        server.stop()
    assert list((tmp_path / "temporary").iterdir()) == []


def test_no_upload_is_written_to_disk(serve):
    server = serve(prelude=NO_FILES)
    content = saved("PNG", 800)
    assert len(content) > 1_500_000  # a form's file above 1 MB goes to disk, if nobody prevents it
    answers = [
        server.score(content, "image/png"),
        server.http.post("/score", files=[("images", ("a.png", content))] * 3),
        server.http.post("/score", json={"images": [base64_of(content)]}),
    ]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert server.score(b"no image").status_code == 422
