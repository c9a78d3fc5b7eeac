"""The client is patient where that helps, quick to say what is wrong, and answers as the file does."""

import json
import os
import shutil
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner, Result

from imgclf import ImgclfError, cli, downloads
from imgclf.classifier.results import Labelled, Refused
from imgclf.service.client import Client
from support.pictures import jpeg
from support.serving import Server

TOKEN = "a-token-of-24-characters"


@pytest.fixture
def guarded(serve, monkeypatch) -> Server:
    monkeypatch.delenv("IMGCLF_TOKEN", raising=False)
    return serve(environment={"IMGCLF_TOKEN": TOKEN}, headers={"Authorization": f"Bearer {TOKEN}"})


@pytest.fixture
def client(server):
    with Client(server.url) as client:
        yield client


@pytest.fixture
def folder(tmp_path):
    """Three images, a bad one among them, and one that is empty."""
    (tmp_path / "new").mkdir()
    for name, content in {
        "a.jpg": jpeg("red"),
        "b.jpg": b"no image",
        "c.jpg": jpeg("green"),
        "d.jpg": b"",
        "e.jpg": jpeg("blue"),
    }.items():
        (tmp_path / "new" / name).write_bytes(content)
    return tmp_path / "new"


def imgclf(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, list(map(str, arguments)))


class Moody:
    """A server that answers one request after another as configured: (status, headers), or "cut" for no answer."""

    def __init__(self, *moods):
        self.moods = list(moods)
        self.requests = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.requests += 1
                mood = outer.moods.pop(0)
                if mood == "cut":
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                status, headers, body = mood
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *of_no_interest):
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


GOOD = (200, {}, b'{"sha256": "abc", "version": "a"}')


def busy(**headers: str):
    return 503, headers, b'{"error": "64 requests are waiting already; send it again"}'


def test_images_are_classified_in_order_over_several_batches(client):
    colours = ["red", "green", "blue"] * 7
    answers = client.label([jpeg(colour, seed=100 + i) for i, colour in enumerate(colours)])
    assert [answer.label for answer in answers] == colours
    assert all(
        isinstance(answer, Labelled) and answer.score == answer.scores[answer.label] for answer in answers
    )


def test_undecodable_images_are_named_and_the_others_classified(client):
    answers = client.label([b"", jpeg("red"), b"no image", jpeg("green")])
    assert [getattr(answer, "label", answer) for answer in answers] == [
        Refused("the file is empty; replace or delete it"),
        "red",
        Refused("not an image that can be read; replace or delete it"),
        "green",
    ]


def test_no_images_send_no_request(client):
    assert client.label([]) == []


def test_a_batch_that_is_too_large_for_the_service_is_halved(serve):
    small = serve("--max-images", "3", "--max-megabytes", "1")
    with Client(small.url, batch_images=8) as client:
        assert [answer.label for answer in client.label([jpeg("red")] * 8)] == ["red"] * 8
        too_large, good = client.label([bytes(2_000_000), jpeg("blue")])
    assert too_large == Refused(
        "the body is larger than 1,000,000 bytes; send fewer images a request, or smaller ones"
    )
    assert good.label == "blue"


@pytest.mark.parametrize(
    "mood", [busy(**{"Retry-After": "1"}), busy(), (502, {}, b""), (504, {}, b"<html>"), "cut"]
)
def test_transient_errors_are_retried_after_a_wait(mood, monkeypatch):
    waits = []

    class Stop(threading.Event):
        def wait(self, timeout=None):
            waits.append((timeout, server.requests))
            return False  # not stopped

    with Moody(mood, GOOD) as server, Client(server.url) as client:
        monkeypatch.setattr(downloads, "Event", Stop)
        assert client.metadata()["version"] == "a"
    ((seconds, requests),) = waits
    assert seconds >= (1 if "Retry-After" in str(mood) else 0.125)
    assert (requests, server.requests) == (1, 2)  # the wait is between the two


@pytest.mark.parametrize("status", [400, 404, 413, 500, 501])
def test_permanent_errors_raise_at_once(status):
    with Moody((status, {}, b'{"error": "it is wrong; do better"}')) as server, Client(server.url) as client:
        with pytest.raises(ImgclfError, match=rf"^{server.url}: it is wrong; do better$"):
            client.metadata()
        assert server.requests == 1


def test_retries_end_and_the_error_counts_them():
    with (
        Moody(busy(), busy(), busy()) as server,
        Client(server.url, attempts=3) as client,
        pytest.raises(
            ImgclfError, match=r"64 requests are waiting already; send it again \(after 3 attempts\)"
        ),
    ):
        client.metadata()
    with (
        Moody(busy(**{"Retry-After": "3600"})) as server,
        Client(server.url) as client,
        pytest.raises(ImgclfError, match=r"\(after 1 attempt\)"),
    ):
        client.metadata()


