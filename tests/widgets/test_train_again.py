"""The button Train again, with the real command in a process of its own."""

import shutil
import subprocess
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from imgclf.annotation.annotations import Annotations
from imgclf.data import dataset
from imgclf.evaluation import report
from support import in_process
from support.in_process import Folder

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of the widgets' own definitions
    from imgclf.widgets.annotator import Annotator
    from imgclf.widgets.train_again import COMMAND, LABELS_CHANGED, NEXT, TrainAgain

SECONDS = 300  # for a run, on a busy machine


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """01 to 05 have run on the colours. It is read-only."""
    return in_process.finished(tmp_path_factory.mktemp("finished") / "data")


@pytest.fixture
def folder(finished: Folder, data_dir: Path) -> Folder:
    """$IMGCLF_DATA, a copy of that data folder."""
    return Folder(shutil.copytree(finished.data, data_dir), finished.values)


@pytest.fixture
def annotator(folder: Folder) -> Annotator:
    return Annotator(Annotations(dataset.read("colours")))


def relabel(annotator: Annotator, tile: int) -> None:
    """Give an image on the page the label red, by mouse and key."""
    annotator.sheet._handle_custom_msg({"click": tile, "shift": False, "ctrl": False}, [])
    annotator.keyboard._handle_custom_msg({"key": "3", "shift": False, "ctrl": False}, [])


def wait_for(condition: Callable[[], object], widget: TrainAgain) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, widget.text.value
        time.sleep(0.05)


def wait(widget: TrainAgain) -> str:
    """Wait until the run has ended, and return the text."""
    widget.follower.join(SECONDS)
    assert not widget.follower.is_alive(), widget.text.value
    assert (widget.start.disabled, widget.stop.layout.display) == (False, "none")
    return widget.text.value


def test_nothing_runs_before_the_button_is_pressed(annotator):
    button = annotator.train_again
    assert button in annotator.children and button.follower is None
    assert (button.start.disabled, button.stop.layout.display, button.text.value) == (False, "none", "")


@pytest.mark.notebooks
@pytest.mark.slow
class TestAfterChangedLabels:
    def test_it_shows_the_notebook_that_runs_then_the_accuracies_before_and_now(self, annotator, folder):
        before, button = report.read_test_scores(folder.proc), annotator.train_again
        relabel(annotator, 0)
        annotator.keyboard._handle_custom_msg({"idle": True}, [])
        assert "1 image changed since 01_prepare_data ran" in annotator.next_steps.value
        button.start.click()
        assert (button.start.disabled, button.stop.layout.display) == (True, None)
        wait_for(lambda: "\n03_run_dnn  " in button.text.value.partition("01_prepare_data  ")[2], button)
        assert "01_prepare_data   runs: the images in " in button.text.value
        lines = wait(button).split("<br>")
        now = report.read_test_scores(folder.proc).overall_accuracy
        assert lines[0] == f"overall accuracy before: {before.overall_accuracy}, with the labels of then"
        assert lines[1] == f"overall accuracy now:    {now}"
        assert lines[3].startswith("Did it help? ") and lines[-1] == NEXT
        assert annotator.next_steps.value == "" and set(annotator.sides.subset_of.values()) == {
            "train",
            "test",
        }
        assert {each.label for each in dataset.read("colours").images} == {"red", "green", "blue"}

    def test_labels_that_change_while_it_runs_take_another_run(self, annotator):
        button = annotator.train_again
        relabel(annotator, 0)
        button.start.click()
        wait_for(lambda: "\n03_run_dnn  " in button.text.value.partition("01_prepare_data  ")[2], button)
        relabel(annotator, 1)
        text = wait(button)
        assert text.endswith(LABELS_CHANGED)
        assert text.startswith(
            ("Not done: labels of colours were changed after 01", "overall accuracy before")
        )

    def test_stop_ends_the_command_and_its_kernel(self, annotator):
        button = annotator.train_again
        relabel(annotator, 0)
        button.start.click()
        wait_for(lambda: psutil.Process(button._process.pid).children(), button)  # a kernel
        processes = psutil.Process(button._process.pid).children(recursive=True)
        button.stop.click()
        text = wait(button)
        assert text.startswith("Not done: stopped in 01_prepare_data; to go on: imgclf run --changed")
        assert psutil.wait_procs(processes, SECONDS)[1] == []


@pytest.mark.slow
def test_without_a_change_it_says_so(annotator, folder):
    annotator.train_again.start.click()
    text = wait(annotator.train_again)
    assert text.startswith("Nothing changed: the test images, their labels and their scores are those of the")
    assert text.endswith(f"overall accuracy {report.read_test_scores(folder.proc).overall_accuracy}")


@pytest.mark.slow
def test_stop_before_the_command_has_begun_says_so(annotator):
    annotator.train_again.start.click()
    annotator.train_again.stop.click()
    assert wait(annotator.train_again) == "Not done: stopped"


@pytest.mark.slow
def test_an_error_is_shown_as_one_line(annotator, folder):
    for path in folder.images.iterdir():
        path.rename(folder.data / path.name)
    annotator.train_again.start.click()
    text = wait(annotator.train_again)
    assert text.startswith(f"Not done: {folder.images}: no label folders in it") and "<br>" not in text


def test_without_earlier_results_no_command_runs(annotator, folder):
    (folder.proc / "scores.npz").unlink()
    annotator.train_again.start.click()
    assert annotator.train_again.follower is None and not annotator.train_again.start.disabled
    assert annotator.train_again.text.value.startswith(
        "Not done: colours: no earlier results to compare with"
    )
    assert annotator.train_again.text.value.endswith("run imgclf run first")


def test_a_package_in_the_working_directory_is_not_run(tmp_path):
    (tmp_path / "imgclf").mkdir()
    (tmp_path / "imgclf" / "cli.py").write_text("open('started', 'w')")
    (tmp_path / "imgclf" / "__init__.py").touch()
    subprocess.run([*COMMAND[: COMMAND.index("run")], "--version"], cwd=tmp_path, check=True)
    assert not (tmp_path / "started").exists()
