"""Maps on request: ?explain=1 adds a picture to each image, and nothing changes without it."""

import asyncio
import base64
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from imgclf.classifier.activation_maps import Explainer
from imgclf.images import decoding
from imgclf.service.app import Service
from imgclf.service.limits import Limits
from imgclf.service.requests import Contract, ScoreRequest
from imgclf.service.scoring import MAX_BATCH
from support.classifiers import changed, trained
from support.networks import with_max_pooling
from support.pictures import jpeg, write_colours
from support.serving import running

DATA_URL = "data:image/jpeg;base64,"


def explained(server, content: bytes, query: str = "?explain=1") -> dict:
    response = server.http.post(f"/score{query}", content=content, headers={"Content-Type": "image/jpeg"})
    return response.raise_for_status().json()["images"][0]


def picture_in(answer: dict) -> np.ndarray:
    assert answer["explanation"].startswith(DATA_URL)
    return decoding.decode(base64.b64decode(answer["explanation"].removeprefix(DATA_URL)))


def test_a_request_for_maps_gets_the_overlay_without_the_padding(server, model):
    content = jpeg("green")  # 64 x 48 pixels
    with Explainer.load(model) as explainer:
        pixels = explainer.preprocessing.apply(content)
        overlay = explainer.maps(pixels[None])[0].overlay(pixels[4:28])
    found = picture_in(explained(server, content))
    assert found.shape == (24, 32, 3)
    np.testing.assert_array_equal(found, decoding.decode(decoding.jpeg(overlay, quality=85)))


def test_all_else_in_the_answer_stays(server):
    plain, with_map = (explained(server, jpeg("red"), query) for query in ("", "?explain=1"))
    assert "explanation" not in plain
    del with_map["explanation"]
    assert with_map == plain == explained(server, jpeg("red"), "?explain=0")


def test_each_image_of_a_request_gets_its_own_map(server):
    files = [("images", (colour, jpeg(colour))) for colour in ("red", "green", "red")]
    answers = server.http.post("/score?explain=1", files=files).raise_for_status().json()["images"]
    pictures = [picture_in(answer) for answer in answers]
    assert np.array_equal(pictures[0], pictures[2]) and not np.array_equal(pictures[0], pictures[1])


def test_another_value_than_0_or_1_is_refused(server):
    response = server.http.post(
        "/score?explain=yes", content=jpeg("red"), headers={"Content-Type": "image/jpeg"}
    )
    assert response.status_code == 400
    assert response.json()["error"] == "explain='yes': must be 0 or 1; send ?explain=1 for maps"


@pytest.mark.parametrize("contract", ["tutorial", "successor"])
def test_the_older_contracts_are_as_before(server, contract):
    image = base64.b64encode(jpeg("red")).decode()
    body = {"data": [image]} if contract == "successor" else {"input_df": [{"image base64 string": image}]}
    answers = [server.http.post(f"/score{query}", json=body).json() for query in ("", "?explain=1")]
    if contract == "tutorial":
        answers = [json.loads(answer) for answer in answers]
        assert {answer.pop("executionTimeMs") != "" for answer in answers} == {True}
    assert answers[0] == answers[1]


def test_a_classifier_without_maps_scores_and_says_why_it_has_none(tmp_path):
    path = trained(with_max_pooling(tmp_path / "dnn_fixed.onnx"), write_colours(tmp_path / "colours"))
    with running(path) as server:
        response = server.http.post(
            "/score?explain=1", content=jpeg("red"), headers={"Content-Type": "image/jpeg"}
        )
        assert response.status_code == 400
        assert response.json()["error"].startswith(
            "the classifier has no class activation maps, as its features are no average over the positions of "
            "an image, but computed by ReduceMax; "
        )
        assert str(tmp_path) not in response.text
        assert server.score(jpeg("red")).raise_for_status().json()["images"][0]["label"] == "red"


def replaced(path: Path) -> None:
    changed(path, lambda content: setattr(content, "producer_version", "other"))


def damaged(path: Path) -> None:
    path.write_bytes(b"no network")


@pytest.mark.parametrize("change", [replaced, damaged, Path.unlink])
def test_a_file_that_changed_since_the_start_gives_no_maps_and_no_path(model, tmp_path, change):
    path = tmp_path / "classifier.onnx"
    path.write_bytes(model.read_bytes())
    with running(path) as server:
        change(path)
        response = server.http.post(
            "/score?explain=1", content=jpeg("red"), headers={"Content-Type": "image/jpeg"}
        )
        assert response.status_code == 503
        assert response.json()["error"] == (
            "the file of the classifier is no longer what is served; send SIGHUP to the service; send the "
            "request again after the seconds that Retry-After says"
        )
        path.write_bytes(model.read_bytes())
        assert "explanation" in explained(server, jpeg("red"))


def test_many_requests_for_maps_at_once_are_all_answered_alike(server):
    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda _: explained(server, jpeg("green")), range(24)))
    assert len({answer["explanation"] for answer in answers}) == 1
    assert {answer["label"] for answer in answers} == {"green"}


def test_images_are_scored_while_many_others_wait_for_their_maps(model):
    async def score() -> None:
        service = Service(lambda: model, Limits(), 0)
        await service.start()
        try:
            async with service.explaining:  # as while a map is computed
                most = 2 * 3 * MAX_BATCH  # twice the slots
                waiting = asyncio.create_task(service._score(service.model, images(most), object()))
                await asyncio.sleep(0)
                await asyncio.wait_for(service._score(service.model, images(1), None), 20)
                assert not waiting.done()
                waiting.cancel()
        finally:
            service.close()

    asyncio.run(score())


def images(count: int) -> ScoreRequest:
    return ScoreRequest(Contract.OWN, [jpeg("red")] * count, [str(i) for i in range(count)])