def test_a_timeout_is_not_retried():
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        Client(f"http://127.0.0.1:{silent.getsockname()[1]}", seconds=0.3) as client,
        pytest.raises(
            ImgclfError, match="no answer in time; send fewer images at once, or allow more seconds"
        ),
    ):
        client.metadata()


def test_another_server_at_the_url_raises():
    for body in (b"<html>hello</html>", b"[]", b"{}"):
        with (
            Moody((200, {}, body)) as server,
            Client(server.url) as client,
            pytest.raises(ImgclfError, match="the response is not from an imgclf service; check the URL"),
        ):
            client.metadata()


@pytest.mark.parametrize(
    "body",
    [
        b"<html>no</html>",
        b'{"detail": "no"}',
        b'{"images": []}',
        b'{"images": null}',
        b'{"images": {"image": 0}}',
        b'{"images": [{"image": "a", "error": "b"}]}',
        b'{"images": [{"image": 7, "error": "image: no"}]}',
    ],
)
def test_a_422_of_another_server_raises(body):
    with (
        Moody(*[(422, {}, body)] * 3) as server,
        Client(server.url) as client,
        pytest.raises(ImgclfError, match=rf"^{server.url}: HTTP 422 "),
    ):
        client.label([jpeg("red")])
    assert server.requests == 1


@pytest.mark.parametrize("images", [b"[]", b"null", b"[{}]", b"[1]"])
def test_a_response_without_a_label_for_each_image_raises(images):
    with (
        Moody((200, {}, b'{"images": %s}' % images)) as server,
        Client(server.url) as client,
        pytest.raises(ImgclfError, match="the response is not from an imgclf service"),
    ):
        client.label([jpeg("red")])


@pytest.mark.parametrize(("label", "reason", "name"), [("red", None, "red"), (None, "unsure", "unsure")])
def test_a_service_of_an_older_version_gives_neither_familiarity_nor_reason(label, reason, name):
    image = {"label": label, "unsure": not label, "score": 1.5, "probability": 0.5, "scores": {"red": 1.5}}
    body = json.dumps({"images": [{**image, "probabilities": {"red": 0.5}}]}).encode()
    with Moody((200, {}, body)) as older, Client(older.url) as client:
        (found,) = client.label([jpeg("red")])
    assert (found.label, found.reason, found.familiarity, found.name) == (label, reason, None, name)


def test_a_refused_connection_raises():
    with socket.socket() as bound:  # it does not listen, and nobody else gets its port
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        with (
            Client(f"http://127.0.0.1:{port}", attempts=2) as client,
            pytest.raises(
                ImgclfError,
                match=rf"http://127.0.0.1:{port}: no connection \(.*\); is the service running\? \(after 2 attempts\)",
            ),
        ):
            client.metadata()


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://127.0.0.1", "http://", ""])
def test_an_invalid_url_raises(url):
    with pytest.raises(ImgclfError, match="not the address of a service"), Client(url, attempts=1) as client:
        client.metadata()


@pytest.mark.parametrize("ending", ["", "/", "/score"])
def test_the_url_may_end_in_score(server, ending):
    with Client(server.url + ending) as client:
        assert client.metadata()["name"] == "colours"


def test_call_prints_what_predict_prints(server, model, folder):
    called, predicted = imgclf("call", server.url, folder), imgclf("predict", "--model", model, folder)
    assert (called.exit_code, called.stdout) == (0, predicted.stdout)
    assert called.stderr == predicted.stderr.partition("\n")[2]  # but for the line that names the model
    called, predicted = (
        json.loads(imgclf(*how, "--json", folder).stdout)
        for how in (("call", server.url), ("predict", "--model", model))
    )
    for one, other in zip(called, predicted, strict=True):
        assert one == {
            **other,
            "familiarity": pytest.approx(other["familiarity"], rel=1e-4),
            "score": pytest.approx(other["score"], rel=1e-5),
            "scores": pytest.approx(other["scores"], rel=1e-5),
            "probabilities": pytest.approx(other["probabilities"], rel=1e-4),
        }


def test_call_with_bad_images_only_ends_with_exit_code_1(server, folder):
    result = imgclf("call", server.url, folder / "b.jpg")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (
        1,
        "imgclf: none of the images could be read",
    )


