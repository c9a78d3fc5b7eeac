"""Images of none of the labels: found by a real classifier, and from the folder to the prediction."""

import pytest

from imgclf import ImgclfError, features, files, svm
from imgclf.annotation import hard_negatives
from imgclf.annotation.annotations import Annotations
from imgclf.classifier import export, predict
from imgclf.classifier.model import Classifier
from imgclf.data import dataset, scan, split, split_summary
from imgclf.data.labels import NONE, labels_of
from imgclf.evaluation import metrics, report
from imgclf.images import decoding
from support.classifiers import prepared, trained
from support.pictures import picture

YELLOW = (220, 210, 40)


def write(folder, count, *, colour=YELLOW, seed=900):
    """Write pictures of a colour that is no label; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"other{i}.jpg" for i in range(count)]
    for i, path in enumerate(paths):
        path.write_bytes(decoding.jpeg(picture(colour, seed=seed + i)))
    return paths


def test_unlabelled_images_come_with_the_label_they_are_taken_for_the_most_confident_first(
    tiny_network, colour_folder
):
    write(colour_folder / "unlabelled", 5)
    found = scan.scan_folder("colours", colour_folder)
    with Classifier.load(trained(tiny_network, colour_folder)) as classifier:
        candidates, skipped = hard_negatives.candidates(found, classifier, most=4)
        single = predict.predict(classifier, [colour_folder / candidates[0].path])[0][0]
    probabilities = [one.probability for one in candidates]
    assert len(candidates) == 4 and not skipped and probabilities == sorted(probabilities, reverse=True)
    assert all(one.path.startswith("unlabelled/") and one.label in found.labels for one in candidates)
    assert candidates[0].label == single.label
    assert candidates[0].probability == pytest.approx(single.probabilities.max(), abs=1e-4)


def test_images_from_elsewhere_are_copied_once_and_overwrite_none(tiny_network, colour_folder, tmp_path):
    originals = write(tmp_path / "holiday", 3)
    (tmp_path / "holiday" / "broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    found = scan.scan_folder("colours", colour_folder)
    with Classifier.load(trained(tiny_network, colour_folder)) as classifier:
        candidates, skipped = hard_negatives.candidates(found, classifier, folder=tmp_path / "holiday")
    assert {one.path for one in candidates} == set(map(str, originals)) and len(skipped) == 1
    taken = write(colour_folder / NONE, 1, colour=(0, 0, 0))[0].read_bytes()
    copies = hard_negatives.add(found, originals)
    assert hard_negatives.add(found, originals) == copies
    assert [path.name for path in copies] == ["other0-2.jpg", "other1.jpg", "other2.jpg"]
    assert (colour_folder / NONE / "other0.jpg").read_bytes() == taken and all(p.exists() for p in originals)


def test_what_is_recognized_as_none_is_no_candidate(tiny_network, colour_folder):
    write(colour_folder / NONE, 12)
    write(colour_folder / "unlabelled", 3, seed=950)
    with Classifier.load(trained(tiny_network, colour_folder)) as classifier:
        found = scan.scan_folder("colours", colour_folder)
        assert classifier.labels == ["blue", "green", NONE, "red"]
        assert hard_negatives.candidates(found, classifier)[0] == []


def test_without_an_unlabelled_image_there_is_no_candidate(tiny_network, colour_folder):
    with Classifier.load(trained(tiny_network, colour_folder)) as classifier:
        found = scan.scan_folder("colours", colour_folder)
        assert hard_negatives.candidates(found, classifier) == ([], [])


def evaluated(network, folder):
    """Split, train and evaluate the images of a folder as 01 to 05 do."""
    found = scan.scan_folder("colours", folder)
    dataset.check(found)
    parts = split.split(found)
    matrix = features.extract(network, prepared(found))
    every = features.Features(matrix, found.images).subset(parts.train)
    head = svm.train(every.matrix, every.labels, parts.clusters_of(every.images), c_values=[1.0]).head
    self_test = export.make_self_test(found, every.images, network, head)
    export.write(network.with_name(files.CLASSIFIER), network, head, self_test, metadata={})
    with Classifier.load(network.with_name(files.CLASSIFIER)) as classifier:
        return found, parts, metrics.score(classifier, found, parts.test)[0], classifier.labels


def test_none_of_these_is_a_class_of_the_classifier_and_no_label(tiny_network, colour_folder):
    write(colour_folder / NONE, 12)
    found, parts, evaluation, classes = evaluated(tiny_network, colour_folder)
    assert found.labels == ["blue", "green", "red"] and classes == found.classes == [
        "blue",
        "green",
        NONE,
        "red",
    ]
    assert str(found) == "colours: 48 images in 3 labels, and 12 images of none of them, 0 excluded"
    assert "36 images train, 12 test, in 3 labels, and 12 images of none of them." in split_summary.text(
        found, parts
    )
    assert not found.cautions()
    assert {labels_of(image) for image in found.images} == {("blue",), ("green",), ("red",), ()}
    of_none = evaluation.class_accuracy(NONE)
    assert of_none.images == 3 and of_none.value == 1
    assert "3 of the 12 images are of none of the labels. none_of_these counts as a class" in report.notice(
        "test", evaluation
    )
    assert NONE in report.table(report.summary(evaluation))


def test_without_the_class_nothing_is_said_of_it(tiny_network, colour_folder):
    found, _, evaluation, _ = evaluated(tiny_network, colour_folder)
    assert "none of" not in report.notice("test", evaluation).replace("none of them used in training", "")
    assert str(found) == "colours: 36 images in 3 labels, 0 excluded"


def test_one_label_and_images_of_none_make_a_classifier(tiny_network, colour_folder):
    (colour_folder / "green").rename(colour_folder / NONE)
    for path in (colour_folder / "blue").iterdir():
        path.unlink()
    (colour_folder / "blue").rmdir()
    found, _, evaluation, classes = evaluated(tiny_network, colour_folder)
    assert found.labels == ["red"] and classes == [NONE, "red"] and evaluation.overall_accuracy.value == 1


def test_images_of_none_alone_are_refused(colour_folder):
    for label in ("green", "blue"):
        for path in (colour_folder / label).iterdir():
            path.unlink()
    (colour_folder / "red").rename(colour_folder / NONE)
    found = scan.scan_folder("colours", colour_folder)
    with pytest.raises(ImgclfError, match=r"all 12 images are in none_of_these/, and none has a label, blue"):
        dataset.check(found)


def test_a_prediction_of_none_is_said_in_words(tiny_network, colour_folder):
    paths = write(colour_folder / NONE, 12)
    with Classifier.load(trained(tiny_network, colour_folder)) as classifier:
        ((path, found),) = predict.label_files(classifier, paths[:1])
    assert found.as_line(path).startswith("none of the labels\t") and found.as_json(path)["label"] == NONE


# The labels that a person gives


def test_the_label_none_can_neither_be_added_nor_renamed_nor_merged(annotations):
    annotations.relabel([0, 1], NONE)
    folder = annotations.dataset.folder
    before = sorted(folder.rglob("*.jpg"))
    assert annotations.labels == ["blue", "green", "red"] and annotations.label_counts()[NONE] == 2
    for name in (NONE, "None_Of_These "):
        with pytest.raises(ImgclfError, match="is the folder of images of none of the labels; press N"):
            annotations.add_label(name)
        with pytest.raises(ImgclfError, match="is the folder of images of none of the labels; press N"):
            annotations.rename_label("red", name)
    with pytest.raises(ImgclfError, match="'none_of_these' is not a label; select an image"):
        annotations.rename_label(NONE, "red")
    assert sorted(folder.rglob("*.jpg")) == before
    annotations.undo()
    assert not (folder / NONE).exists()
    assert Annotations(scan.scan_folder("colours", folder)).labels == ["blue", "green", "red"]


def test_with_folders_for_training_and_test_images_an_image_stays_in_its_set(tmp_path):
    for name in ("train", "test"):
        write(tmp_path / "set" / name / "red", 2, seed=len(name) * 100)
        write(tmp_path / "set" / name / "blue", 2, seed=len(name) * 200)
    annotations = Annotations(scan.scan_folder("set", tmp_path / "set"))
    annotations.relabel([0], NONE)
    moved = annotations.images[0].path
    assert moved in ("train/none_of_these/other0.jpg", "test/none_of_these/other0.jpg")
    again = scan.scan_folder("set", tmp_path / "set")  # the other set needs no such folder
    assert again.labels == ["blue", "red"] and NONE in again.classes
