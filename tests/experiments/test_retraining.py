"""`imgclf run --changed`: what follows from changed labels, with the parameters of the last results."""

import re
import shutil

import pytest
from click.testing import CliRunner, Result

from imgclf import cli, files
from imgclf.annotation.annotations import Annotations
from imgclf.data import dataset
from imgclf.evaluation import report
from imgclf.experiments import notebooks, provenance, retraining, sequence
from imgclf.images import decoding
from support import cells, in_process
from support.networks import write_tiny_network
from support.pictures import picture, write_colours

ALL = ["01_prepare_data", "02_refine_dnn", "03_run_dnn", "04_train_svm", "05_evaluate"]


def run_changed(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, ["run", "--changed", "-p", "dataset_name=colours", *arguments])


def relabel_test_image(folder: in_process.Folder, label: str = "green") -> str:
    """Give the first test image another label, and return its path before."""
    path = report.read_scores(folder.proc / files.SCORES).paths[0]
    notes = Annotations(dataset.read("colours"))
    notes.relabel([[image.path for image in notes.images].index(path)], label)
    return path


def test_changed_labels_run_what_follows_and_the_accuracies_are_compared(folder, ran):
    before = report.read_test_scores(folder.proc)
    path = relabel_test_image(folder)
    ended = run_changed()
    after = report.read_test_scores(folder.proc)
    assert (ended.exit_code, ended.stderr) == (0, "") and ran == [ALL[0], *ALL[2:]]
    assert f"01_prepare_data   runs: the images in {folder.images} were changed" in ended.stdout
    assert path not in after.paths and len(after.truth) >= 9
    closing, _, verdict = ended.stdout.partition("overall accuracy before: ")
    assert str(folder.proc / "classifier.onnx") in closing
    lines = verdict.splitlines()
    assert lines[0] == f"{before.overall_accuracy}, with the labels of then"
    assert lines[1] == f"overall accuracy now:    {after.overall_accuracy}"
    assert re.match(r"on the \d test images of both, with the labels of now: \d", lines[2])
    assert re.match(r"Did it help\? (No difference|Not significant|Yes|No): .*McNemar's exact test", lines[3])


def test_the_parameters_are_those_of_the_last_results_and_not_those_of_the_notebooks(
    folder, ran, tmp_path, monkeypatch
):
    own = shutil.copytree(notebooks.NOTEBOOKS, tmp_path / "own", ignore=shutil.ignore_patterns(".*"))
    monkeypatch.setattr(notebooks, "NOTEBOOKS", own)
    cells.edit(dataset_name="colours", seed=3, classifier="dnn", svm_c=[10.0])
    relabel_test_image(folder)
    ended = CliRunner().invoke(cli.main, ["run", "--changed"])  # of the data set in the cells
    assert (ended.exit_code, ended.stderr) == (0, "") and ran == [ALL[0], *ALL[2:]]
    made = [provenance.read("colours", number).parameters for number in ("01", "04", "05")]
    assert (made[0]["seed"], made[1]["svm_c"], made[2]["classifier"]) == (0, [0.1, 1.0], "svm")


def test_without_a_change_it_says_so_and_runs_nothing(folder, ran):
    ended = run_changed()
    assert (ended.exit_code, ran) == (0, [])
    accuracy = report.read_test_scores(folder.proc).overall_accuracy
    assert ended.stdout.endswith(
        "\n\nNothing changed: the test images, their labels and their scores are those of the last run; overall "
        f"accuracy {accuracy}\n"
    )


def test_new_images_count_as_changes_and_those_of_the_manifest_are_not_fetched_again(
    folder, ran, monkeypatch
):
    monkeypatch.setattr("imgclf.collect.manifest.find", lambda name: folder.data / "a_manifest.tsv")
    (folder.images / "red/new.jpg").write_bytes(decoding.jpeg(picture((200, 40, 40), seed=999)))
    assert run_changed().exit_code == 0
    assert ran == [ALL[0], *ALL[2:]]


