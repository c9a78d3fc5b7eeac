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
        "97.2% if all of them were misclassified, and 100.0% if none was"
    )


@pytest.mark.parametrize(
    ("lost", "fault"),
    [
        (("red/00.jpg", "red/05.jpg"), "2 of the 36 images to evaluate are gone, changed or unreadable"),
        (("red",), "12 of the 36 images to evaluate are gone, changed or unreadable"),
        (("red", "green", "blue"), "36 of the 36 images to evaluate are gone, changed or unreadable"),
    ],
    ids=["more than 5 %", "a whole label", "all"],
)
def test_an_accuracy_without_many_images_is_refused_with_the_remedy(colours, lost, fault):
    classifier, found = colours
    for path in lost:
        (found.folder / path).rename(found.folder / f"{path}.away")
    with pytest.raises(
        ImgclfError, match=rf"^{fault} \(.*\); restore them, or run 01_prepare_data to 05_evaluate again$"
    ):
        metrics.score(classifier, found, found.images)


def test_an_accuracy_without_any_image_of_a_label_is_refused(colours):
    classifier, found = colours
    images = [image for image in found.images if image.label != "red" or image.path == "red/00.jpg"]
    (found.folder / "red" / "00.jpg").unlink()
    with pytest.raises(ImgclfError, match=r"^all images of red to evaluate are gone, changed or unreadable"):
        metrics.score(classifier, found, images)


@pytest.fixture
def incomplete():
    """Ten evaluated images, seven of them correct, and five that are missing."""
    return replace(by_hand(), missing=tuple(f"a/{i}.jpg" for i in range(5)))


def test_evaluation_json_has_the_missing_images_and_the_table_says_it(tmp_path, incomplete):
    report.write(incomplete, tmp_path, evaluated_on="test")
    figures = json.loads((tmp_path / files.EVALUATION).read_text())
    assert figures["missing"] == {
        "images": 5,
        "paths": list(incomplete.missing),
        "overall_accuracy_bounds": [7 / 15, 12 / 15],
    }
    assert report.table(report.read(tmp_path)).splitlines()[0] == (
        "CAREFUL: 5 of 15 images are gone, changed or unreadable: a/0.jpg, a/1.jpg, a/2.jpg and 2 more. The "
        "overall accuracy would be 46.7% if all of them were misclassified, and 80.0% if none was"
    )
    assert report.read_test_scores(tmp_path).missing == incomplete.missing


def test_the_table_of_trials_says_that_images_are_missing(incomplete):
    trial = write_trial(1, 90, held_out=45, epochs=5)
    report.write(
        replace(trial.test_evaluation, missing=("a.jpg",)), files.proc_dir(trial.name), evaluated_on="test"
    )
    assert list(trials.table([trial])["test accuracy"]) == ["90.0%, 1 missing"]
