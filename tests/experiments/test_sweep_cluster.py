"""A sweep by a cluster has the trials of a sweep on one machine."""

import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from imgclf import ImgclfError, files
from imgclf.data import scan
from imgclf.experiments import remote_trials, sweep, trials
from imgclf.experiments.remote_trials import Job
from imgclf.images.workers import Lost, Workers, connected

pytestmark = pytest.mark.slow


@pytest.fixture
def job(colour_folder: Path) -> Job:
    return Job(scan.scan_folder("colours", colour_folder), {"seed": 3}, "", "id of the sweep")


@pytest.mark.notebooks
@pytest.mark.usefixtures("with_copy_descriptor")
def test_trials_of_a_cluster_are_those_of_one_machine(colour_folder, tiny_network, capsys):
    pytest.importorskip("distributed", reason="needs pip install 'imgclf[cluster]'")
    grid, counted = f"backbone: {tiny_network}; input_size: 32; svm_c: [0.1], [1.0]", []
    with connected("local:2") as used:
        results = sweep.run(
            "colours", str(colour_folder), grid, workers=used, progress=lambda *done: counted.append(done)
        )
        assert [result.error for result in results] == ["", ""] and counted == [(4, 8), (8, 8)]
        assert sweep.run("colours", str(colour_folder), grid, workers=used) == results  # kept
    folder = files.proc_dir(results[1].name)
    scores = {name: (folder / name).read_bytes() for name in (files.SCORES, files.HELD_OUT)}
    shutil.rmtree(folder)
    again = sweep.run("colours", str(colour_folder), grid)
    assert again[0] == results[0] and again[1].fingerprint == results[1].fingerprint
    assert scores == {name: (folder / name).read_bytes() for name in scores}
    said = capsys.readouterr().out
    assert said.count(f"{trials.values_as_text(results[1].values)}: {results[1]}\n") == 3
    assert not list(files.proc_dir("colours").glob(remote_trials.TOKEN.format("*")))


@pytest.mark.usefixtures("with_copy_descriptor")
def test_trials_of_a_lost_cluster_run_here(colour_folder, monkeypatch):
    def lost(*_):
        raise Lost

    def refuse(*_, **__):
        raise ImgclfError("no kernel in this test")

    used = Workers("local:2")
    for name in ("call", "_connected"):
        monkeypatch.setattr(used, name, lost)
    monkeypatch.setattr(sweep, "execute", refuse)
    with pytest.raises(ImgclfError, match="^all 2 trials failed: no kernel in this test$"):
        sweep.run("colours", str(colour_folder), "seed: 1, 2", workers=used)


def test_a_worker_that_does_not_see_the_data_folder_says_what_to_do(job, tmp_path):
    with remote_trials.token("colours") as sweep_id:
        with pytest.raises(
            ImgclfError, match=r"does not see the data folder .*/elsewhere; .*docs/cluster\.md"
        ):
            remote_trials.in_process(replace(job, sweep=sweep_id, data_dir=tmp_path / "elsewhere"))
        with pytest.raises(
            ImgclfError, match="other notebooks or files, another imgclf.toml or, with precision"
        ):
            remote_trials.in_process(replace(job, sweep=sweep_id, fingerprint="of other notebooks"))


def test_a_stop_ends_the_process_of_a_trial(job):
    ended = []

    def run(sweep_id: str) -> None:
        try:
            remote_trials.in_process(replace(job, sweep=sweep_id))
        except remote_trials.EndedError as error:
            ended.append(str(error))

    with remote_trials.token("colours") as sweep_id:
        thread = threading.Thread(target=run, args=(sweep_id,))
        thread.start()
        end = time.monotonic() + 30
        while not remote_trials._running.get(sweep_id) and time.monotonic() < end:
            time.sleep(0.05)
        (process,) = remote_trials._running[sweep_id]
        remote_trials.stop(sweep_id)
        thread.join(30)
        run(sweep_id)  # one that came to this worker when another one died
    assert process.poll() is not None and "its process in a worker ended (status -15)" in ended[0]
    assert ended[1] == "the sweep was stopped"


class Used:
    """Workers whose number changes. The trial of seed 9 ends after all others, killed."""

    def __init__(self, *numbers: int) -> None:
        self.numbers, self.at_once, self.most = list(numbers), 0, 0
        self.others, self.are_done = 3, threading.Event()

    def processes(self) -> int:
        return self.numbers.pop(0) if len(self.numbers) > 1 else self.numbers[0]

    def call(self, function, job: Job) -> None:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        if job.values["seed"] == 9:
            assert self.are_done.wait(20), "the others wait for the first"
            raise remote_trials.EndedError("killed")
        time.sleep(0.5)
        self.at_once -= 1
        self.others -= 1
        if not self.others:
            self.are_done.set()

    def everywhere(self, *arguments) -> None:
        self.stopped = arguments


def test_a_trial_whose_process_is_killed_does_not_stop_the_others(job, monkeypatch):
    monkeypatch.setattr(trials, "read", lambda name: name)
    used = Used(2)
    jobs = [replace(job, values={"seed": seed}) for seed in (9, 1, 2, 3)]
    first, *others = remote_trials.run(jobs, used)
    assert first.error == "killed" and others == ["colours@seed=1", "colours@seed=2", "colours@seed=3"]
    assert used.most == 2


def test_trials_use_workers_that_come_later(job, monkeypatch):
    monkeypatch.setattr(trials, "read", lambda name: name)
    monkeypatch.setattr(remote_trials, "REFRESH_SECONDS", 0.1)
    used = Used(1, 1, 1, 3)
    assert len(list(remote_trials.run([replace(job, values={"seed": 5})] * 4, used))) == 4
    assert used.most == 3
