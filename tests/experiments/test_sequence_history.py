"""`imgclf run` in the run history: finished, failed, stopped, killed, and when it cannot be written."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imgclf import ImgclfError, files
from imgclf.experiments import sequence
from imgclf.experiments.history import recording, runs
from support import in_process
from support.in_process import Folder
from support.networks import write_tiny_network
from support.pictures import write_colours

IMGCLF = Path(sys.executable).parent / "imgclf"


@pytest.fixture(autouse=True)
def without_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notebooks run in this process; a test with a kernel starts a process of its own."""
    monkeypatch.setattr(sequence, "execute", in_process.execute)


@pytest.fixture
def folder(folder: Folder) -> Folder:
    """The data folder in which all notebooks have run, without their history."""
    shutil.rmtree(runs.root())
    return folder


def run(folder: Folder, **others) -> Path | None:
    return sequence.run({**folder.values, **others})[1]


def test_a_run_is_one_run_of_the_history_and_nothing_is_recorded_when_all_is_up_to_date(folder):
    where = run(folder, svm_c=[0.5])
    (recorded,) = runs.all_runs("colours")
    assert (recorded.kind, recorded.status, recorded.folder) == (runs.BY_RUN, runs.FINISHED, where)
    assert recorded.parameters.items() >= {"svm_c": [0.5], "epochs": 5, "classifier": "svm"}.items()
    assert recorded.about["classifier sha256"] == files.sha256(folder.proc / files.CLASSIFIER)
    assert (where / "evaluation.json").read_bytes() == (folder.proc / "evaluation.json").read_bytes()
    assert (where / "report.html").read_bytes() == (folder.proc / "report.html").read_bytes()
    assert set(recorded.seconds) == {"01", "02", "03", "04", "05"} and recorded.folder.name.endswith(" %")
    assert run(folder, svm_c=[0.5]) is None and len(runs.all_runs()) == 1
    assert "IMGCLF_RUN" not in os.environ


def test_the_closing_report_names_the_folder_of_the_run_and_the_report(folder):
    where = run(folder, svm_c=[0.5])
    *_, page, executed, pictures, classifier = sequence.closing_report("colours", where).splitlines()
    assert page == f"the report           {folder.proc / 'report.html'}"
    assert executed == f"executed notebooks   {where}" and where.is_dir()
    assert pictures.endswith(str(folder.proc)) and classifier.endswith("classifier.onnx")


def test_a_failed_run_keeps_the_error_of_the_cell(folder):
    with pytest.raises(ImgclfError) as raised:
        sequence.run({**folder.values, "backbone": "/nowhere.onnx"})
    (recorded,) = runs.all_runs()
    assert (recorded.status, recorded.error) == (runs.FAILED, str(raised.value))


def test_a_stopped_run_is_failed(folder, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(sequence, "execute", stop)
    with pytest.raises(KeyboardInterrupt, match="to go on: imgclf run"):
        run(folder, svm_c=[0.5])
    (recorded,) = runs.all_runs()
    assert (recorded.status, recorded.error) == (runs.FAILED, "stopped")


def test_a_history_that_cannot_be_written_does_not_fail_the_run(folder, monkeypatch, capsys):
    def refuse(*_, **__):
        raise ImgclfError("cannot write run.json: the disk is full")

    monkeypatch.setattr(runs, "finish", refuse)
    where = run(folder, svm_c=[0.5])
    assert "not recorded in the run history: cannot write run.json: the disk" in capsys.readouterr().out
    assert runs.all_runs()[0].status == runs.FAILED and "100%" in sequence.closing_report("colours", where)


def test_a_run_without_an_evaluation_of_its_own_records_the_one_that_is_up_to_date(folder, monkeypatch):
    (folder.proc / "features").rename(folder.proc / "lost")  # 03 makes the same again; 04 and 05 do not run
    ran = []
    monkeypatch.setattr(
        sequence,
        "execute",
        lambda path, *rest, **others: ran.append(path.name) or in_process.execute(path, *rest, **others),
    )
    run(folder)
    assert "05_evaluate.ipynb" not in ran and ran
    (recorded,) = runs.all_runs()
    assert recorded.about["scores sha256"] == files.sha256(folder.proc / files.SCORES)


@pytest.mark.notebooks
@pytest.mark.slow
def test_a_killed_imgclf_run_is_failed_at_the_next_look(data_dir, tmp_path):
    write_colours(data_dir / "images" / "colours")
    write_tiny_network(tmp_path / "tiny.onnx")
    values = ["dataset_name=colours", f"backbone={tmp_path / 'tiny.onnx'}", "input_size=32"]
    command = [IMGCLF, "run", *(word for value in values for word in ("-p", value))]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=tmp_path) as process:
        deadline = time.monotonic() + 120
        while not list(data_dir.glob("runs/*/01_*.ipynb")) and time.monotonic() < deadline:
            time.sleep(0.05)
        (running,) = runs.all_runs()
        process.send_signal(signal.SIGKILL)
    assert running.status == runs.RUNNING and running.parameters["input_size"] == 32
    listed = subprocess.run([IMGCLF, "runs"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "its process was killed" in listed.stdout
    assert runs.find(running.id).error == runs.KILLED


def test_the_name_of_the_report_is_the_same_for_all(folder):
    assert recording.report_path(folder.values) == folder.proc / "report.html"
    on_training_images = recording.report_path({**folder.values, "evaluate_on": "train"})
    assert on_training_images == folder.proc / "on_training_images" / "report.html"
