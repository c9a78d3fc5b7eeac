"""Labels for a CNTK model: from the command line, from JSON and text files, and never from a pickle."""

import json
import pickle

import pytest

from imgclf import ImgclfError
from imgclf.classifier import convert

LABELS = ["dotted", "leopard", "striped"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.json", json.dumps(LABELS)),
        ("labels.json", json.dumps(dict(enumerate(LABELS)))),
        ("labels.json", json.dumps({"striped": 2, "dotted": 0, "leopard": 1})),
        ("labels.txt", "dotted\r\nleopard\n\nstriped\n"),
        ("labels.txt", "\ufeffdotted\nleopard\nstriped"),
    ],
)
def test_labels_are_read_from_a_file(name, content, tmp_path):
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert convert.parse_labels(str(tmp_path / name)) == LABELS


def test_labels_are_separated_by_commas():
    assert convert.parse_labels("dotted, leopard,striped") == LABELS


@pytest.mark.parametrize("name", ["lutId2Label.pickle", "labels.pkl", "labels.txt", "lutId2Label"])
def test_a_pickle_is_not_loaded_and_the_error_says_how_to_export_it(name, tmp_path):
    (tmp_path / name).write_bytes(pickle.dumps(dict(enumerate(LABELS))))
    with pytest.raises(
        ImgclfError,
        match=rf"{name}: a pickle can run any program when it is loaded, so it is not loaded; .*python -c .*pickle\.load\(open\('{name}'",
    ):
        convert.parse_labels(str(tmp_path / name))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 0, "b": 5}', "must hold a JSON list of labels"),
        ("[1, 2]", "must hold a JSON list"),
        ("dotted", "must hold a JSON list"),
        ('["a", "a"]', "empty or a duplicate"),
        ("[]", "empty or a duplicate"),
    ],
)
def test_files_without_labels_are_refused(content, message, tmp_path):
    (tmp_path / "labels.json").write_text(content)
    with pytest.raises(ImgclfError, match=message):
        convert.parse_labels(str(tmp_path / "labels.json"))


def test_a_missing_file_and_an_empty_label_are_refused(tmp_path):
    with pytest.raises(ImgclfError, match=r"none\.json: no such file; give the labels, or the path"):
        convert.parse_labels(str(tmp_path / "none.json"))
    with pytest.raises(ImgclfError, match="empty or a duplicate"):
        convert.parse_labels("dotted,,striped")
