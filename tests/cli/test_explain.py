"""`imgclf explain`: a picture for each image, and one line for each that has none."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from imgclf import cli
from imgclf.images import decoding
from support.classifiers import trained
from support.networks import with_max_pooling


@pytest.fixture
def model(tiny_network, colour_folder) -> Path:
    return trained(tiny_network, colour_folder)


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch) -> Path:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def explain(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, ["explain", *map(str, arguments)])


def test_each_image_gets_a_picture_beside_its_map_and_a_line(model, colour_folder, in_empty_folder):
    result = explain("--model", model, colour_folder / "red" / "00.jpg", colour_folder / "blue" / "00.jpg")
    assert result.exit_code == 0, result.output
    header, first, second = result.stdout.splitlines()
    assert header == "label\tscore\tprobability\timage\tpicture"
    assert first.split("\t")[0] == "red" and first.endswith("\texplained/00.red.png")
    assert second.endswith("\texplained/00.blue.png")
    original = decoding.read(colour_folder / "red" / "00.jpg")
    picture = decoding.read(in_empty_folder / "explained" / "00.red.png")
    width = original.shape[1]
    assert picture.shape == (original.shape[0], 2 * width, 3)
    assert np.array_equal(picture[:, :width], original)
    assert not np.array_equal(picture[:, width:], original)


def test_a_label_can_be_named(model, colour_folder, in_empty_folder):
    result = explain("--model", model, "--label", "green", "--into", "maps", colour_folder / "red" / "00.jpg")
    assert result.stdout.splitlines()[1].split("\t")[0] == "green"
    assert (in_empty_folder / "maps" / "00.green.png").is_file()


def test_images_of_one_name_in_several_folders_get_a_picture_each(model, colour_folder, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.jpg").write_bytes((colour_folder / "red" / "00.jpg").read_bytes())
    result = explain("--model", model, tmp_path / "a", tmp_path / "b")
    pictures = [line.split("\t")[-1] for line in result.stdout.splitlines()[1:]]
    assert pictures == ["explained/x.red.png", "explained/x.red-2.png"]


def test_long_names_are_shortened_by_bytes_and_stay_apart(model, colour_folder, tmp_path):
    (tmp_path / "long").mkdir()
    for end in ("a", "b"):
        image = tmp_path / "long" / f"{'é' * 125}{end}.jpg"  # 255 bytes
        image.write_bytes((colour_folder / "red" / "00.jpg").read_bytes())
    result = explain("--model", model, tmp_path / "long")
    pictures = [line.split("\t")[-1] for line in result.stdout.splitlines()[1:]]
    assert pictures == [f"explained/{'é' * 123}.red.png", f"explained/{'é' * 122}.red-2.png"]
    assert all(Path(picture).is_file() for picture in pictures)


def test_an_existing_picture_is_overwritten_only_with_replace(model, colour_folder, in_empty_folder):
    image, picture = colour_folder / "red" / "00.jpg", in_empty_folder / "explained" / "00.red.png"
    picture.parent.mkdir()
    picture.write_text("my own")
    refused = explain("--model", model, image)
    assert refused.exit_code == 1
    assert refused.stderr.splitlines()[-1] == (
        "imgclf: explained/00.red.png: exists already; name another folder by --into, or overwrite it by --replace"
    )
    assert picture.read_text() == "my own"
    assert explain("--model", model, "--replace", image).exit_code == 0
    assert cv2.imread(str(picture)) is not None


def test_unreadable_images_are_one_line_each_and_the_others_get_a_picture(model, colour_folder, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    result = explain("--model", model, bad, colour_folder / "red" / "00.jpg")
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 2
    (line,) = (line for line in result.stderr.splitlines() if not line.startswith("using "))
    assert line.startswith(f"skipped {bad}: ")
    alone = explain("--model", model, bad)
    assert alone.exit_code == 1
    assert alone.stderr.splitlines()[-1] == "imgclf: none of the images could be read"


def test_an_unknown_label_and_a_classifier_without_maps_are_refused(model, colour_folder, tmp_path):
    image = colour_folder / "red" / "00.jpg"
    unknown = explain("--model", model, "--label", "pink", image)
    assert unknown.exit_code == 1 and "give one of blue, green, red" in unknown.stderr
    (tmp_path / "other").mkdir()
    without = trained(with_max_pooling(tmp_path / "other" / "dnn_fixed.onnx"), colour_folder)
    refused = explain("--model", without, image)
    assert refused.exit_code == 1 and "no class activation maps" in refused.stderr
    assert not Path("explained").exists()