def test_images_in_another_folder_are_those_that_were_scanned(data_dir, ran, tmp_path, monkeypatch):
    in_process.leave_out_what_is_shown(monkeypatch)
    values = in_process.given(write_tiny_network(tmp_path / "tiny.onnx"))
    images = write_colours(tmp_path / "own")
    sequence.run(values | {"images_dir": str(images)})
    ran.clear()
    write_colours(data_dir / "images" / "colours")  # not meant
    (images / "red/00.jpg").unlink()
    ended = run_changed()
    assert ended.exit_code == 0 and ran[0] == ALL[0] and f"35 images in {images}\n" in ended.stdout
    assert retraining.last_parameters("colours")["images_dir"] == str(images)


def test_an_evaluation_of_training_images_is_followed_by_one_of_test_images(folder, ran):
    folder.run("05", evaluate_on="train")
    relabel_test_image(folder)
    ended = run_changed()
    assert ended.exit_code == 0 and "Did it help?" in ended.stdout
    assert report.read(folder.proc)["evaluated_on"] == "test"


def test_after_a_stop_in_04_the_scores_before_it_are_still_those_compared_with(folder, ran, monkeypatch):
    before = report.read_test_scores(folder.proc)
    relabel_test_image(folder)
    folder.run("01", "04")
    ended = run_changed()
    assert ran == ["05_evaluate"] and f"before: {before.overall_accuracy}, with" in ended.stdout


def test_a_stopped_run_says_how_to_go_on(folder, monkeypatch):
    def stop(path, folder, values, **_):
        if path.stem == "03_run_dnn":
            raise KeyboardInterrupt
        return in_process.execute(path, folder, values)

    monkeypatch.setattr(sequence, "execute", stop)
    relabel_test_image(folder)
    ended = run_changed()
    assert ended.exit_code == 130
    assert (
        ended.stderr
        == "imgclf: stopped in 03_run_dnn; to go on: imgclf run --changed -p dataset_name=colours\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "04"], "--changed chooses the notebooks itself; leave out --from"),
        (["-p", "seed=1", "-p", "engine=onnxruntime"], "leave out seed, engine, or leave out --changed"),
    ],
)
def test_what_would_contradict_it_is_wrong_usage(folder, ran, arguments, message):
    ended = run_changed(*arguments)
    assert ended.exit_code == 2 and message in ended.stderr and ran == []


class TestItIsRefused:
    @pytest.mark.parametrize("missing", ["all", "record", "scores"])
    def test_without_earlier_results(self, folder, ran, missing):
        gone = {"record": "made_with/04.json", "scores": "scores.npz", "all": ""}[missing]
        shutil.rmtree(folder.proc) if missing == "all" else (folder.proc / gone).unlink()
        ended = run_changed()
        assert ended.exit_code == 1 and ran == []
        assert re.match(
            r"imgclf: colours: no earlier results to compare with \(.+\); run imgclf run first\n$",
            ended.stderr,
        )

    def test_if_two_notebooks_ran_last_with_different_values(self, folder, ran):
        folder.run("01", seed=4)
        ended = run_changed()
        assert ended.exit_code == 1 and ran == []
        assert ended.stderr == (
            "imgclf: seed = 4 in the last 01_prepare_data, but 0 in the last 04_train_svm; choose one: "
            "imgclf run -p dataset_name=colours -p seed=VALUE\n"
        )

    def test_if_it_would_overwrite_an_edited_split(self, folder, ran):
        table = folder.proc / "split.tsv"
        table.write_text(edited := table.read_text().replace("\ttest\t", "\ttrain\t", 1))
        relabel_test_image(folder)
        ended = run_changed()
        assert ended.exit_code == 1 and table.read_text() == edited and ran == []
        assert "split.tsv of colours: edited, and 01_prepare_data would overwrite it" in ended.stderr
