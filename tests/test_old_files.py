"""Files that version 0.1.0 wrote still load; the samples were written by it."""

import shutil
from pathlib import Path

import pytest

from imgclf import engines, features, files, svm
from imgclf.annotation import suspects
from imgclf.annotation.annotations import Annotations
from imgclf.classifier import verify
from imgclf.classifier.model import Classifier
from imgclf.data import dataset, scan, split
from imgclf.evaluation import comparison, metrics, report
from imgclf.finetuning import record
from imgclf.images.preprocessing import Preprocessing
from support.project import ROOT

SAMPLE = ROOT / "tests" / "samples" / "data_folder_0.1.0"


@pytest.fixture
def old(data_dir: Path) -> Path:
    """A data folder of version 0.1.0; returns the folder below proc/."""
    shutil.copytree(SAMPLE, data_dir)
    return files.proc_dir("colours")


def test_the_data_set_its_split_and_its_journal_are_read(old):
    found = dataset.read("colours")
    parts = split.read(found)
    assert (len(found.images), len(parts.train), len(parts.test)) == (23, 17, 6)
    notes = Annotations(found)
    assert [notes.images[i].path for i in range(len(notes.images)) if notes.is_changed(i)] == [
        "blue/r00.jpg",
        "green/g07.jpg",
    ]
    again = split.split(scan.scan_folder("colours", found.folder))
    for one, other in ((again.train, parts.train), (again.test, parts.test)):
        assert [image.path for image in one] == [image.path for image in other]


def test_cached_features_are_used_and_none_is_computed_again(old):
    found = dataset.read("colours")
    cache = features.Cache.for_network("colours", old / files.FIXED_NETWORK)
    assert list(features.missing(found.images, cache)) == []
    assert cache.features(found.images).matrix.shape == (23, 8)


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_the_classifier_passes_its_self_test_and_its_scores_are_those_on_disk(old, engine):
    found = dataset.read("colours")
    parts = split.read(found)
    loaded = Classifier.load(old / files.CLASSIFIER, engine=engine)
    assert loaded.preprocessing == Preprocessing(32, (114, 114, 114))
    scored, skipped = metrics.score(loaded, found, parts.test)
    kept = report.read_scores(old / files.SCORES)
    assert not skipped and scored.paths == kept.paths
    assert abs(scored.scores - kept.scores).max() < 1e-3


def test_the_training_code_still_computes_the_scores_of_the_classifier(old):
    found = verify.verify(
        old / files.CLASSIFIER,
        Preprocessing(32).letterbox(dataset.read("colours").thumbnail("red/r01.jpg"))[None],
    )
    assert all(check.agrees for check in found.checks) and not found.not_compared


def test_a_fine_tuning_record_a_head_and_an_evaluation_are_read(old):
    done = record.read(old)
    assert (
        done is not None
        and [epoch.number for epoch in done.epochs] == [0, 1]
        and done.epochs[0].loss != done.epochs[0].loss
    )
    assert svm.read(old / files.DNN_HEAD).labels == ("blue", "green", "red")
    assert "100%" in report.table(report.read(old))
    assert len(suspects.out_of_sample_scores("colours")) == 23
    kept = report.read_scores(comparison.scores_file(old, "svm"))
    assert comparison.compare(kept, report.read_scores(old / files.SCORES)).p_value == 1


def test_another_letterbox_colour_of_version_0_1_0_is_used_and_not_ignored():
    assert engines.stored_preprocessing(
        {"letterbox_colour": [0, 10, 255]}, 32, "classifier.onnx"
    ) == Preprocessing(32, (0, 10, 255))
