"""The trials of a sweep in the run history."""

import shutil
from pathlib import Path

import pytest

from imgclf import ImgclfError, engines, files
from imgclf.experiments import sweep, trials
from imgclf.experiments.history import runs
from support import in_process
from support.in_process import Folder
from support.networks import write_tiny_network

GRID = "backbone: {}; input_size: 32; svm_c: [0.1], [1.0]"


@pytest.fixture
def grid(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> str:
    """A grid of two trials; notebooks run in this process, and the history is empty."""
    monkeypatch.setattr(sweep, "execute", in_process.execute)
    shutil.rmtree(runs.root())
    return GRID.format(folder.values["backbone"])


def test_each_trial_is_a_run_of_the_data_set_of_the_sweep_with_its_own_values(folder, grid):
    results = sweep.run("colours", "", grid)
    found = sorted(runs.all_runs("colours"), key=lambda run: run.values["svm_c"])
    assert [run.values["svm_c"] for run in found] == [[0.1], [1.0]]
    for run, trial in zip(found, results, strict=True):
        assert (run.kind, run.status) == (runs.TRIAL, runs.FINISHED)
        assert run.parameters.items() >= {"dataset_name": "colours", "evaluate_on": "test", "seed": 0}.items()
        assert run.parameters["svm_c"] == run.values["svm_c"]
        assert run.metrics["overall accuracy"] == trial.test_evaluation.overall_accuracy.value
        scores = files.proc_dir(trial.name) / files.SCORES
        assert (run.folder / files.SCORES).read_bytes() == scores.read_bytes()
        assert "svm_c=" in run.folder.name and run.folder.name.endswith(" %")
        assert set(run.seconds) >= {"02", "03", "04", "05"}
    sweep.run("colours", "", grid)
    assert len(runs.all_runs()) == 2  # both trials were kept


def test_each_backbone_runs_at_its_own_input_size(folder, grid, tmp_path):
    networks = [write_tiny_network(tmp_path / f"net{side}.onnx", size=side) for side in (32, 64)]
    results = sweep.run("colours", "", f"backbone: {networks[0]}, {networks[1]}; svm_c: [1.0]; input_size: 0")
    assert [(Path(trial.values["backbone"]).name, trial.input_size) for trial in results] == [
        ("net32.onnx", 32),
        ("net64.onnx", 64),
    ]
    table = trials.table(results)
    assert sorted(table["input_size"]) == ["32", "64"]
    assert (table["ms per image"] > 0).all() and table["95 % interval"].str.contains(" to ").all()
    for trial in results:
        stored = engines.preprocessing(files.proc_dir(trial.name) / files.FIXED_NETWORK)
        assert stored.input_size == trial.input_size


def test_a_failed_trial_is_a_failed_run(folder, grid, monkeypatch):
    def fail(path, *_, **__):
        raise ImgclfError(f"{path.stem} fails in this test")

    monkeypatch.setattr(sweep, "execute", fail)
    with pytest.raises(ImgclfError, match="all 2 trials failed"):
        sweep.run("colours", "", grid)
    assert [run.error for run in runs.all_runs()] == ["02_refine_dnn fails in this test"] * 2


def test_a_stopped_trial_is_a_failed_run(folder, grid, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "execute", stop)
    with pytest.raises(KeyboardInterrupt):
        sweep.run("colours", "", grid)
    assert [(run.status, run.error) for run in runs.all_runs()] == [(runs.FAILED, "stopped")]
