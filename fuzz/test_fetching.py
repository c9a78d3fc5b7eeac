"""Whatever a server sends, an image is fetched whole or its failure has a reason, and nothing else is written."""

import gzip
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import strategies as st

from imgclf import downloads, files
from imgclf.collect.fetch import fetch_images
from imgclf.collect.manifest import Entry
from imgclf.images import decoding
from support.mutations import TEXT, damaged
from support.pictures import jpeg

JPEG = jpeg("red")
HEADERS = [
    b"Content-Length: %d" % len(JPEG),
    b"Content-Length: 0",
    b"Content-Length: -1",
    b"Content-Length: 99999999999",
    b"Transfer-Encoding: chunked",
    b"Content-Encoding: gzip",
    b"Content-Encoding: gzip, br",
    b"Content-Type: text/html",
    b"Location: /next",
    b"Location: http://10.0.0.1/",
    b"Location: http://localhost.:1/",
    b"Location: file:///etc/passwd",
    b"Location: http://[",
    b"Location: //",
    b"Location: \xff\xfe",
    b"Retry-After: 0",
    b"Retry-After: " + b"9" * 5000,
    b"Retry-After: Wed, 21 Oct 99999999999 07:28:00 GMT",
    b"Set-Cookie: a=b; Domain=.; Max-Age=x",
    b"Connection: close",
    b"X: " + b"x" * 200_000,
    b"no header",
    b": ",
    b" folded",
]
STATUS = [b"HTTP/1.1 200 OK", b"HTTP/1.0 200", b"HTTP/1.1 302 Found", b"HTTP/1.1 404 No", b"HTTP/1.1 503 Busy",
          b"HTTP/1.1 100 Continue", b"HTTP/1.1 101 Upgrade", b"HTTP/1.1 304 Same", b"HTTP/9.9 999 \xff", b"<html>", b""]  # fmt: skip
BODIES = [
    JPEG,
    b"%x\r\n%b\r\n0\r\n\r\n" % (len(JPEG), JPEG),
    gzip.compress(JPEG),
    gzip.compress(bytes(10**7)),
    b"<html>",
    b"",
]


@contextmanager
def answering(answers: list[bytes]) -> Iterator[int]:
    """The port of a server that sends these bytes, whatever it is asked, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                    with client:
                        client.recv(65536)
                        client.sendall(answers[0])
                except OSError:
                    if listener.fileno() == -1:
                        return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_answers_of_a_server(fuzz, monkeypatch):
    monkeypatch.setattr(downloads, "BACK_OFF_SECONDS", 0)
    monkeypatch.setattr(downloads, "READ_SECONDS", 0.2)
    monkeypatch.setattr(downloads, "is_public", lambda address: address == "127.0.0.1")
    folder, answers = files.data_dir() / "images" / "fruit", [b""]

    def gives_an_image_or_a_reason(inputs: dict[str, bytes]) -> str:
        shutil.rmtree(files.data_dir(), ignore_errors=True)
        answers[0] = inputs["answer"]
        entry = Entry("red", f"http://127.0.0.1:{port}/a.jpg")
        result = fetch_images([entry], folder, threads=1)
        stored = [path for path in files.data_dir().rglob("*") if path.is_file()]
        if result.fetched:
            assert [path.stem for path in stored] == ["a"] and decoding.read(stored[0]).size
            return "fetched"
        (failure,) = result.failures
        assert 0 < len(failure.reason) < 300
        assert [path.name for path in stored] == (["fetch_failures.tsv"] if result.failures_file else [])
        assert fetch_images([entry], folder, threads=1).fetched == 0
        return failure.reason[:20]

    heads = st.tuples(st.sampled_from(STATUS), st.lists(st.sampled_from(HEADERS), max_size=4))
    whole = st.builds(
        lambda head, body: b"\r\n".join([head[0], *head[1], b"", body]), heads, st.sampled_from(BODIES)
    )
    real = [
        b"\r\n".join([STATUS[0], *HEADERS[:1], b"", JPEG]),
        b"\r\n".join([STATUS[0], HEADERS[4], b"", BODIES[1]]),
    ]
    with answering(answers) as port:
        fuzz((whole | damaged(real, TEXT)).map(lambda answer: {"answer": answer}), gives_an_image_or_a_reason)
