"""Conversion of a model in CNTK's format, with its last layer, to a classifier.onnx, which needs no CNTK."""

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
EXPORT = (
    'python -c "import json, pickle; '
    "json.dump(pickle.load(open('{name}', 'rb')), open('labels.json', 'w'))\""
)


def convert(model: Path, target: Path, labels: list[str], *, replace: bool = False) -> str:
    """Convert a CNTK model to a classifier like those of 04_train_svm, and return a description of it.

    Its self-test consists of three images of noise with CNTK's own scores, so that every runtime that loads
    it compares itself with CNTK. Nothing is written if the scores in ONNX Runtime or OpenVINO differ from
    them.

    Parameters
    ----------
    labels : in the order of the model's outputs.

    Raises
    ------
    ImgclfError : the model cannot be read or exported, the number of labels is not that of its outputs, or
        there is a file at `target` already.
    """
    if target.exists() and not replace:
        raise ImgclfError(f"{target}: already exists; use --replace, or another name")
    with models.opened(model) as old, tempfile.TemporaryDirectory() as folder:
        classes = old.weights.shape[1]
        if len(labels) != classes:
            raise ImgclfError(
                f"--labels: {len(labels)} were given, and {model.name} has {classes} classes; "
                "name them in the order of its outputs"
            )
        written = Path(folder) / target.name
        _write(old, labels, written)
        difference = max(_difference(written, engine, model) for engine in engines.ENGINES)
        with files.replace_file(target) as file:
            file.write(written.read_bytes())
        return (
            f"{old}\n{target}: scores as CNTK does, within {difference:.0e} of the largest score; "
            "its probabilities are not calibrated"
        )


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


def _difference(path: Path, engine: str, model: Path) -> float:
    try:
        with Classifier.load(path, engine=engine) as loaded:
            return loaded.self_test_difference()
    except ImgclfError as error:
        raise ImgclfError(
            f"{model}: the scores of its ONNX export differ from those of CNTK ({error}); "
            "it cannot be converted"
        ) from error


def parse_labels(given: str) -> list[str]:
    """Return the labels in the order of a model's outputs.

    Parameters
    ----------
    given : names separated by commas; or the path of a text file with one name a line, or of a JSON file. The
        JSON holds a list of names, or an object that maps each number to its label or each label to its
        number, as the tutorial's tables did.

    Raises
    ------
    ImgclfError : the file is missing, a pickle, or holds something else; a label is empty or a duplicate.
    """
    path = Path(given).expanduser()
    if path.suffix in PICKLES or (path.is_file() and path.read_bytes()[:1] == b"\x80"):
        raise ImgclfError(
            f"{given}: a pickle can run any program when it is loaded, so it is not loaded; "
            f"if it is your own, write it as JSON: {EXPORT.format(name=path.name)}"
        )
    if path.suffix not in (".json", ".txt", ".tsv"):
        found = [name.strip() for name in given.split(",")]
    elif not path.is_file():
        raise ImgclfError(f"{path}: no such file; give the labels, or the path of a JSON or text file")
    else:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        found = (
            _parse_json(text, path)
            if path.suffix == ".json"
            else [line.strip() for line in text.splitlines() if line.strip()]
        )
    if "" in found or len(set(found)) < len(found) or not found:
        raise ImgclfError(f"--labels {given}: a label is empty or a duplicate; name each class once")
    return found


def _parse_json(text: str, path: Path) -> list[str]:
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
