"""Each result is kept whatever the name of its image; no label leads a copy out of the folder."""

import csv
import json
import os
from pathlib import Path

import pytest

from imgclf import ImgclfError
from imgclf.classifier.results import Labelled, copy_into, csv_file

RED = Labelled("red", 1.25, 0.875, {"blue": -1.0, "red": 1.25}, {"blue": 0.125, "red": 0.875}, 0.625)
UNSURE = Labelled(None, 0.5, 0.51, {}, {}, reason="unsure")
UNFAMILIAR = Labelled(None, 0.5, 0.51, {}, {}, 0.25, "unfamiliar")
LATIN_1 = Path(os.fsdecode(b"gr\xfcn.jpg"))


@pytest.fixture
def image(tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a.jpg").write_bytes(b"content")
    return tmp_path / "new" / "a.jpg"


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_line_has_label_score_probability_familiarity_and_image():
    assert RED.as_line(Path("a/b c.jpg")) == "red\t1.25\t88%\t0.62\ta/b c.jpg"
    assert UNSURE.as_line(Path("a.jpg")) == "unsure\t0.50\t51%\t\ta.jpg"
    assert UNFAMILIAR.as_line(Path("a.jpg")) == "unfamiliar\t0.50\t51%\t0.25\ta.jpg"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\tb", r"a\tb"),
        ("a\nb", r"a\nb"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\u2028b", r"a\u2028b"),
        ("größe 图", "größe 图"),
    ],
)
def test_no_name_breaks_a_line_or_commands_the_terminal(name, shown):
    assert RED.as_line(Path(name)) == f"red\t1.25\t88%\t0.62\t{shown}"


def test_json_has_plain_values_and_any_name_comes_back():
    values = json.loads(json.dumps(RED.as_json(LATIN_1)))
    assert os.fsencode(values["image"]) == b"gr\xfcn.jpg"
    assert (values["label"], values["scores"]) == ("red", {"blue": -1.0, "red": 1.25})


@pytest.mark.parametrize("name", ["a.jpg", 'a "b", c.jpg', "a\nb.jpg", "größe 图.jpg"])
def test_csv_has_a_header_and_reads_back(tmp_path, name):
    with csv_file(tmp_path / "out" / "labels.csv") as add:
        add(Path(name), RED)
        add(Path(name), UNSURE)
    with (tmp_path / "out" / "labels.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"label": "red", "score": "1.25", "probability": "0.875", "familiarity": "0.625", "image": name},
            {"label": "unsure", "score": "0.5", "probability": "0.51", "familiarity": "", "image": name},
        ]


def test_csv_with_a_name_that_is_not_utf8_is_utf8(tmp_path):
    with csv_file(tmp_path / "labels.csv") as add:
        add(LATIN_1, RED)
    assert "gr\\udcfcn.jpg" in (tmp_path / "labels.csv").read_text(encoding="utf-8")


def test_csv_of_an_interrupted_command_does_not_replace_the_old_one(tmp_path):
    (tmp_path / "labels.csv").write_text("old")
    with pytest.raises(KeyboardInterrupt), csv_file(tmp_path / "labels.csv") as add:
        add(Path("a.jpg"), RED)
        raise KeyboardInterrupt
    assert tree(tmp_path) == {"labels.csv": b"old"}


def test_copies_are_in_a_folder_per_label_and_unsure_ones_apart(tmp_path, image):
    copy_into(tmp_path / "sorted", image, "red")
    copy_into(tmp_path / "sorted", image, UNSURE.name)
    assert tree(tmp_path / "sorted") == {"red/a.jpg": b"content", "unsure/a.jpg": b"content"}
    assert image.read_bytes() == b"content"
    assert (tmp_path / "sorted" / "red" / "a.jpg").stat().st_mtime == image.stat().st_mtime


def test_a_copy_never_overwrites_and_a_second_call_copies_nothing(tmp_path, image):
    (tmp_path / "sorted" / "red").mkdir(parents=True)
    (tmp_path / "sorted" / "red" / "a.jpg").write_bytes(b"of somebody")
    (tmp_path / "sorted" / "red" / "a-2.jpg").symlink_to(tmp_path / "gone")
    for _ in range(2):
        assert copy_into(tmp_path / "sorted", image, "red").name == "a-3.jpg"
    assert tree(tmp_path / "sorted") == {"red/a.jpg": b"of somebody", "red/a-3.jpg": b"content"}
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("label", ["..", ".", "../up", "/tmp/imgclf_outside", "a/../../up", "a\\b", "a\0b"])
def test_a_label_that_leads_elsewhere_is_refused(tmp_path, image, label):
    before = tree(tmp_path)
    with pytest.raises(ImgclfError, match="cannot name a folder; rename the label"):
        copy_into(tmp_path / "sorted", image, label)
    assert tree(tmp_path) == before and not Path("/tmp/imgclf_outside").exists()


def test_a_link_in_the_place_of_a_label_folder_is_refused(tmp_path, image):
    (tmp_path / "sorted").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "sorted" / "red").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ImgclfError, match="red: is a link to another folder; remove it"):
        copy_into(tmp_path / "sorted", image, "red")
    assert tree(tmp_path / "elsewhere") == {}
