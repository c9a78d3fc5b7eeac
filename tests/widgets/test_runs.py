"""The Python side of the browser of runs: what is listed, chosen, shown side by side, saved and loaded."""

import shutil
import warnings

import numpy as np
import pytest
from ipywidgets import Button

from imgclf import files
from imgclf.annotation.annotations import Annotations
from imgclf.classifier import storage
from imgclf.data import dataset, scan
from imgclf.evaluation import metrics
from imgclf.experiments.history import comparing, runs
from support.classifiers import trained
from support.evaluations import LABELS
from support.evaluations import scored as scored_colours
from support.runs import recorded, run, scored

with warnings.catch_warnings():
    warnings.simplefilter(
        "ignore", DeprecationWarning
    )  # of bqplot's own definitions, when it is first imported
    from imgclf.widgets.results import ResultsBrowser
    from imgclf.widgets.runs import RunsBrowser
    from imgclf.widgets.side_by_side import PER_PAGE, SideBySide
    from imgclf.widgets.trials import ParallelCoordinates

FIRST = {"apple/1": 0.1, "apple/2": 0.6, "pear/3": 0.9, "pear/4": 0.3}
SECOND = {"apple/1": 0.2, "apple/2": 0.4, "pear/3": 0.7, "pear/4": 0.6}
NAUGHTY = "<img src=x onerror=alert(1)>"


@pytest.fixture
def three():
    """Two runs on "fruit", which disagree on two images, and one on another data set; the newest first."""
    return [
        run(3, dataset_name="clothes", name="the third", seconds={"02": 50.0}),
        run(
            2, scored=scored(SECOND), parameters={"classifier": "svm", "input_size": 320}, seconds={"02": 9.0}
        ),
        run(
            1, scored=scored(FIRST), parameters={"classifier": "svm", "input_size": 240}, seconds={"02": 10.0}
        ),
    ]


def choose(browser: RunsBrowser, *chosen: runs.Run) -> None:
    browser.table.selected = [each.id for each in chosen]


def column(browser: RunsBrowser, name: str) -> list[str]:
    position = browser.table.columns.index(name)
    return [row["texts"][position] for row in browser.table.rows]


def htmls(box) -> str:
    """All HTML below a widget."""
    return getattr(box, "value", "") if not hasattr(box, "children") else "".join(map(htmls, box.children))


def side_by_side(browser: RunsBrowser) -> SideBySide:
    return browser.chosen.children[0]


def test_runs_are_listed_newest_first_and_sorted_by_a_column(three):
    browser = RunsBrowser(three)
    assert column(browser, "name") == [each.name for each in three]
    browser.table.sort, browser.table.descending = "seconds", False
    assert column(browser, "seconds") == ["9", "10", "50"]


def test_one_data_set_is_listed_and_columns_are_chosen(three):
    browser = RunsBrowser(three)
    assert list(browser.dataset_name.options) == [("all", ""), ("clothes", "clothes"), ("fruit", "fruit")]
    browser.dataset_name.value = "clothes"
    for name, button in browser.columns.items():
        button.value = name in ("id", "name")
    assert browser.table.columns == ["name", "id"]  # in the order of the table
    assert browser.table.rows == [{"id": three[0].id, "texts": ["the third", three[0].short_id]}]


def test_one_chosen_run_shows_its_parameters_and_metrics(three):
    browser = RunsBrowser(three)
    choose(browser, three[2])
    shown = htmls(browser.chosen)
    assert "input_size" in shown and "50.0% (" in shown and three[2].id in shown


def test_two_chosen_runs_are_shown_side_by_side_the_older_as_run_1(three):
    browser = RunsBrowser(three)
    choose(browser, three[1], three[2])
    shown = htmls(browser.chosen)
    assert f"run 1: {three[2].name}" in shown
    for piece in (
        "<td>240</td>",
        "<td>320</td>",
        "+50.0 points",
        "Is run 2 better than run 1? Not significant",
    ):
        assert piece in shown
    choose(browser)
    assert browser.chosen.children == ()


def test_of_three_runs_with_results_parallel_coordinates_are_drawn(three):
    browser = RunsBrowser([run(4, scored=scored(SECOND), parameters={"input_size": 120}), *three])
    choose(browser, *browser.listed)
    drawn = browser.chosen.children[-1]
    assert isinstance(drawn, ParallelCoordinates) and len(drawn.marks) == 3
    assert drawn.title == "3 runs, the best on held-out images in blue"


def test_a_chosen_run_of_a_data_set_that_is_not_listed_stays_chosen(three):
    browser = RunsBrowser(three)
    choose(browser, three[1], three[2])
    browser.dataset_name.value = "clothes"
    assert browser.selected == [three[1], three[2]] and isinstance(side_by_side(browser), SideBySide)


