"""Every way to ask gives the label, the scores and the probabilities that the file gives; and the old contracts are kept."""

import base64
import gzip
import json
import os
import shutil
import subprocess

import numpy as np
import pytest

from imgclf.classifier.model import Classifier
from imgclf.files import sha256
from imgclf.service.scoring import VERSION_DIGITS, Model
from support.bad_requests import GOOD, form, saved
from support.classifiers import changed, trained
from support.pictures import COLOURS, jpeg, picture
from support.pictures import encoded as encoded_as
from support.project import SHARED

HEIC_START = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
TOKEN = "0123456789abcdef-secret"


@pytest.fixture(scope="module")
def expected(model):
    """For each colour the scores and probabilities that the file gives its image here."""
    loaded = Classifier.load(model)
    found = loaded.scores(np.stack([loaded.preprocessing.apply(jpeg(colour)) for colour in loaded.labels]))
    return {
        colour: (scores, probabilities)
        for colour, scores, probabilities in zip(loaded.labels, *found, strict=True)
    }


@pytest.fixture(scope="module")
def guarded(serve):
    """A service that wants a token, and is often unsure."""
    return serve(
        "--reject-below",
        "0.999999",
        environment={"IMGCLF_TOKEN": TOKEN},
        headers={"Authorization": f"Bearer {TOKEN}"},
    )


def encoded(colour: str) -> str:
    return base64.b64encode(jpeg(colour)).decode()


def check(image: dict, colour: str, expected: dict) -> None:
    scores, probabilities = expected[colour]
    assert " ".join(image) == "label unsure reason familiarity score probability scores probabilities"
    assert (image["label"], image["unsure"]) == (colour, False)
    assert list(image["scores"]) == list(image["probabilities"]) == ["blue", "green", "red"]
    np.testing.assert_allclose(list(image["scores"].values()), scores, rtol=1e-5)
    np.testing.assert_allclose(list(image["probabilities"].values()), probabilities, rtol=1e-4)
    assert (image["score"], image["probability"]) == (image["scores"][colour], image["probabilities"][colour])


@pytest.mark.parametrize(
    "kind", ["image/jpeg", "image/png", "IMAGE/JPEG; charset=x", "image/*", "application/octet-stream"]
)
def test_a_raw_image(server, expected, kind):
    answer = server.score(jpeg("green"), kind).raise_for_status().json()
    check(answer["images"][0], "green", expected)
    assert len(answer["images"]) == 1 and answer["milliseconds"] > 0 and answer["reject_below"] == 0


def test_a_heic_photograph(server):
    pytest.importorskip("pillow_heif").register_heif_opener()
    content = encoded_as(picture(COLOURS["green"], 1, width=640, height=480), "HEIF", quality=60)
    for response in (
        server.score(content, "image/heic"),
        server.http.post("/score", files=[("images", ("IMG_0001.HEIC", content))]),
    ):
        assert response.raise_for_status().json()["images"][0]["label"] == "green"


def test_a_heic_photograph_without_pillow_heif_is_rejected_by_name(serve, tmp_path):
    (tmp_path / "pillow_heif.py").write_text("raise ModuleNotFoundError('No module named pillow_heif')")
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    response = serve(environment={"PYTHONPATH": paths}).score(HEIC_START, "image/heic")
    assert response.status_code == 422
    assert "a HEIC photograph, and pillow-heif is not installed" in response.json()["error"]


def test_files_of_a_form_in_order(server, expected):
    colours = ["red", "green", "blue", "red", "green"]
    answer = (
        server.http.post("/score", files=[("images", (f"{colour}.jpg", jpeg(colour))) for colour in colours])
        .raise_for_status()
        .json()
    )
    assert [image["label"] for image in answer["images"]] == colours
    for image, colour in zip(answer["images"], colours, strict=True):
        check(image, colour, expected)


@pytest.mark.parametrize(
    "parameters",
    [
        "boundary=B; charset=undefined",
        "boundary=B; charset=idna",
        "charset=punycode; boundary=B",
        "boundary=B; charset=utf-16",
        "boundary=B; charset=shift_jis",
        'boundary=B; CHARSET="klingon"',
        "boundary=B; charset=utf-8; charset=undefined",
        "boundary=B; charset*=utf-8''undefined",
        'boundary="B"; charset*0=unde; charset*1=fined',
    ],
)
def test_the_charset_of_a_form_is_ignored(server, parameters):
    response = server.score(form(200, "", GOOD).content, f"multipart/form-data; {parameters}")
    assert response.raise_for_status().json()["images"][0]["label"] == "red"


def test_base64_in_json(server, expected, model):
    answer = (
        server.http.post("/score", json={"images": [encoded("blue"), encoded("red")]})
        .raise_for_status()
        .json()
    )
    check(answer["images"][0], "blue", expected)
    check(answer["images"][1], "red", expected)
    assert answer["model"] == {"name": "colours", "version": sha256(model)[:VERSION_DIGITS]}


PNG_OF_ALL_BYTES = saved("PNG", 40)  # its base64 has + and /


