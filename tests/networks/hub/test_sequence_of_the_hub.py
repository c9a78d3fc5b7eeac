"""From a model of the Hub to a served classifier: notebooks 01 to 05, `verify`, the service, and ONNX Runtime alone."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from imgclf import engines, files
from imgclf.classifier import verify
from imgclf.classifier.model import Classifier, read_metadata
from imgclf.images.loading import load_all
from support import hub_models, serving
from support.hub_server import Hub
from support.pictures import write_colours

pytestmark = [pytest.mark.notebooks, pytest.mark.slow]

SETTINGS = {"dataset_name": "colours", "epochs": 1, "batch_size": 8, "trainable_stages": 1, "svm_c": "1"}


def run(data: Path, folder: Path, **values: object) -> str:
    """Run 01 to 05, and return what was printed."""
    given = {**SETTINGS, "images_dir": folder, **values}
    command = [sys.executable, "-m", "imgclf.cli", "run", "--from", "01"]
    finished = subprocess.run(
        [*command, *(word for name, value in given.items() for word in ("-p", f"{name}={value}"))],
        env={**os.environ, "IMGCLF_DATA": str(data)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.mark.parametrize(("kind", "classifier"), [("vit", "svm"), ("dinov2", "dnn")])
def test_a_model_of_the_hub_goes_from_images_to_a_served_classifier(
    hub: Hub, data_dir, tmp_path, kind, classifier
):
    commit = hub.publish(f"acme/{kind}", hub_models.write(kind, tmp_path / kind))
    folder = write_colours(tmp_path / "colours")
    printed = run(data_dir, folder, backbone=f"hf/acme/{kind}", classifier=classifier)
    assert f"hf/acme/{kind}@{commit}: licence" in printed and "overall accuracy" in printed
    path = data_dir / "proc" / "colours" / files.CLASSIFIER
    assert read_metadata(path)["backbone"] == f"hf/acme/{kind}@{commit}"

    images = sorted(folder.rglob("*.jpg"))[:6]
    pixels = load_all(images, engines.preprocessing(path))
    verify.check_agreement(path, verify.verify(path, pixels).checks)
    with Classifier.load(path) as loaded:
        scores, probabilities = loaded.scores(pixels)
        labels = [loaded.labels[i] for i in scores.argmax(axis=1)]
    alone = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = alone.run(["scores", "probabilities"], {"images": pixels})
    np.testing.assert_allclose(found[0], scores, rtol=0, atol=1e-4 * max(1, np.abs(scores).max()))
    np.testing.assert_allclose(found[1], probabilities, rtol=0, atol=1e-3)

    with serving.running(path) as server:
        files_sent = [("images", (image.name, image.read_bytes())) for image in images]
        answers = server.http.post("/score", files=files_sent).raise_for_status().json()
    assert [answer["label"] for answer in answers["images"]] == labels
