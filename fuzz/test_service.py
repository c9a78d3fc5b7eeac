"""Any request gets scores, or an error in JSON that tells nothing of the inside, in bounded time and memory."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import strategies as st

from support.bad_requests import form, part
from support.classifiers import trained
from support.mutations import JSON_VALUES, TEXT, damaged
from support.networks import write_tiny_network
from support.pictures import jpeg, png, write_colours
from support.serving import Server, running

MOST_MEMORY_MB = 600  # more than before, at any moment
MOST_SECONDS = 20
KINDS = ("application/json", "application/json; charset=utf-16", "image/jpeg", "image/png", "image/*", "application/octet-stream", "text/plain",
         "multipart/form-data; boundary=B", "multipart/form-data", "application/x-www-form-urlencoded", "")  # fmt: skip
ADDRESSES = ("/score", "/score", "/score", "/score?x=1", "/api/v1/service/a/score", "/metadata", "/")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    network = write_tiny_network(tmp_path / "dnn_fixed.onnx")
    with running(trained(network, write_colours(tmp_path / "colours"))) as started:
        assert started.score(jpeg("red")).status_code == 200
        yield started


def bodies() -> dict[str, st.SearchStrategy[bytes]]:
    """Bodies by their Content-Type."""
    image = base64.b64encode(jpeg("red")).decode()
    contracts = [
        {"images": [image]},
        {"input_df": [{"image base64 string": image}]},
        {"data": [image, image]},
    ]
    texts = st.text("iVBOR/+= \n", max_size=9) | JSON_VALUES | st.just(image)
    grown = st.builds(
        lambda key, values: {key: values},
        st.sampled_from(["images", "input_df", "data", "x"]),
        st.lists(texts, max_size=3) | JSON_VALUES,
    )
    whole = [json.dumps(contract).encode() for contract in contracts]
    forms = [
        form(200, "", part(jpeg("red")), part(jpeg("blue"))).content,
        form(200, "", part(b"x", filename=None)).content,
    ]
    return {
        "application/json": damaged(whole, TEXT)
        | (grown | JSON_VALUES).map(lambda value: json.dumps(value).encode()),
        "multipart/form-data; boundary=B": damaged(
            forms, [b"\r\n", b"--B", b"--B--", b'name="images"', b"filename*=utf-8''%ff", *TEXT]
        ),
        "image/jpeg": damaged([jpeg("red"), png(100, 100)]),
    }


def test_requests(fuzz, server):
    before = server.memory_mb()
    right = st.sampled_from(sorted(bodies())).flatmap(lambda kind: st.tuples(st.just(kind), bodies()[kind]))
    other = st.tuples(
        st.sampled_from(KINDS) | st.text("a/;=b*", max_size=9), st.one_of(list(bodies().values()))
    )
    methods, encodings = (
        st.sampled_from(["POST"] * 9 + ["GET", "PUT", "HEAD"]),
        st.sampled_from(["", "", "", "gzip", "deflate", "x"]),
    )

    def request(kind_and_body: tuple[str, bytes], *words: str) -> dict[str, bytes]:
        kind, body = kind_and_body
        return {"head": "\n".join([*words, kind]).encode(), "body": body}

    def is_answered(inputs: dict[str, bytes]) -> str:
        method, address, encoding, kind = inputs["head"].decode().split("\n")
        headers = {"Content-Type": kind, **({"Content-Encoding": encoding} if encoding else {})}
        answer = server.http.request(method, address, content=inputs["body"], headers=headers)
        assert answer.status_code == 200 or 400 <= answer.status_code < 500, (answer.status_code, answer.text)
        assert answer.elapsed.total_seconds() < MOST_SECONDS
        if answer.status_code != 200 and method != "HEAD":
            assert answer.json()["error"] and len(answer.content) < 4000
        assert "Traceback" not in answer.text and server.memory_mb("VmHWM") < before + MOST_MEMORY_MB
        return str(answer.status_code)

    fuzz(st.builds(request, right | other, methods, st.sampled_from(ADDRESSES), encodings), is_answered)
    assert "Traceback" not in server.log.read_text() and server.score(jpeg("red")).status_code == 200