def test_curves_of_a_label_differ_by_the_style_of_their_lines_alone(three):
    shown = SideBySide(comparing.oldest_first(three[1:]))
    shown.label.value = "pear"
    lines = shown.curves.children[0].marks
    assert [line.labels for line in lines] == [["run 1: area 0.750"], ["run 2: area 1.000"]]
    assert [line.line_style for line in lines] == ["solid", "dashed"] and lines[0].colors == lines[1].colors


def test_images_on_which_runs_disagree_have_all_predictions_and_say_if_the_file_is_gone(three):
    shown = SideBySide(comparing.oldest_first(three[1:]))
    assert shown.pictures.value.index("pear/4") < shown.pictures.value.index("apple/2")
    for piece in ("✗ run 1: apple 0.70", "✓ run 2: pear 0.60", "the image is no longer there"):
        assert piece in shown.pictures.value


def test_pictures_come_from_the_folder_of_the_data_set_in_pages(colour_folder, data_dir):
    (data_dir / "images").mkdir(parents=True)
    colour_folder.rename(data_dir / "images" / "fruit")
    paths = [f"red/{path.name}" for path in (data_dir / "images" / "fruit" / "red").iterdir()] + [
        "red/a",
        "red/b",
    ]
    chosen = [run(k, scored=_red(paths, right)) for k, right in ((1, True), (2, False))]
    shown = SideBySide(comparing.oldest_first(chosen))
    assert len(paths) == PER_PAGE + 2 and shown.pictures.value.count("<figure") == PER_PAGE
    assert shown.pictures.value.count("data:image/jpeg;base64,/9j/") >= PER_PAGE - 2
    assert (shown.back.disabled, shown.forward.disabled) == (True, False)
    shown.forward.click()
    assert shown.pictures.value.count("<figure") == 2 and shown.position.value.startswith("13 to 14 of 14")
    assert (shown.back.disabled, shown.forward.disabled) == (False, True)


def test_a_recorded_path_out_of_the_data_set_is_not_read(colour_folder, data_dir):
    (data_dir / "images").mkdir(parents=True)
    (colour_folder / "red").rename(data_dir / "images" / "red")
    picture = next((data_dir / "images" / "red").iterdir()).name
    paths = [f"../red/{picture}", f"{data_dir}/images/red/{picture}"]
    compared = comparing.oldest_first(
        [run(k, scored=_red(paths, right)) for k, right in ((1, True), (2, False))]
    )
    assert SideBySide(compared).pictures.value.count("the image is no longer there") == 2


def _red(paths, is_right):
    probabilities = np.tile(np.float32([[0.1, 0.2, 0.7] if is_right else [0.7, 0.2, 0.1]]), (len(paths), 1))
    return metrics.evaluate(LABELS, paths, ["red"] * len(paths), probabilities, probabilities)


def test_names_notes_and_paths_stay_text(three):
    odd = run(
        4, name=NAUGHTY, note=NAUGHTY, scored=scored({f"pear/{NAUGHTY}": 0.9, "apple/1": 0.2}), kind=NAUGHTY
    )
    other = run(5, name=NAUGHTY, scored=scored({f"pear/{NAUGHTY}": 0.2, "apple/1": 0.2}))
    browser = RunsBrowser([odd, other])
    choose(browser, odd)
    one = htmls(browser.chosen)
    choose(browser, odd, other)
    both = htmls(browser.chosen)
    # The text fields have the name and the note as they are, and are no HTML.
    assert one.count("<img src=x") == 2 and "<img src=x" not in both and "&lt;img src=x" in both


def test_a_run_without_scores_is_shown_with_the_reason(three):
    browser = RunsBrowser(three)
    choose(browser, three[0], three[1])
    assert "is not compared with run 1: run 2, the third: has no scores" in htmls(browser.chosen)


def test_points_of_the_scatter_are_runs_and_a_click_chooses_one(three):
    browser = RunsBrowser(three)
    browser.dataset_name.value = "fruit"
    assert (browser.parameter.value, browser.metric.value) == ("input_size", "overall accuracy")
    others, chosen = browser.scatter.others, browser.scatter.chosen
    assert (others.y.tolist(), others.names.tolist()) == ([1.0, 0.5], [three[1].name, three[2].name])
    assert others.x[0] > others.x[1] and len(chosen.x) == 0
    click(others, 1)
    assert browser.selected == [three[2]]
    assert (others.names.tolist(), chosen.names.tolist()) == ([three[1].name], [three[2].name])
    click(chosen, 0)
    assert browser.selected == []


def click(points, index: int) -> None:
    points._handle_custom_msg({"event": "element_click", "data": {"index": index}}, [])


def test_without_runs_or_differences_there_is_no_scatter(three):
    assert RunsBrowser([]).plots.children == () and RunsBrowser(three[:1]).plots.children == ()


def test_200_runs_are_listed(three):
    given = [run(k % 24, name=f"run {k}") for k in range(200)]
    browser = RunsBrowser(given)
    assert len(browser.table.rows) == 200
    choose(browser, *given)
    assert "runs are chosen; up to 8 are shown side by side" in htmls(browser.chosen)


