"""The Python side of the map: the images inside a lasso are shown, and get a label together."""

import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

from imgclf.features import embedding
from support.unlabelled import scanned, write_unlabelled

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of bqplot's own definitions
    from imgclf.widgets.feature_map import FeatureMap


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """36 images of three colours without a label."""
    return write_unlabelled(tmp_path / "colours", each=12)


@pytest.fixture
def shown(folder: Path) -> FeatureMap:
    return FeatureMap(*scanned(folder))


def press(shown: FeatureMap, *keys: str) -> str:
    for key in keys:
        shown.keyboard._handle_custom_msg({"key": key, "shift": False, "ctrl": False}, [])
    return shown.status.value


def colour(path: str) -> str:
    return path.rpartition("/")[2].partition("_")[0]


def lasso(shown: FeatureMap, name: str, *, mark: str = "unlabelled") -> list[str]:
    """Select the points of a colour, as the browser does; return the paths of the images that are shown."""
    points = shown._marks[mark]
    points.selected = np.array([k for k, path in enumerate(points.names) if colour(path) == name])
    return [shown.annotations.images[i].path for i in shown.picks.order]


def test_each_image_is_a_point_of_its_label(shown):
    marks = {mark.labels[0]: mark for mark in shown.chart.marks}
    assert list(marks) == ["unlabelled", "blue", "green", "red", "none_of_these"]
    assert [len(mark.x) for mark in marks.values()] == [36, 0, 0, 0, 0]
    assert len({mark.marker for mark in marks.values()}) == 5
    assert shown.note.value == "36 images"


def test_the_images_inside_the_lasso_get_a_label_together(shown, folder):
    paths = lasso(shown, "red")
    assert sorted(paths) == [f"unlabelled/red_{i:02d}.jpg" for i in range(12)]
    assert len(shown.page.sheet.tiles) == 12 and "12 of 12 images chosen" in shown.page.text.value
    shown.page.sheet._handle_custom_msg({"click": 0, "shift": False, "ctrl": False}, [])
    assert press(shown, "3") == "11 images: label set to &#x27;red&#x27;"
    assert len(list((folder / "red").iterdir())) == 11 and (folder / paths[0]).exists()
    marks = {mark.labels[0]: mark for mark in shown.chart.marks}
    assert len(marks["red"].x) == 11 and len(marks["unlabelled"].x) == 25
    assert shown.page.sheet.tiles == [] and marks["unlabelled"].selected is None
    assert "3 ◆ red · 11" in [button.description for button in shown.labels.children]


def test_images_that_have_a_label_are_left_out_until_they_are_put_back(shown, folder):
    lasso(shown, "red")
    press(shown, "3")
    shown.annotations.relabel(
        [i for i in range(36) if colour(shown.annotations.images[i].path) == "blue"], "blue"
    )
    shown._marks["unlabelled"].selected = np.arange(12)
    shown._marks["red"].selected = np.arange(2)
    assert len(shown.picks.order) == 14 and len(shown.picks.chosen) == 12
    assert all("unlabelled/" in shown.annotations.images[i].path for i in shown.picks.chosen)
    press(shown, "2")
    assert len(list((folder / "red").iterdir())) == 12


@pytest.mark.parametrize("selected", [[0, 2], [[0, 2]], np.array([0.0, 2.0])])
def test_selections_of_any_shape_are_understood(shown, selected):
    shown._marks["unlabelled"].selected = np.array(selected)
    assert len(shown.picks.order) == 2


def test_points_that_are_gone_are_ignored(shown):
    shown._marks["unlabelled"].selected = np.array([0, 99])
    assert len(shown.picks.order) == 1
    shown._marks["unlabelled"].selected = None
    assert shown.picks.order == []


def test_a_lasso_around_a_drawn_image_also_chooses_the_images_that_it_represents(folder):
    shown = FeatureMap(*scanned(folder), most=10)
    assert len(shown._marks["unlabelled"].x) == 9
    assert shown.note.value == "9 of 36 images are drawn; each represents those most similar to it"
    assert sorted(map(colour, lasso(shown, "green"))) == ["green"] * 12


def test_without_a_lasso_nothing_is_changed(shown, folder):
    assert "no image is chosen; drag a lasso" in press(shown, "1") and "no image is chosen" in press(
        shown, "x"
    )
    assert not any((folder / "blue").iterdir())


def test_keys_exclude_give_none_undo_and_clear(shown, folder):
    lasso(shown, "green")
    assert press(shown, "x") == "12 images: excluded"
    press(shown, "z")
    lasso(shown, "green")
    press(shown, "n")
    assert len(list((folder / "none_of_these").iterdir())) == 12
    lasso(shown, "red")
    press(shown, "ArrowRight", " ")
    assert len(shown.picks.chosen) == 11
    press(shown, "Escape")
    assert shown.picks.order == []


def test_a_new_label_gets_the_images_inside_the_lasso(shown, folder):
    lasso(shown, "green")
    shown.label_box._handle_custom_msg({"add": "mint"}, [])
    assert len(list((folder / "mint").iterdir())) == 12
    assert [mark.labels[0] for mark in shown.chart.marks][-2:] == ["mint", "none_of_these"]


def test_another_map_is_computed_in_the_background(shown):
    shown.method.value = "t-SNE"
    shown.thread.join(60)
    assert shown.chart.axes[0].label == "t-SNE 1" and shown.status.value == "the new map is shown"
    mark = shown._marks["unlabelled"]
    np.testing.assert_allclose(mark.x, shown.embedding.points[:, 0])
    assert len(lasso(shown, "blue")) == 12


def test_a_second_map_waits_and_an_error_is_shown(shown, monkeypatch):
    may_end = threading.Event()

    def broken(*_: object, **__: object) -> None:
        may_end.wait(30)
        raise MemoryError("too many images")

    monkeypatch.setattr(embedding, "tsne", broken)
    shown.method.value = "t-SNE"
    shown.method.value = "Principal components"
    assert "another map is being computed" in shown.status.value
    may_end.set()
    shown.thread.join(30)
    assert shown.note.value == "Not done: MemoryError: too many images"


def test_the_text_representation_is_the_same_in_every_run(shown):
    assert repr(shown) == "[map of 36 images: run this cell to use it]"


def test_a_lasso_around_many_images_looks_at_each_a_few_times(shown):
    class Counted(int):
        hashed = 0

        def __hash__(self) -> int:
            Counted.hashed += 1
            return int(self)

        def __eq__(self, other: object) -> bool:
            return int(self) == other

    shown.annotations.confirm(range(12))
    shown.annotations.relabel(range(24), "red")
    shown._show_open([Counted(i) for i in range(36)])
    assert shown.picks.order == [*range(24, 36), *range(24)] and shown.picks.left_out == set(range(24))
    assert Counted.hashed < 10 * 36
