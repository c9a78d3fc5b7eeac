"""An image of another thing: its familiarity is in each answer, is counted, and rejects its label on request."""

import base64
import json
import shutil
import signal
import time

import pytest
from click.testing import CliRunner

from imgclf import ImgclfError, cli, files
from imgclf.classifier.model import Classifier
from imgclf.images import decoding
from imgclf.service import background
from imgclf.service.client import Client
from support.pictures import jpeg, picture
from support.project import ROOT
from support.serving import running

OLD = ROOT / "tests" / "samples" / "data_folder_0.1.0" / "proc" / "colours" / files.CLASSIFIER
YELLOW = decoding.jpeg(picture((230, 220, 30), seed=1))  # no label
CANNOT_TELL = (
    "does not know which images are unfamiliar, since it is of an earlier version or a converted model"
)


@pytest.fixture(scope="module")
def strict(serve):
    """A service that rejects unfamiliar images."""
    return serve("--reject-unfamiliar")


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """A service of a classifier of version 0.1.0."""
    path = tmp_path_factory.mktemp("old") / files.CLASSIFIER
    shutil.copy(OLD, path)
    with running(path) as server:
        yield server


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "red.jpg").write_bytes(jpeg("red"))
    (folder / "yellow.jpg").write_bytes(YELLOW)
    return folder


def imgclf(*arguments: object):
    return CliRunner().invoke(cli.main, list(map(str, arguments)))


def scored(server, content: bytes) -> dict:
    return server.score(content).raise_for_status().json()["images"][0]


def wait_until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_each_image_has_the_familiarity_of_the_file_and_keeps_its_label(server, model):
    loaded = Classifier.load(model)
    for content in (jpeg("red"), YELLOW):
        (expected,) = loaded.outputs(loaded.preprocessing.apply(content)[None]).familiarity
        answer = server.score(content).json()
        image = answer["images"][0]
        assert image["familiarity"] == pytest.approx(expected, rel=1e-4)
        assert (image["unsure"], image["reason"], image["label"] in loaded.labels) == (False, None, True)
        assert (answer["familiar_from"], answer["reject_unfamiliar"]) == (loaded.familiar_from, False)
    assert expected < loaded.familiar_from


def test_an_unfamiliar_image_gets_no_label_where_asked(strict):
    image = scored(strict, YELLOW)
    assert (image["label"], image["reason"], image["unsure"]) == (None, "unfamiliar", True)
    assert image["probability"] == max(image["probabilities"].values())
    familiar = scored(strict, jpeg("red"))
    assert (familiar["label"], familiar["reason"], familiar["unsure"]) == ("red", None, False)
    assert strict.score(YELLOW).json()["reject_unfamiliar"] is True


def test_an_unfamiliar_image_is_called_so_even_if_the_probability_is_too_small_as_well(serve):
    both = serve("--reject-unfamiliar", "--reject-below", "0.9999")
    assert scored(both, YELLOW)["reason"] == "unfamiliar"
    assert scored(both, jpeg("red"))["reason"] == "unsure"


@pytest.mark.parametrize("rejects", [True, False])
def test_the_older_contracts_say_unfamiliar_in_place_of_the_label_and_have_no_other_field(
    server, strict, rejects
):
    asked = strict if rejects else server
    label = "unfamiliar" if rejects else scored(server, YELLOW)["label"]
    encoded = base64.b64encode(YELLOW).decode()
    (successor,) = asked.http.post("/score", json={"data": [encoded]}).raise_for_status().json()
    assert list(successor) == ["label", "probability"] and successor["label"] == label
    payload = {"input_df": [{"image base64 string": encoded}]}
    tutorial = json.loads(asked.http.post("/score", json=payload).raise_for_status().json())
    assert list(tutorial) == ["label", "score", "allScores", "Id2Labels", "executionTimeMs"]
    assert tutorial["label"] == label


def test_metadata_say_the_threshold_and_what_is_rejected(server, strict, old, model):
    told = strict.http.get("/metadata").json()
    assert told["familiar_from"] == Classifier.load(model).familiar_from
    assert (told["reject_unfamiliar"], told["unfamiliar_rate"]) == (True, 0.1)
    assert server.http.get("/metadata").json()["reject_unfamiliar"] is False
    assert not {"familiar_from", "unfamiliar_rate"} & old.http.get("/metadata").json().keys()