def test_the_text_representation_is_the_same_in_every_run(three):
    assert repr(RunsBrowser(three)) == "[browser of the run history: run this cell to use it]"


@pytest.fixture
def history(distinct_folder, data_dir, tiny_network):
    """The history of two runs on "colours", the newer first; the older has a classifier. And their evaluation."""
    folder = data_dir / "images" / "colours"
    folder.parent.mkdir(parents=True)
    found = scan.scan_folder("colours", distinct_folder.rename(folder))
    dataset.write(found)
    evaluation = scored_colours(Annotations(found))
    older, newer = (recorded(evaluation, name=name, images_dir="/moved") for name in ("older", "newer"))
    path = trained(tiny_network, folder)
    storage.store(path, older.folder, runs.root() / runs.WEIGHTS)
    return [newer, older], evaluation, files.sha256(path)


def load(browser: RunsBrowser, chosen: runs.Run) -> None:
    choose(browser, chosen)
    press(browser.chosen, "Load")


def press(box, name: str) -> None:
    """Click on a button below a widget."""
    (button,) = [each for each in walk(box) if isinstance(each, Button) and each.description == name]
    button.click()


def walk(box):
    yield box
    for child in getattr(box, "children", ()):
        yield from walk(child)


def test_a_run_is_loaded_as_it_was_recorded_and_its_labels_can_be_changed(history, data_dir):
    (_, older), evaluation, sha256 = history
    browser = RunsBrowser()
    load(browser, older)
    assert np.array_equal(browser.evaluation.scores, evaluation.scores)
    assert files.sha256(browser.classifier_path) == sha256 and "loaded " in browser.status.value
    review = browser.loaded.children[-1]
    assert isinstance(review, ResultsBrowser)
    review._buttons["red"].click()
    assert (data_dir / "images" / "colours" / "red" / "b00.jpg").exists()
    assert np.array_equal(runs.evaluation(older).truth, evaluation.truth)  # the record stays


@pytest.mark.parametrize("what", ["gone", "of another folder"])
def test_a_run_is_loaded_from_its_own_list_of_images_if_that_of_the_data_set_is(what, history, data_dir):
    (_, older), *_ = history
    proc = files.proc_dir("colours")
    for name in dataset.TABLES:
        shutil.copy(proc / name, older.folder / name)
    shutil.rmtree(proc)
    if what == "of another folder":
        other = shutil.copytree(data_dir / "images" / "colours" / "red", data_dir / "other" / "red").parent
        shutil.copytree(data_dir / "images" / "colours" / "blue", other / "blue")
        dataset.write(scan.scan_folder("colours", other))
    browser = RunsBrowser()
    load(browser, older)
    browser.loaded.children[-1]._buttons["red"].click()
    assert (data_dir / "images" / "colours" / "red" / "b00.jpg").exists()


def test_without_the_images_the_recorded_scores_are_shown(history, data_dir):
    (_, older), *_ = history
    shutil.rmtree(files.proc_dir("colours"))
    (data_dir / "images").rename(data_dir / "elsewhere")
    browser = RunsBrowser()
    load(browser, older)
    review = browser.loaded.children[-1]
    assert isinstance(review, ResultsBrowser) and "recorded scores only" in browser.loaded.children[1].value
    assert not review.large.value
    press(review, "Exclude (X)")
    assert "no longer in the data set" in review.status.value
    press(review, "Undo (Z)")
    assert "the folder no longer exists" in review.status.value


def test_a_run_without_classifier_shows_its_review_and_says_what_is_missing(history):
    (newer, _), *_ = history
    browser = RunsBrowser()
    load(browser, newer)
    assert isinstance(browser.loaded.children[-1], ResultsBrowser) and browser.classifier_path is None
    assert "Not done: " in browser.status.value and "has no classifier" in browser.status.value


def test_name_note_and_tags_are_saved_and_the_list_is_read_again(history):
    (newer, _), *_ = history
    browser = RunsBrowser()
    choose(browser, newer)
    browser.name.value, browser.note.value, browser.tags.value = "the best", "more blue", "good, good, "
    press(browser.chosen, "Save")
    saved = runs.find("the best")
    assert (saved.id, saved.note, saved.tags) == (newer.id, "more blue", ("good",))
    assert "the best" in column(browser, "name") and "saved: the best" in browser.status.value
    browser.name.value = " "
    press(browser.chosen, "Save")
    assert "Not done: name of" in browser.status.value


def test_refresh_lists_runs_that_were_recorded_meanwhile(history):
    (newer, older), *_ = history
    browser = RunsBrowser()
    choose(browser, newer, older)
    runs.delete(older)
    press(browser, "Refresh")
    assert browser.selected == [newer] and len(browser.table.rows) == 1


def test_damaged_runs_are_named(history):
    (newer, older), *_ = history
    (older.folder / "run.json").write_text("{")
    browser = RunsBrowser()
    assert f"left out: {older.folder / 'run.json'}: damaged" in browser.status.value
    assert column(browser, "name") == [newer.name]