@pytest.mark.parametrize(
    "text",
    [
        base64.b64encode(PNG_OF_ALL_BYTES).decode(),
        base64.urlsafe_b64encode(PNG_OF_ALL_BYTES).decode(),
        base64.urlsafe_b64encode(PNG_OF_ALL_BYTES).decode().rstrip("="),
        base64.encodebytes(PNG_OF_ALL_BYTES).decode(),
        "data:image/png;base64," + base64.b64encode(PNG_OF_ALL_BYTES).decode(),
        "DATA:;BASE64," + base64.b64encode(PNG_OF_ALL_BYTES).decode(),
    ],
    ids=["standard", "for URLs", "for URLs, no padding", "lines", "data URL", "data URL, capitals"],
)
@pytest.mark.parametrize("contract", ["images", "data"])
def test_each_kind_of_base64(server, contract, text):
    answer = server.http.post("/score", json={contract: [text]}).raise_for_status().json()
    raw = server.score(PNG_OF_ALL_BYTES).json()["images"][0]
    assert (answer["images"] if contract == "images" else answer)[0]["label"] == raw["label"]


@pytest.mark.parametrize(
    ("encoding", "kind"),
    [
        ("utf-8-sig", "application/json"),
        ("utf-8-sig", "application/json; charset=utf-8"),
        ("utf-16", "application/json"),
        ("utf-16-le", "application/json; charset=UTF-16LE"),
        ("utf-16", 'application/json; charset="utf-16"'),
        ("utf-32", "application/json"),
        ("utf-32-le", "application/json; charset=UTF-32LE"),
        ("utf-32-be", "application/json; charset=utf-32-be"),
        ("utf-8-sig", "application/json; charset=utf-8-sig"),
        ("latin-1", "application/json;charset=ISO-8859-1"),
        ("ascii", "application/json; charset=us-ascii"),
    ],
)
def test_json_with_a_byte_order_mark_or_a_declared_charset(server, encoding, kind):
    body = json.dumps({"images": [encoded("red")]}).encode(encoding)
    response = server.http.post("/score", content=body, headers={"Content-Type": kind})
    assert response.raise_for_status().json()["images"][0]["label"] == "red"


@pytest.mark.parametrize("name", ["gzip", "x-gzip", "GZIP"])
def test_a_gzip_body(server, name):
    headers = {"Content-Type": "application/json", "Content-Encoding": name}
    body = gzip.compress(json.dumps({"images": [encoded("green")]}).encode())
    response = server.http.post("/score", content=body, headers=headers)
    assert response.raise_for_status().json()["images"][0]["label"] == "green"


@pytest.mark.parametrize(
    "address", ["/", "/page.js", "/health", "/ready", "/metadata", "/metrics", "/openapi.json"]
)
def test_head_answers_as_get_without_a_body(server, address):
    head, get = server.http.head(address), server.http.get(address)
    assert (head.status_code, head.content) == (get.status_code, b"") == (200, b"")
    assert head.headers["Content-Type"] == get.headers["Content-Type"]
    assert server.http.head("/score").status_code == 405 and server.http.head("/nothing").status_code == 404


def test_a_request_to_upgrade_is_answered_as_http_1_and_logs_nothing(server):
    before = server.log.read_text()
    for protocol in ("h2c", "websocket"):
        response = server.score(
            jpeg("red"),
            Connection="Upgrade, HTTP2-Settings",
            Upgrade=protocol,
            **{"HTTP2-Settings": "AAMAAABk"},
        )
        assert response.status_code == 200
    assert server.log.read_text() == before


@pytest.mark.parametrize("address", ["/score", "/api/v1/service/imgclf/score"])
@pytest.mark.parametrize("wrap", ["{}", "b'{}'"])
def test_the_clients_of_the_tutorial_decode_twice(server, expected, address, wrap):
    body = json.dumps({"input_df": [{"image base64 string": wrap.format(encoded("red"))}]})
    response = server.http.post(
        address,
        content=body,
        headers={"Content-Type": "application/json", "Authorization": "Bearer anything"},
    )
    answer = json.loads(json.loads(response.raise_for_status().text))
    assert set(answer) == {"label", "score", "allScores", "Id2Labels", "executionTimeMs"}
    assert all(isinstance(value, str) for value in answer.values())
    assert answer["label"] == "red" and float(answer["score"]) == pytest.approx(
        expected["red"][0].max(), rel=1e-5
    )
    vector = np.array(answer["allScores"].strip("[]").split(), float)
    np.testing.assert_allclose(vector, expected["red"][0], rtol=1e-4)
    assert answer["Id2Labels"] == "{0: 'blue', 1: 'green', 2: 'red'}" and float(answer["executionTimeMs"]) > 0


def test_the_tutorial_scores_the_first_record_only(server):
    records = [{"image base64 string": encoded(colour), "comment": "ignored"} for colour in ("green", "red")]
    assert json.loads(server.http.post("/score", json={"input_df": records}).json())["label"] == "green"


def test_the_clients_of_its_successor_get_a_list_of_strings(server, expected):
    answer = (
        server.http.post("/score", json={"data": [encoded("red"), encoded("blue")]}).raise_for_status().json()
    )
    assert [set(image) for image in answer] == [{"label", "probability"}] * 2
    assert [image["label"] for image in answer] == ["red", "blue"]
    assert float(answer[0]["probability"]) == pytest.approx(expected["red"][1].max(), rel=1e-4)