def test_a_classifier_of_an_older_version_is_served_without_familiarity(old):
    answer = old.score(jpeg("red")).raise_for_status().json()
    image = answer["images"][0]
    assert (image["label"], image["familiarity"], image["reason"]) == ("red", None, None)
    assert answer["familiar_from"] is None
    counts = [
        old.metric(f"imgclf_{name}") for name in ("images_total", "familiarity_count", "unfamiliar_rate")
    ]
    assert counts == [1, 0, 0]
    with Client(old.url) as client:
        assert client.label([jpeg("red")])[0].familiarity is None


@pytest.mark.parametrize("rejects", [True, False])
def test_unfamiliar_images_are_counted_whether_rejected_or_not(server, strict, rejects):
    asked = strict if rejects else server
    names = ("imgclf_images_total", "imgclf_unfamiliar_images_total", "imgclf_familiarity_count")
    before = [asked.metric(name) for name in names]
    for content in (YELLOW, jpeg("red"), YELLOW):
        scored(asked, content)
    assert [asked.metric(name) - old for name, old in zip(names, before, strict=True)] == [3, 2, 3]
    assert ('imgclf_images_total{label="unfamiliar"}' in asked.http.get("/metrics").text) is rejects
    assert asked.metric("imgclf_unfamiliar_rate") == 0.1


def test_several_workers_count_together(model):
    with running(model, "--workers", "2") as server:
        wait_until(lambda: server.metric("imgclf_workers") == 2)
        for _ in range(6):
            server.http.post(
                "/score", content=YELLOW, headers={"Content-Type": "image/jpeg", "Connection": "close"}
            )
        assert server.metric("imgclf_unfamiliar_images_total") == 6
        assert server.metric("imgclf_unfamiliar_rate") == 0.1


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_classifier_that_cannot_tell_is_refused_at_start(workers):
    result = imgclf("serve", "--port", "0", "--workers", workers, "--reject-unfamiliar", OLD)
    assert result.exit_code == 1 and CANNOT_TELL in result.stderr


def test_predict_refuses_a_classifier_that_cannot_tell(folder):
    result = imgclf("predict", "--reject-unfamiliar", "--model", OLD, folder)
    assert result.exit_code == 1 and CANNOT_TELL in result.stderr
    header, *lines = imgclf("predict", "--model", OLD, folder).stdout.splitlines()
    assert header.split("\t")[3] == "familiarity" and {line.split("\t")[3] for line in lines} == {""}


def test_a_notebook_rejects_unfamiliar_images_and_hears_of_a_classifier_that_cannot_tell(model):
    with background.start(model, reject_unfamiliar=True) as service, Client(service.url) as client:
        assert [image.reason for image in client.label([YELLOW, jpeg("red")])] == ["unfamiliar", None]
    with pytest.raises(ImgclfError, match=CANNOT_TELL):
        background.start(OLD, reject_unfamiliar=True)


def test_a_reload_keeps_the_model_if_the_new_one_cannot_tell(model, tmp_path):
    served = tmp_path / files.CLASSIFIER
    shutil.copy(model, served)
    with running(served, "--reject-unfamiliar") as server:
        shutil.copy(OLD, tmp_path / "other.onnx")
        (tmp_path / "other.onnx").replace(served)
        server.signal(signal.SIGHUP)
        wait_until(lambda: "the model is kept as it was" in server.log.read_text())
        assert CANNOT_TELL in server.log.read_text()
        assert scored(server, YELLOW)["reason"] == "unfamiliar"


def test_call_prints_and_sorts_unfamiliar_images_as_predict_does(strict, model, folder, tmp_path):
    called = imgclf("call", strict.url, "--csv", tmp_path / "a.csv", "--sort-into", tmp_path / "a", folder)
    predicted = imgclf(
        *("predict", "--model", model, "--reject-unfamiliar"),
        *("--csv", tmp_path / "b.csv", "--sort-into", tmp_path / "b", folder),
    )
    assert (called.exit_code, called.stdout) == (0, predicted.stdout)
    header, red, yellow = (line.split("\t") for line in called.stdout.splitlines())
    assert header == ["label", "score", "probability", "familiarity", "image"]
    assert (red[0], yellow[0]) == ("red", "unfamiliar") and float(red[3]) > float(yellow[3])
    assert (tmp_path / "a.csv").read_text().splitlines()[2].startswith("unfamiliar,")
    for place in ("a", "b"):
        sorted_files = {
            path.relative_to(tmp_path / place).as_posix() for path in (tmp_path / place).rglob("*.jpg")
        }
        assert sorted_files == {"red/red.jpg", "unfamiliar/yellow.jpg"}
    (_, image) = json.loads(imgclf("call", strict.url, "--json", folder).stdout)
    assert (image["label"], image["reason"]) == (None, "unfamiliar")
    assert image["familiarity"] == pytest.approx(float(yellow[3]), abs=0.005)
