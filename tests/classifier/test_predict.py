"""The images and the classifier of a prediction, and the output for each image."""

import json
import os
import shutil

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


@pytest.mark.parametrize(
    "path", ["._01.jpg", ".ipynb_checkpoints/01.jpg", "@eaDir/01.jpg", "__MACOSX/red/01.jpg"]
)
def test_hidden_images_and_those_of_operating_systems_are_left_out(colour_folder, path):
    before = predict.image_files([colour_folder])
    (colour_folder / path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(colour_folder / "red/01.jpg", colour_folder / path)
    assert predict.image_files([colour_folder]) == before


def test_a_folder_given_by_name_is_searched_although_it_is_hidden(colour_folder, tmp_path):
    hidden = (colour_folder / "red").rename(tmp_path / ".red")
    assert len(predict.image_files([hidden])) == 12


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
