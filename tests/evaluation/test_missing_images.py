"""Test images that vanish or change between 01 and 05: counted, named, bounded, and refused above a share."""

import json
import shutil
from dataclasses import replace

import pytest

from imgclf import ImgclfError, files
from imgclf.classifier.model import Classifier
from imgclf.data import dataset
from imgclf.evaluation import metrics, report
from imgclf.experiments import trials
from support.classifiers import trained_as
from support.evaluations import by_hand
from support.trials import write_trial


@pytest.fixture
def colours(colour_folder):
    """The trained classifier, and the data set as 01 scanned it; its 36 images are evaluated here."""
    return Classifier.load(trained_as("svm", colour_folder)), dataset.read("colours")


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda path: path.unlink(), "No such file or directory"),
        (lambda path: shutil.copy(path.with_name("01.jpg"), path), "00.jpg: has changed since 01_prepare"),
        (lambda path: path.write_bytes(path.read_bytes()[:300]), "00.jpg: has changed since 01_prepare"),
        (lambda path: (path.unlink(), path.mkdir()), "a folder instead of a regular file"),
        (lambda path: (path.unlink(), path.symlink_to("nowhere")), "No such file or directory"),
    ],
    ids=["deleted", "replaced", "truncated", "a folder in its place", "a broken link"],
)
def test_a_lost_image_is_counted_named_and_bounds_the_accuracy(colours, harm, reason):
    classifier, found = colours
    harm(found.folder / "red" / "00.jpg")
    result, (skipped,) = metrics.score(classifier, found, found.images)
    assert result.missing == ("red/00.jpg",) and len(result.truth) == 35
    assert result.overall_accuracy_bounds == (35 / 36, 1)
    assert reason in skipped.reason
    assert report.notice("test", result).splitlines()[1] == (
        "CAREFUL: 1 of 36 images are gone, changed or unreadable: red/00.jpg. The overall accuracy would be "
        "97.2% if all of them were misclassified, and 100.0% if none was; the class-averaged accuracy 97.2% "
        "and 100.0%"
    )


@pytest.mark.parametrize(
    ("lost", "fault"),
    [
        (
            ("red/00.jpg", "red/05.jpg"),
            r"2 of the 36 .* unreadable \(red/00.jpg, red/05.jpg; the first: .*\)",
        ),
        (
            ("red",),
            r"12 of the 36 .* unreadable, among them all of red \(.*02.jpg and 9 more; the first: .*\)",
        ),
        (("red", "green", "blue"), r"36 of the 36 .*, among them all of blue, green, red \(.*\)"),
    ],
    ids=["more than 5 %", "a whole label", "all"],
)
def test_an_accuracy_without_many_images_is_refused_with_the_remedy(colours, lost, fault):
    classifier, found = colours
    for path in lost:
        (found.folder / path).rename(found.folder / f"{path}.away")
    with pytest.raises(
        ImgclfError, match=rf"^{fault}; restore them, or run 01_prepare_data to 05_evaluate again$"
    ):
        metrics.score(classifier, found, found.images)


def test_an_accuracy_without_any_image_of_a_label_is_refused(colours):
    classifier, found = colours
    images = [image for image in found.images if image.label != "red" or image.path == "red/00.jpg"]
    (found.folder / "red" / "00.jpg").unlink()
    with pytest.raises(ImgclfError, match=r"^1 of the 25 images .*, among them all of red \("):
        metrics.score(classifier, found, images)


@pytest.fixture
def incomplete():
    """Ten evaluated images, seven of them correct, and five that are missing."""
    return replace(by_hand(), missing=tuple(f"a/{i}.jpg" for i in range(5)), missing_labels=tuple("aaaac"))


def test_evaluation_json_has_the_missing_images_and_the_table_says_it(tmp_path, incomplete):
    report.write(incomplete, tmp_path, evaluated_on="test")
    figures = json.loads((tmp_path / files.EVALUATION).read_text())
    assert figures["missing"] == {
        "images": 5,
        "paths": list(incomplete.missing),
        "overall_accuracy_bounds": [7 / 15, 12 / 15],
        "class_averaged_accuracy_bounds": pytest.approx(
            [(3 / 8 + 2 / 4 + 2 / 3) / 3, (7 / 8 + 2 / 4 + 1) / 3]
        ),
    }
    assert report.table(report.read(tmp_path)).splitlines()[0] == (
        "CAREFUL: 5 of 15 images are gone, changed or unreadable: a/0.jpg, a/1.jpg, a/2.jpg and 2 more. The "
        "overall accuracy would be 46.7% if all of them were misclassified, and 80.0% if none was; the "
        "class-averaged accuracy 51.4% and 79.2%"
    )
    stored = report.read_test_scores(tmp_path)
    assert (stored.missing, stored.missing_labels) == (incomplete.missing, incomplete.missing_labels)


@pytest.mark.parametrize("wrong", [("a",), ("a", "a", "a", "a", "unknown")])
def test_missing_images_without_their_labels_are_damage(tmp_path, incomplete, wrong):
    report.write_scores(replace(incomplete, missing_labels=wrong), tmp_path / files.SCORES)
    with pytest.raises(ImgclfError, match="damaged"):
        report.read_scores(tmp_path / files.SCORES)


def test_the_table_of_trials_says_that_images_are_missing(incomplete):
    trial = write_trial(1, 90, held_out=45, epochs=5)
    report.write(
        replace(trial.test_evaluation, missing=("a.jpg",), missing_labels=("apple",)),
        files.proc_dir(trial.name),
        evaluated_on="test",
    )
    assert list(trials.table([trial])["test accuracy"]) == ["90.0%, 1 missing"]