def test_call_without_the_token_says_where_it_comes_from(guarded, folder, tmp_path, monkeypatch):
    result = imgclf("call", guarded.url, folder)
    assert (
        result.exit_code == 1
        and "the token is missing or invalid; set IMGCLF_TOKEN, or name a file with --token-file"
        in result.stderr
    )
    (tmp_path / "token").write_text(TOKEN + "\n")
    assert imgclf("call", "--token-file", tmp_path / "token", guarded.url, folder).exit_code == 0
    monkeypatch.setenv("IMGCLF_TOKEN", TOKEN)
    assert imgclf("call", guarded.url, folder).exit_code == 0


def test_verify_compares_the_service_with_the_file(server, model, folder, data_dir):
    result = imgclf("verify", "--url", server.url, model, folder)
    assert result.exit_code == 0, result.stderr
    assert [line.rpartition(", by ")[0] for line in result.stdout.splitlines()] == [
        "agrees: the service's scores and the file's, 3 images",
        "agrees: the service's probabilities and the file's, 3 images",
        "agrees: the service's familiarity and the file's, 3 images",
    ]
    (data_dir / "proc" / "colours").mkdir(parents=True)
    shutil.copy(model, data_dir / "proc" / "colours")
    assert (
        imgclf("verify", "--url", server.url, folder).stdout == result.stdout
    )  # the newest classifier is meant


def test_verify_refuses_another_file(server, model, folder, tmp_path):
    other = tmp_path / "other.onnx"
    other.write_bytes(model.read_bytes() + b"\x08\x0a")  # the field that names the IR version, again
    result = imgclf("verify", "--url", server.url, other, folder)
    assert result.exit_code == 1 and f"serves another file than {other}" in result.stderr


def test_verify_fails_for_a_service_with_other_scores(server, model, folder):
    metadata = json.dumps(server.http.get("/metadata").json()).encode()
    wrong = server.http.post(
        "/score", files=[("images", ("a", (folder / name).read_bytes())) for name in ("c.jpg", "a.jpg")]
    ).content
    with Moody((200, {}, metadata), (200, {}, wrong)) as liar:
        result = imgclf("verify", "--url", liar.url, model, folder / "a.jpg", folder / "c.jpg")
    assert result.exit_code == 1
    assert [line.partition(":")[0] for line in result.stdout.splitlines()] == ["DISAGREES"] * 3


def test_verify_refuses_a_service_of_an_older_version_that_gives_no_familiarity(server, model, folder):
    metadata = json.dumps(server.http.get("/metadata").json()).encode()
    answer = json.loads(server.score((folder / "a.jpg").read_bytes()).content)
    del answer["images"][0]["familiarity"]
    with Moody((200, {}, metadata), (200, {}, json.dumps(answer).encode())) as older:
        result = imgclf("verify", "--url", older.url, model, folder / "a.jpg")
    assert result.exit_code == 1
    assert "gives no familiarity; update imgclf there, and restart it" in result.stderr


def test_serve_refuses_unsafe_hosts_and_missing_files(model, tmp_path, data_dir, monkeypatch):
    monkeypatch.delenv("IMGCLF_TOKEN", raising=False)
    (tmp_path / "short").write_text("secret")
    (tmp_path / "spaces").write_text("a token of many words")
    (tmp_path / "foreign").write_text("ä" * 20)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refusals = {
            (
                "--host",
                "0.0.0.0",
                model,
            ): "--host 0.0.0.0: other machines may reach it, so it requires a token; set IMGCLF_TOKEN",
            ("--host", "::", model): "--host ::: other machines may reach it",
            ("--host", "example.org", model): "--host example.org: other machines may reach it",
            (
                "--token-file",
                tmp_path / "short",
                model,
            ): "a token is at least 16 ASCII characters without spaces; make one by openssl rand -hex 32",
            ("--token-file", tmp_path / "spaces", model): "without spaces",
            (
                "--token-file",
                tmp_path / "foreign",
                model,
            ): "it is not ASCII; name a file that holds the token",
            (
                "--token-file",
                tmp_path / "gone",
                model,
            ): "gone: No such file or directory; name a file that holds the token",
            ("--port", port, model): f"--port {port}: Address already in use; choose another",
            (tmp_path / "short",): "short: not a classifier that imgclf wrote",
            (tmp_path / "gone.onnx",): "gone.onnx: no classifier there",
            ("--workers", "2", tmp_path / "short"): "short: not a classifier that imgclf wrote",
            (): "no classifier.onnx yet; run the notebooks first",
        }
        for arguments, says in refusals.items():
            result = imgclf("serve", *(("--port", "0") if "--port" not in arguments else ()), *arguments)
            assert (result.exit_code, says in result.stderr) == (1, True), (arguments, result.stderr)
    for arguments in (("--port", "70000"), ("--workers", "0"), ("--reject-below", "2"), ("--queue", "0")):
        assert imgclf("serve", *arguments, model).exit_code == 2
    assert "IMGCLF_TOKEN" not in os.environ
