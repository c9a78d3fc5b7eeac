"""/openapi.json says what is true: made-up requests, good and bad, find nothing."""

import base64
import string

import hypothesis
import pytest
import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode

from imgclf.service import openapi
from support.bad_requests import saved
from support.pictures import jpeg
from support.serving import Server

FORMATS = {
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/webp": "WEBP",
    "image/gif": "GIF",
    "image/bmp": "BMP",
    "image/tiff": "TIFF",
    "image/avif": "AVIF",
    "image/heic": "HEIF",
}
MADE_UP = 40  # requests for each address, good ones and bad ones
TOKEN = "a-token-of-24-characters"

some_images = st.sampled_from(
    [jpeg(colour) for colour in ("red", "green", "blue")]
    + [saved(kind) for kind in FORMATS.values() if kind != "HEIF"]
)
schemathesis.openapi.format(
    "base64-image", some_images.map(lambda content: base64.b64encode(content).decode())
)
schemathesis.openapi.format("binary", some_images)
for kind in (*openapi.IMAGE_TYPES, "application/octet-stream"):
    schemathesis.openapi.media_type(kind, some_images)


@pytest.fixture(scope="module")
def server(serve) -> Server:
    return serve(environment={"IMGCLF_TOKEN": TOKEN}, headers={"Authorization": f"Bearer {TOKEN}"})


@pytest.fixture(scope="module")
def api(server):
    found = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    # Unknown names in the query are ignored, as most services do, and OpenAPI cannot say so.
    found.config.generation.update(allow_extra_parameters=False)
    return found


@pytest.mark.parametrize(
    ("method", "address", "mode"),
    [
        *(
            ("GET", address, GenerationMode.POSITIVE)
            for address in ("/health", "/ready", "/metadata", "/metrics")
        ),
        *(
            ("POST", address, mode)
            for address in ("/score", "/api/v1/service/{name}/score")
            for mode in GenerationMode
        ),
    ],
)
def test_generated_requests_get_documented_responses(api, method, address, mode):
    @hypothesis.settings(
        max_examples=MADE_UP,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        derandomize=True,
        database=None,
    )
    @hypothesis.given(case=api[address][method].as_strategy(generation_mode=mode))
    def check(case):
        case.call_and_validate(headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30)

    check()


def test_documented_examples_get_documented_responses(server):
    spec = server.http.get("/openapi.json").json()
    examples = spec["paths"]["/score"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    assert set(examples) == {"images", "input_df", "data"}
    for example in examples.values():
        assert server.http.post("/score", json=example["value"]).status_code == 200
    assert set(spec["paths"]) == {
        "/health",
        "/ready",
        "/metadata",
        "/metrics",
        "/score",
        "/api/v1/service/{name}/score",
    }
    assert set(spec["paths"]["/score"]["post"]["requestBody"]["content"]) == {
        "application/json",
        "multipart/form-data",
        "application/octet-stream",
        *FORMATS,
    }
    assert all(letter in string.printable for letter in spec["info"]["title"])
