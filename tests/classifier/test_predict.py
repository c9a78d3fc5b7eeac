"""The images and the classifier of a prediction, and the output for each image."""

import json
import os

import numpy as np
import pytest

from imgclf import ImgclfError
from imgclf.classifier import predict
from imgclf.classifier.model import Classifier, Prediction
from support.classifiers import trained

CONFIDENT = Prediction(
    "a/b c.jpg", "red", 1.25, np.array([-1, 1.25], np.float32), np.array([0.125, 0.875], np.float32)
)


def test_image_files_are_those_in_folders_and_all_files_that_are_named(colour_folder):
    (colour_folder / "red" / "deep").mkdir()
    (colour_folder / "red" / "00.jpg").rename(colour_folder / "red" / "deep" / "x.PNG")
    (colour_folder / "red" / "notes.txt").write_text("no suffix of an image")
    named = predict.image_files([colour_folder / "red" / "notes.txt", colour_folder / "red"])
    assert [path.name for path in named] == ["notes.txt", *(f"{i:02d}.jpg" for i in range(1, 12)), "x.PNG"]


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(ImgclfError, match=r"gone\.jpg: no such file or folder"):
        predict.image_files([tmp_path / "gone.jpg"])


def test_for_a_folder_without_images_the_suffixes_of_images_are_named(tmp_path):
    with pytest.raises(ImgclfError, match=r"no image files \(\.jpg, .*\) in "):
        predict.image_files([tmp_path])


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


def test_as_json_holds_plain_values(tiny_network, colour_folder):
    loaded = Classifier.load(trained(tiny_network, colour_folder))
    (prediction,), _ = predict.predict(loaded, [colour_folder / "green" / "00.jpg"])
    values = json.loads(json.dumps(predict.as_json(loaded, prediction)))
    assert values["label"] == "green"
    assert list(values["scores"]) == list(values["probabilities"]) == ["blue", "green", "red"]
    assert values["score"] == values["scores"]["green"] == max(values["scores"].values())
    assert sum(values["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_as_line_has_label_score_probability_and_image():
    assert predict.as_line(CONFIDENT) == "red\t1.25\t88%\ta/b c.jpg"