def test_the_curl_commands_of_the_readme(server, tmp_path):
    if not shutil.which("curl"):
        pytest.skip("needs curl")
    (tmp_path / "a.jpg").write_bytes(jpeg("green"))
    ways = (
        ["-H", "Content-Type: image/jpeg", "--data-binary", f"@{tmp_path / 'a.jpg'}"],
        ["-F", f"images=@{tmp_path / 'a.jpg'}"],
    )
    for way in ways:
        completed = subprocess.run(
            ["curl", "--silent", "--fail", *way, f"{server.url}/score"],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        assert json.loads(completed.stdout)["images"][0]["label"] == "green"


def test_many_real_photographs_are_classified(server):
    if not SHARED.exists():
        pytest.skip("needs the photographs in ../shared/data, which don't come with the repository")
    photographs = sorted(path for path in SHARED.rglob("*.jpg"))[:20]
    for path in photographs:
        assert server.score(path.read_bytes()).status_code == 200, path


def test_metadata_describe_the_model_without_local_paths(server, model):
    response = server.http.get("/metadata").raise_for_status()
    assert response.json()["labels"] == ["blue", "green", "red"]
    assert (
        response.json()["preprocessing"]["input_size"],
        response.json()["metrics"],
        response.json()["sha256"],
    ) == (
        32,
        {"held_out_accuracy": 0.5},
        sha256(model),
    )
    assert str(model.parent) not in response.text and "classifier.onnx" not in response.text


def test_metrics_count_requests_images_and_time(server):
    before = (
        server.metric("imgclf_images_total"),
        server.metric("imgclf_requests_total"),
        server.metric("imgclf_request_seconds_count"),
    )
    server.score(jpeg("red"))
    server.score(b"no image")
    after = (
        server.metric("imgclf_images_total"),
        server.metric("imgclf_requests_total"),
        server.metric("imgclf_request_seconds_count"),
    )
    assert np.subtract(after, before).tolist() == [1, 2, 2]
    text = server.http.get("/metrics").text
    assert (
        'imgclf_requests_total{status="422"}' in text
        and 'imgclf_images_total{label="red"}' in text
        and "process_resident_memory_bytes" in text
    )


def test_health_and_ready(server):
    assert server.http.get("/health").json() == {"status": "ok"}
    assert server.http.get("/ready").json() == {"status": "ready"}


def test_every_response_has_security_headers(server):
    for address in ("/", "/page.js", "/health", "/nothing"):
        headers = server.http.get(address).headers
        assert headers["X-Content-Type-Options"] == "nosniff" and headers[
            "Content-Security-Policy"
        ].startswith("default-src 'self'")
        assert "server" not in headers


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"Authorization": "Bearer wrong-0123456789ab"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": "Bearer é"},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ("method", "address"),
    [("POST", "/score"), ("POST", "/api/v1/service/x/score"), ("GET", "/metadata"), ("GET", "/metrics")],
)
def test_requests_without_the_token_get_401(guarded, method, address, header):
    header = {name: value.encode() for name, value in {"Authorization": "", **header}.items()}
    response = guarded.http.request(method, address, headers=header)
    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert response.json()["error"].startswith("send the header Authorization: Bearer TOKEN")


def test_probes_and_the_page_need_no_token(guarded):
    for address in ("/health", "/ready", "/", "/page.css", "/openapi.json"):
        assert guarded.http.get(address, headers={"Authorization": ""}).status_code == 200


def test_below_the_threshold_the_label_is_rejected_in_each_contract(guarded):
    own = guarded.score(jpeg("red")).raise_for_status().json()
    image = own["images"][0]
    assert (image["label"], image["unsure"], own["reject_below"]) == (None, True, 0.999999)
    assert image["probability"] == max(image["probabilities"].values()) < 0.999999
    tutorial = guarded.http.post(
        "/score", json={"input_df": [{"image base64 string": encoded("red")}]}
    ).json()
    assert json.loads(tutorial)["label"] == "unsure"
    assert guarded.http.post("/score", json={"data": [encoded("red")]}).json()[0]["label"] == "unsure"


def test_responses_are_sent_without_delay():
    import socket

    from imgclf.service import server

    with server._listener("127.0.0.1", 0) as listener:
        assert (
            listener.proto == socket.IPPROTO_TCP
        )  # else asyncio leaves Nagle's algorithm on, which costs 40 ms an answer


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ("resnet18", "resnet18"),
        ("/home/me/nets/own.onnx", "own.onnx"),
        (f"hf/acme/net@{'1' * 40}", f"hf/acme/net@{'1' * 40}"),
    ],
)
def test_the_backbone_is_shown_by_its_name_and_not_by_a_path(stored, shown, tiny_network, colour_folder):
    changed(tiny_network, lambda model: model.metadata_props.add(key="backbone", value=json.dumps(stored)))
    assert Model.load(trained(tiny_network, colour_folder)).about()["backbone"] == shown
