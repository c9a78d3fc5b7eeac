"""docs/serving.md: the MLflow commands run, and the configurations for Triton and KServe match the classifier;
the largest images follow from the memory of decoding."""

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto
from prometheus_client.parser import text_string_to_metric_families

from imgclf.classifier.model import Classifier
from imgclf.classifier.results import Labelled
from imgclf.images import decoding
from imgclf.images.loading import Source
from imgclf.service.limits import Limits
from imgclf.service.metrics import Metrics
from support.classifiers import trained
from support.pictures import COLOURS, picture
from support.project import ROOT

PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
CONFIG = ROOT / "deploy" / "triton" / "fashion_texture" / "config.pbtxt"
TYPES = {TensorProto.UINT8: "UINT8", TensorProto.FLOAT: "FP32"}
# The protobuf of tritonclient 2.73 has parsed the file once; it requires older libraries than ours, so that is no test.
TENSOR = re.compile(
    r'\{ name: "(?P<name>\w+)", data_type: TYPE_(?P<kind>\w+), dims: \[ (?P<sides>[\d, ]+) \]'
    r"(, reshape: \{ shape: \[(?P<reshaped>[\d, ]*)\] \})? \}"
)
DEEP = decoding.MEMORY_OF_DEEP_COLOUR
# Memory of decoding, bytes for each pixel.
HELD_BYTES = {
    **decoding.MEMORY,
    "WebP": decoding.MEMORY["WEBP"],
    "HEIC": decoding.MEMORY["HEIF"],
    "PNG of 16-bit colour": decoding.MEMORY["PNG"] + DEEP,
    "TIFF of 16-bit colour": decoding.MEMORY["TIFF"] + DEEP,
    "progressive JPEG": 3,
    "progressive JPEG without chroma subsampling": 6,
}


def blocks(section: str, language: str) -> list[str]:
    """Return the blocks of code in a section of the page."""
    text = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tiny_network, colour_folder, tmp_path) -> Path:
    """A folder with the files that the page names: classifier.onnx and blouse.jpg."""
    place = tmp_path / "here"
    place.mkdir()
    trained(tiny_network, colour_folder).rename(place / "classifier.onnx")
    (place / "blouse.jpg").write_bytes(decoding.jpeg(picture(COLOURS["green"], seed=9)))
    return place


