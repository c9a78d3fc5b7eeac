"""The images and the classifier of a prediction, and the output for each image."""

import os

import pytest

from imgclf import ImgclfError
from imgclf.classifier import predict
from imgclf.classifier.model import Classifier
from imgclf.classifier.results import Refused
from support.classifiers import trained


def test_image_files_are_those_in_folders_and_all_files_that_are_named(colour_folder):
    (colour_folder / "red" / "deep").mkdir()
    (colour_folder / "red" / "00.jpg").rename(colour_folder / "red" / "deep" / "x.PNG")
    (colour_folder / "red" / "notes.txt").write_text("no suffix of an image")
    named = list(predict.image_files([colour_folder / "red" / "notes.txt", colour_folder / "red"]))
    assert [path.name for path in named] == ["notes.txt", *(f"{i:02d}.jpg" for i in range(1, 12)), "x.PNG"]


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(ImgclfError, match=r"gone\.jpg: no such file or folder"):
        predict.image_files([tmp_path / "gone.jpg"])


def test_for_a_folder_without_images_the_suffixes_of_images_are_named(tmp_path):
    with pytest.raises(
        ImgclfError, match=r"no image files \(\.jpg, .*; without a suffix, the content decides\) in "
    ):
        list(predict.image_files([tmp_path]))


@pytest.mark.parametrize(
    "name",
    [
        ".hidden.jpg",
        "._00.jpg",
        "@eaDir/x.jpg",
        "__MACOSX/x.jpg",
        ".ipynb_checkpoints/x.jpg",
        "$RECYCLE.BIN/x.jpg",
    ],
)
def test_hidden_files_and_those_of_systems_are_left_out_unless_named(tmp_path, name):
    path = tmp_path / "new" / name
    path.parent.mkdir(parents=True)
    path.touch()
    (tmp_path / "new" / "a.jpg").touch()
    assert list(predict.image_files([tmp_path / "new"])) == [tmp_path / "new" / "a.jpg"]
    assert list(predict.image_files([path])) == [path]


def test_a_folder_given_by_name_is_searched_although_it_is_hidden(colour_folder, tmp_path):
    hidden = (colour_folder / "red").rename(tmp_path / ".red")
    assert len(list(predict.image_files([hidden]))) == 12


def test_links_to_folders_are_followed_and_a_circle_of_links_ends(tmp_path):
    for folder in ("new/deep", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.jpg").touch()
    (tmp_path / "new" / "deep" / "above").symlink_to(tmp_path / "new")
    (tmp_path / "new" / "more").symlink_to(tmp_path / "elsewhere")
    found = [path.relative_to(tmp_path).as_posix() for path in predict.image_files([tmp_path / "new"])]
    assert found == ["new/deep/a.jpg", "new/more/a.jpg"]


def test_files_of_a_large_folder_are_yielded_before_the_next_folder_is_listed(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "0.jpg").touch()
    found = predict.image_files([tmp_path])
    assert next(found) == tmp_path / "a" / "0.jpg"
    (tmp_path / "b" / "1.jpg").touch()  # not listed yet, so it is still found
    assert [path.name for path in found] == ["0.jpg", "1.jpg"]


def test_a_folder_that_cannot_be_read_is_named_and_the_others_are_predicted(
    tiny_network, colour_folder, monkeypatch
):
    loaded = Classifier.load(trained(tiny_network, colour_folder))
    listed = os.scandir

    def refuse(path):
        if str(path).endswith("green"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    results = list(predict.label_files(loaded, predict.image_files([colour_folder])))
    assert len(results) == 25
    (refused,) = (path for path, result in results if isinstance(result, Refused))
    assert refused == colour_folder / "green"


def test_labels_below_the_threshold_are_not_given(tiny_network, colour_folder):
    loaded = Classifier.load(trained(tiny_network, colour_folder))
    paths = sorted((colour_folder / "red").iterdir())
    ((_, sure),) = predict.label_files(loaded, paths[:1], reject_below=0.1)
    ((_, unsure),) = predict.label_files(loaded, paths[:1], reject_below=1)
    assert (sure.label, unsure.label) == ("red", None)
    assert sure.probability == unsure.probability == max(sure.probabilities.values()) < 1


def test_newest_classifier_is_the_one_written_last(data_dir):
    for age, name in enumerate(["fruit", "clothes"]):
        (data_dir / "proc" / name).mkdir(parents=True)
        (data_dir / "proc" / name / "classifier.onnx").touch()
        os.utime(data_dir / "proc" / name / "classifier.onnx", (0, 1_000_000 - age))
    assert predict.newest_classifier() == data_dir / "proc" / "fruit" / "classifier.onnx"


def test_without_a_classifier_the_error_says_what_to_run(data_dir):
    with pytest.raises(
        ImgclfError, match=r"no classifier\.onnx yet; run the notebooks first, or give the path of one"
    ):
        predict.newest_classifier()


def test_predictions_are_in_the_order_of_the_images_and_unreadable_ones_are_named(
    tiny_network, colour_folder
):
    loaded = Classifier.load(trained(tiny_network, colour_folder))
    (colour_folder / "red" / "05.jpg").write_bytes(b"")
    found, skipped = predict.predict(loaded, [colour_folder / "red"])
    assert [prediction.path for prediction in found] == [
        str(colour_folder / "red" / f"{i:02d}.jpg") for i in range(12) if i != 5
    ]
    assert [image.reason for image in skipped] == ["05.jpg: the file is empty; replace or delete it"]


def test_a_named_pipe_among_the_images_is_named_and_left_out(tiny_network, colour_folder):
    os.mkfifo(colour_folder / "red" / "pipe.jpg")
    loaded = Classifier.load(trained(tiny_network, colour_folder))
    predictions, skipped = predict.predict(loaded, [colour_folder / "red"])
    (reason,) = (image.reason for image in skipped)
    assert len(predictions) == 12
    assert reason.endswith("pipe.jpg: a named pipe instead of a regular file; move it away")


def test_results_come_while_most_files_are_still_unread(tiny_network, colour_folder):
    loaded = Classifier.load(trained(tiny_network, colour_folder))
    begun = []

    def many():
        for i in range(1000):
            begun.append(i)
            yield colour_folder / "red" / f"{i % 12:02d}.jpg"

    results = predict.label_files(loaded, many())
    assert next(results)[1].label == "red"
    assert len(begun) < 200
    results.close()


def test_the_folder_of_the_images_cannot_be_the_one_of_the_results(colour_folder):
    with pytest.raises(
        ImgclfError, match="results cannot be written into the folder that the images are in; name another"
    ):
        predict.image_files([colour_folder], without=colour_folder / "red" / "..")
