"""The record of a fine-tuning: read back, or None where it is damaged, so that the network is fine-tuned again."""

import json
import shutil
from dataclasses import replace

import pytest

from imgclf import files, svm
from imgclf.finetuning import record
from support.project import ROOT

SAMPLE = ROOT / "tests" / "samples" / "data_folder_0.1.0" / "proc" / "colours"


@pytest.mark.parametrize(
    ("key", "value"),
    [("held_back", [1]), ("held_back", "x"), ("epochs", {}), ("epochs", [{"number": "1"}]), ("recipe", []), ("network_sha256", None), ("other", 1)],
)  # fmt: skip
def test_a_value_of_another_type_is_a_damaged_record(tmp_path, key, value):
    for name in (record.RECORD, files.REFINED_NETWORK, files.DNN_HEAD):
        shutil.copy(SAMPLE / name, tmp_path / name)
    stored = json.loads((tmp_path / record.RECORD).read_text())
    assert record.read(tmp_path) is not None
    (tmp_path / record.RECORD).write_text(json.dumps({**stored, key: value}))
    assert record.read(tmp_path) is None


@pytest.mark.parametrize("content", ["null", "3", "[" * 10_000])
def test_another_json_value_is_a_damaged_record(tmp_path, content):
    (tmp_path / record.RECORD).write_text(content)
    assert record.read(tmp_path) is None


def test_a_last_layer_of_another_fine_tuning_is_damage_too(tmp_path):
    for name in (record.RECORD, files.REFINED_NETWORK, files.DNN_HEAD):
        shutil.copy(SAMPLE / name, tmp_path / name)
    head, done = svm.read(tmp_path / files.DNN_HEAD), record.read(tmp_path)
    record.write(tmp_path, head, done)
    assert record.read(tmp_path) is not None
    svm.write(replace(head, weights=-head.weights), tmp_path / files.DNN_HEAD)
    assert record.read(tmp_path) is None