def environment(home: Path) -> dict[str, str]:
    """Return the environment variables: commands of this Python first, a separate home folder, no telemetry."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def wait_until_ready(server: subprocess.Popen, url: str) -> None:
    for _ in range(200):
        assert server.poll() is None, "mlflow models serve has exited"
        try:
            if httpx.get(url).status_code == httpx.codes.OK:
                return
        except httpx.ConnectError:
            time.sleep(0.2)
    raise AssertionError("mlflow models serve doesn't respond")


@pytest.mark.service
@pytest.mark.slow
def test_mlflow_returns_the_probabilities_of_the_file(folder):
    save, request = blocks("MLflow", "python")
    _, serve = blocks("MLflow", "sh")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    run = {"cwd": folder, "env": environment(folder)}
    subprocess.run([sys.executable, "-c", save], check=True, **run)
    server = subprocess.Popen(
        ["sh", "-c", f"exec {serve.replace('5000', port)}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **run,
    )
    try:
        wait_until_ready(server, f"http://127.0.0.1:{port}/ping")
        printed = subprocess.run(
            [sys.executable, "-c", request.replace("5000", port)],
            check=True,
            capture_output=True,
            text=True,
            **run,
        ).stdout
    finally:
        server.terminate()
        server.wait(timeout=20)
    ((_, expected),) = Classifier.load(folder / "classifier.onnx").predict([Source(folder / "blouse.jpg")])
    found = {label: float(value) for label, value in re.findall(r"'(\w+)': ([\d.e-]+)", printed)}
    assert list(found) == ["blue", "green", "red"]
    np.testing.assert_allclose(list(found.values()), expected.probabilities, rtol=1e-4)


def alert() -> dict:
    """The rule of the page."""
    (text,) = blocks("Images of other things", "yaml")
    ((rule,),) = (group["rules"] for group in yaml.safe_load(text)["groups"])
    return rule


def test_the_alert_rule_names_metrics_that_the_service_has():
    metrics = Metrics()
    metrics.loaded(0.05)
    metrics.predicted(Labelled("red", 1, 1, {}, {}, familiarity=0.5), familiar_from=0.7)
    exposed = {
        sample.name
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
    }
    named = set(re.findall(r"imgclf_\w+", alert()["expr"]))
    assert len(named) == 3 and named <= exposed
    described = set(re.findall(r"^\| `(imgclf_\w+)", PAGE, re.MULTILINE))
    assert described == {*named, "imgclf_familiarity"} and "imgclf_familiarity_bucket" in exposed
    assert alert().keys() == {"alert", "expr", "for", "labels", "annotations"}


@pytest.mark.parametrize(
    ("unfamiliar", "images", "rate", "fires"),
    [
        (21, 200, 0.05, True),
        (20, 200, 0.05, False),
        (199, 199, 0.05, False),
        (0, 5000, 0, False),
        (700, 5000, 0.05, True),
    ],
)
def test_the_alert_rule_fires_above_twice_the_expected_share(unfamiliar, images, rate, fires):
    """Its operators mean in Python what they mean in PromQL; a value stands for each aggregated metric."""
    values = {
        "imgclf_unfamiliar_images_total": unfamiliar,
        "imgclf_images_total": images,
        "imgclf_unfamiliar_rate": rate,
    }
    series = re.compile(r"(?:sum by \(job\) \(increase\((\w+)\[1h\]\)\)|max by \(job\) \((\w+)\))")
    formula = series.sub(lambda found: str(values[found[1] or found[2]]), alert()["expr"])
    assert eval(" ".join(formula.split()), {"__builtins__": {}}) is fires


def tensors() -> dict[str, tuple[str, list[int]]]:
    """Return data type and shape, without the batch, of each tensor that Triton sends to and gets from the file."""
    return {
        found["name"]: (
            found["kind"],
            [int(side) for side in re.findall(r"\d+", found["reshaped"] or found["sides"])],
        )
        for found in TENSOR.finditer(CONFIG.read_text())
    }


def test_triton_config_has_the_inputs_and_outputs_of_the_file(folder):
    graph = onnx.load(folder / "classifier.onnx").graph
    kinds = {value.name: value.type.tensor_type for value in (*graph.input, *graph.output)}
    assert {name: (kind, len(sides) + 1) for name, (kind, sides) in tensors().items()} == {
        name: (TYPES[kind.elem_type], len(kind.shape.dim)) for name, kind in kinds.items()
    }
    assert all(
        kind.shape.dim[0].dim_param for kind in kinds.values()
    )  # any batch size, or Triton refuses max_batch_size


def test_triton_config_has_the_shapes_of_the_demo_set():
    assert [sides for _, sides in tensors().values()] == [[240, 240, 3], [3], [3], []]
    assert f'name: "{CONFIG.parent.name}"' in CONFIG.read_text()
    assert f"models/triton/{CONFIG.parent.name}/1/model.onnx" in blocks("Triton", "sh")[0]


def test_kserve_manifest_matches_triton_and_the_deployment():
    triton, own = yaml.safe_load_all((ROOT / "deploy" / "kserve.yaml").read_text())
    deployment = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "deployment.yaml").read_text())
    (served,) = deployment["spec"]["template"]["spec"]["containers"]
    (container,) = own["spec"]["predictor"]["containers"]
    assert {service["apiVersion"] for service in (triton, own)} == {"serving.kserve.io/v1beta1"}
    assert (
        triton["spec"]["predictor"]["model"]["protocolVersion"] == "v2"
    )  # without it KServe selects no runtime for onnx
    assert container["env"] == served["env"]
    assert (
        container["ports"][0]["containerPort"]
        == served["ports"][0]["containerPort"]
        == container["readinessProbe"]["httpGet"]["port"]
    )


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`?(deploy/[\w./]*[\w/])", PAGE))))
def test_files_named_on_the_page_exist(path):
    assert (ROOT / path).exists()


def documented_megapixels() -> dict[str, int]:
    """The largest images in megapixels, by format, as the page says."""
    (listed,) = re.findall(r"the most megapixels are: ([^.]*)\.", " ".join(PAGE.split()))
    return {name: int(size) for name, size in (item.rsplit(" ", 1) for item in listed.split(", "))}


@pytest.mark.parametrize("name", documented_megapixels())
def test_the_largest_images_that_are_decoded_are_documented(name):
    known = decoding.JPEG if "JPEG" in name else decoding.PNG
    largest, larger = (
        decoding.Header(known, 1000, 1000 * megapixels, HELD_BYTES[name]).memory_needed(240)
        for megapixels in (documented_megapixels()[name], documented_megapixels()[name] + 1)
    )
    assert largest <= Limits.memory_bytes < larger
