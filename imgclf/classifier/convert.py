"""An old model in CNTK's format, with its last layer, as a classifier that needs CNTK no more."""

import json
import tempfile
from pathlib import Path

import numpy as np

from imgclf import ImgclfError, engines, files
from imgclf.classifier import export
from imgclf.classifier.model import SELF_TEST_SIDE, Classifier, SelfTest
from imgclf.cntk import models
from imgclf.cntk.models import OldModel
from imgclf.networks import onnx_import
from imgclf.svm import Head

PICKLES = (".pickle", ".pkl", ".p", ".dat")
EXPORT = "python -c \"import json, pickle; json.dump(pickle.load(open('{name}', 'rb')), open('labels.json', 'w'))\""


def convert(model: Path, target: Path, labels: list[str], *, replace: bool = False) -> str:
    """Write an old model as a classifier like those of 04_train_svm, and say what it is.

    Three images of noise and CNTK's own scores of them become its self-test, so whatever loads it compares itself with CNTK. Nothing is written if
    ONNX Runtime or OpenVINO score them otherwise.

    Parameters
    ----------
    labels : in the order of the model's outputs.

    Raises
    ------
    ImgclfError : the model cannot be read or exported, the labels are not as many as its outputs, or there is a file at `target` already.
    """
    if target.exists() and not replace:
        raise ImgclfError(f"{target}: already exists; use --replace, or another name")
    with models.opened(model) as old, tempfile.TemporaryDirectory() as folder:
        classes = old.weights.shape[1]
        if len(labels) != classes:
            raise ImgclfError(
                f"--labels: {len(labels)} were given, and {model.name} has {classes} classes; name them in the order of its outputs"
            )
        written = Path(folder) / target.name
        _write(old, labels, written)
        found = max(_disagreement(written, engine, model) for engine in engines.ENGINES)
        with files.replace_file(target) as file:
            file.write(written.read_bytes())
        return f"{old}\n{target}: scores as CNTK does, within {found:.0e} of the largest score; its probabilities are not calibrated"


def _write(old: OldModel, labels: list[str], path: Path) -> None:
    exported, network = path.with_name("exported.onnx"), path.with_name("network.onnx")
    old.export(exported)
    network.write_bytes(onnx_import.read(exported).content(old.input_size, old.path.name))
    head = Head(
        tuple(labels),
        np.ascontiguousarray(old.weights.T),
        old.offsets,
        l2_normalize=False,
        c=float("nan"),
        temperature=1.0,
    )
    small = np.random.default_rng(0).integers(0, 256, (3, SELF_TEST_SIDE, SELF_TEST_SIDE, 3), np.uint8)
    scores = old.outputs(SelfTest(small, np.empty(0)).enlarged(old.input_size))[1]
    export.write(path, network, head, SelfTest(small, scores), metadata={"converted_from": old.path.name})


def _disagreement(path: Path, engine: str, model: Path) -> float:
    try:
        return Classifier.load(path, engine=engine).self_test_disagreement()
    except ImgclfError as error:
        raise ImgclfError(
            f"{model}: what CNTK exports of it scores otherwise than CNTK itself ({error}); it cannot be converted"
        ) from error


def labels_of(given: str) -> list[str]:
    """The labels in the order of a model's outputs.

    Parameters
    ----------
    given : names with commas between; or the path of a text file with one a line, or of a JSON file with a list of them, or with an object that
        gives each number its label or each label its number, as the tutorial's tables did.

    Raises
    ------
    ImgclfError : the file is missing, a pickle, or holds something else; a label is empty or there twice.
    """
    path = Path(given).expanduser()
    if path.suffix in PICKLES or (path.is_file() and path.read_bytes()[:1] == b"\x80"):
        raise ImgclfError(
            f"{given}: a pickle can run any program when it is opened, so it is not; if it is your own, write it as JSON: {EXPORT.format(name=path.name)}"
        )
    if path.suffix not in (".json", ".txt", ".tsv"):
        found = [name.strip() for name in given.split(",")]
    elif not path.is_file():
        raise ImgclfError(f"{path}: no such file; give the labels, or the path of a JSON or text file")
    else:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        found = (
            _of_json(text, path)
            if path.suffix == ".json"
            else [line.strip() for line in text.splitlines() if line.strip()]
        )
    if "" in found or len(set(found)) < len(found) or not found:
        raise ImgclfError(f"--labels {given}: a label is empty or there twice; name each class once")
    return found


def _of_json(text: str, path: Path) -> list[str]:
    try:
        stored = json.loads(text)
        if isinstance(stored, dict):
            numbered = (
                {int(number): label for number, label in stored.items()}
                if all(map(str.isdecimal, stored))
                else {n: label for label, n in stored.items()}
            )
            stored = [numbered[number] for number in range(len(numbered))]
        if not isinstance(stored, list) or not all(isinstance(label, str) for label in stored):
            raise ValueError
        return stored
    except (ValueError, KeyError, TypeError) as error:
        raise ImgclfError(
            f"{path}: must hold a JSON list of labels, or an object with a number from 0 on for each label"
        ) from error
