"""Runs are handed in to MLflow: completely, once, and without harm where that cannot be."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from imgclf import files
from imgclf.classifier import storage
from imgclf.experiments.history import runs, tracking
from support import mlflow_copies
from support.mlflow_copies import copies, with_client

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("with_mlflow")]

PARAMETERS = {"classifier": "svm", "epochs": 5, "learning_rate": [0.1, 0.01], "augment": True, "engine": ""}
METRICS = {
    "overall accuracy": 0.9216,
    "overall accuracy low": 1 / 3,
    "accuracy of class hat & coat": 0.5,
    "accuracy of class hat # coat": 0.25,
    "ROC area of class grün": 1.0,
}
RECORDED = {
    "metrics": METRICS,
    "curves": {
        "out-of-fold accuracy over C": [[0.001, 0.5], [0.1, 0.75], [10, 0.625]],
        "validation error": [[0, 0.5], [1, 0.25]],
    },
    "counts": {"train": {"hat & coat": 9}, "test": {"hat & coat": 3}},
    "about": {"git commit": "1234abcd", "python": "3.11.7"},
    "seconds": {"02": 1.25, "05": 2.5},
    "peak_memory_mb": {"05": 512.5},
}
in_made_database = pytest.mark.usefixtures("with_made_database")
SENTENCE = "the runs are kept as files in runs/ and handed in with the next one"


def wait_for_database():
    """Return the path of the database when a prepared process has made it and waits."""
    deadline = time.monotonic() + 60
    while not (path := files.data_dir() / tracking.DATABASE).exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return path


@pytest.fixture(scope="module")
def made_database(tmp_path_factory):
    """The database that is made for the first run: that takes a second of the processor."""
    folder = tmp_path_factory.mktemp("made")
    environment = {**tracking.environment(), "IMGCLF_DATA": str(folder)}
    subprocess.run(tracking.COMMAND, env=environment, capture_output=True, check=True)
    return folder / tracking.DATABASE


@pytest.fixture
def with_made_database(made_database, data_dir):
    data_dir.mkdir()
    shutil.copy(made_database, data_dir)


@pytest.fixture(autouse=True)
def own_store(monkeypatch):
    """The store in the data folder, whatever the tests are started with."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def finished(name: str = "fruit", *, values=None, **changes) -> runs.Run:
    run = runs.start(runs.BY_RUN, name, PARAMETERS, values=values)
    (run.folder / "evaluation.json").write_text("{}")
    (run.folder / "notebooks").mkdir()
    (run.folder / "notebooks" / "05_evaluate.ipynb").write_text("cells")
    return runs.finish(run, **{**RECORDED, **changes})


def handed_in_by(uri: str = "") -> list[str]:
    """The ids of the runs' copies, as the runs have noted them."""
    return [run.handed_in[uri or tracking.own_uri()] for run in runs.all_runs()]


def test_a_copy_has_all_that_was_recorded():
    run = finished(values={"epochs": 5})
    run = runs.change(run, note="a *new* lamp", tags=["good", "lamp=new", "sehr gut!", "..", "=x"])
    assert tracking.hand_in_all() == ""
    (copy,) = copies()
    (noted,) = runs.all_runs()
    assert noted.handed_in == {tracking.own_uri(): copy["id"]}
    assert (copy["experiment"], copy["name"], copy["status"]) == ("fruit", run.name, "FINISHED")
    assert (copy["start"], copy["end"]) == (run.time.timestamp() * 1000, run.time.timestamp() * 1000 + 3750)
    assert copy["params"] == {name: str(value) for name, value in PARAMETERS.items()}
    assert copy["metrics"] == {
        "overall accuracy": 0.9216,
        "overall accuracy low": 1 / 3,
        "accuracy of class hat _ coat": 0.5,
        "accuracy of class hat _ coat 2": 0.25,
        "ROC area of class grün": 1.0,
        "train images of class hat _ coat": 9,
        "test images of class hat _ coat": 3,
        "seconds of notebook 02": 1.25,
        "seconds of notebook 05": 2.5,
        "peak memory of notebook 05 in MB": 512.5,
        "out-of-fold accuracy over C": 0.625,
        "C": 10,
        "validation error": 0.25,
    }
    assert copy["curves"]["out-of-fold accuracy over C"] == [[0, 0.5], [1, 0.75], [2, 0.625]]
    assert copy["curves"]["C"] == [[0, 0.001], [1, 0.1], [2, 10]]
    assert copy["curves"]["validation error"] == [[0, 0.5], [1, 0.25]]
    tags = copy["tags"]
    assert tags["mlflow.note.content"] == "a *new* lamp" and tags["mlflow.source.git.commit"] == "1234abcd"
    assert (tags["good"], tags["lamp"], tags["sehr gut_"]) == ("", "new", "sehr gut!")
    assert (tags["_.."], tags["_"]) == ("..", "=x")
    assert (tags["imgclf.id"], tags["imgclf.python"]) == (run.id, "3.11.7")
    assert (tags["imgclf.values"], tags["imgclf.kind"]) == ("epochs=5", "imgclf run")
    assert copy["artifacts"] == ["evaluation.json", "notebooks/05_evaluate.ipynb"]


@in_made_database
def test_a_failed_run_is_handed_in_as_failed_and_one_in_progress_is_not():
    runs.fail(runs.start(runs.BY_RUN, "", {}), "no images")
    runs.start(runs.BY_RUN, "fruit", {})
    assert tracking.hand_in_all() == ""
    (copy,) = copies()
    assert (copy["status"], copy["tags"]["imgclf.error"]) == ("FAILED", "no images")
    assert copy["experiment"] == "no data set"


@in_made_database
def test_thousands_of_labels_and_long_texts_fit():
    long = {"learning_rate": "0.1, " * 9000}
    metrics = {f"accuracy of class {'long ' * 60}{k:04d}": k / 3000 for k in range(3000)}
    run = runs.start(runs.BY_RUN, "fruit", long | {f"p{k}": k for k in range(250)})
    runs.finish(run, metrics=metrics, note="n" * 20_000, about={f"a{k}": "x" * 9000 for k in range(120)})
    assert tracking.hand_in_all(seconds=None) == ""
    (copy,) = copies()
    assert sorted(copy["metrics"].values()) == sorted(metrics.values())
    assert len(copy["params"]) == 251 and len(copy["params"]["learning_rate"]) == 6000


def test_four_processes_at_once_lose_nothing_and_hand_in_nothing_twice():
    code = """
from imgclf.experiments.history import runs, tracking
for k in range(2):
    runs.finish(runs.start(runs.BY_RUN, "fruit", {}), metrics={"overall accuracy": 0.5})
    tracking.hand_in_all()  # on a busy machine some find the lock held, or no time left
"""
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [process.wait(240) for process in processes] == [0, 0, 0, 0]
    assert tracking.hand_in_all() == ""
    assert sorted(copy["tags"]["imgclf.id"] for copy in copies()) == sorted(run.id for run in runs.all_runs())
    assert sorted(handed_in_by()) == sorted(copy["id"] for copy in copies()) and len(handed_in_by()) == 8


@in_made_database
def test_what_a_killed_process_had_begun_is_continued():
    run = finished()
    tracking.hand_in_all()
    runs.update(run, handed_in={})
    (copy,) = copies()
    with_client(
        "client.update_run(sys.argv[1], status='RUNNING')\nclient.set_tag(sys.argv[1], 'imgclf.python', '')",
        copy["id"],
    )
    assert tracking.hand_in_all() == "" and handed_in_by() == [copy["id"]]
    assert copies() == [copy]


@in_made_database
def test_artefacts_need_no_space_of_their_own():
    run = finished()
    tracking.hand_in_all()
    (stored,) = (files.data_dir() / "mlflow_artifacts").rglob("evaluation.json")
    assert stored.samefile(run.folder / "evaluation.json")


@in_made_database
def test_a_link_to_a_file_elsewhere_is_not_handed_in(tmp_path):
    (tmp_path / "secret").write_text("of the user")
    run = finished()
    (run.folder / "picture.png").symlink_to(tmp_path / "secret")
    assert tracking.hand_in_all() == ""
    assert "picture.png" not in copies()[0]["artifacts"]


def test_a_data_folder_with_any_letters_works_and_may_be_moved(tmp_path, monkeypatch):
    old, new = tmp_path / "a b%20#ü?x@y:z", tmp_path / "moved"
    monkeypatch.setenv("IMGCLF_DATA", str(old))
    first = finished()
    assert tracking.hand_in_all() == "" and (old / "mlflow.db").stat().st_size > 100_000
    shutil.move(old, new)
    monkeypatch.setenv("IMGCLF_DATA", str(new))
    second = finished()
    assert tracking.hand_in_all() == "" and not old.exists()
    found = {copy["tags"]["imgclf.id"]: copy for copy in copies()}
    assert len(copies()) == 2 and found.keys() == {first.id, second.id}
    assert found[first.id]["artifacts"] == found[second.id]["artifacts"] != []


def test_a_deleted_database_is_made_again():
    finished()
    tracking.hand_in_all()
    (files.data_dir() / "mlflow.db").unlink()
    assert tracking.hand_in_all() == ""
    assert [copy["id"] for copy in copies()] == handed_in_by()


def test_the_path_of_another_database_is_relative_to_the_data_folder(data_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mine.db")
    monkeypatch.chdir(tmp_path)
    assert tracking.uri() == f"sqlite:///{data_dir}/mine.db"
    for uri in (f"sqlite:///{tmp_path}/mine.db", "sqlite:///:memory:", "http://127.0.0.1:5000"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert tracking.uri() == uri


@in_made_database
def test_no_process_is_started_if_nothing_is_new(monkeypatch):
    runs.change(finished(), tags=["a"])
    assert tracking.hand_in_all() == ""
    started = []
    monkeypatch.setattr(tracking, "_hand_in", lambda seconds, process: started.append(seconds) or "")
    assert tracking.hand_in_all() == "" and started == []
    runs.change(runs.all_runs()[0], note="new")
    assert tracking.hand_in_all() == "" and len(started) == 1


def test_a_database_that_is_made_beside_a_run_has_the_runs_of_before():
    finished()
    assert tracking.hand_in_all() == ""
    (files.data_dir() / tracking.DATABASE).unlink()
    begun = runs.start(runs.BY_RUN, "fruit", {})
    with tracking.prepared() as process:
        wait_for_database()
        runs.finish(begun)
        assert tracking.hand_in_all(process=process) == "" and len(copies()) == 2


def test_a_database_that_is_deleted_during_a_run_is_made_again():
    begun = runs.start(runs.BY_RUN, "fruit", {})
    with tracking.prepared() as process:
        wait_for_database().unlink()
        runs.finish(begun)
        assert tracking.hand_in_all(process=process) == "" and len(copies()) == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_prepared_process_that_was_ended_is_replaced(number):
    finished()
    with tracking.prepared() as process:
        wait_for_database()
        process.send_signal(number)
        process.wait()
        assert tracking.hand_in_all(process=process) == "" and len(copies()) == 1


def test_a_prepared_process_ends_with_the_run_and_hands_in_nothing():
    finished()
    with tracking.prepared() as process:
        wait_for_database()
    assert process.returncode is not None
    with tracking.prepared() as process:  # as if the run was killed: its end of the pipe is closed
        process.stdin.close()
        assert process.wait(60) == 0
    assert not runs.all_runs()[0].handed_in


def test_without_runs_nothing_is_made():
    assert tracking.hand_in_all() == "" and not files.data_dir().exists()


def test_nothing_of_mlflow_is_loaded_and_nothing_printed():
    finished()
    code = "import sys\nfrom imgclf.experiments.history import tracking\nassert tracking.hand_in_all() == ''\nassert 'mlflow' not in sys.modules and 'sqlalchemy' not in sys.modules"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert handed_in_by() != []


@in_made_database
def test_a_module_in_the_working_directory_is_not_run(tmp_path, monkeypatch):
    (tmp_path / "mlflow.py").write_text("open('started', 'w')")
    monkeypatch.chdir(tmp_path)
    finished()
    assert tracking.hand_in_all() == "" and handed_in_by() != []
    assert not (tmp_path / "started").exists()


def test_without_mlflow_nothing_happens_unless_a_server_is_named(monkeypatch):
    finished()
    monkeypatch.setattr(tracking, "is_installed", lambda: False)
    assert tracking.hand_in_all() == ""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    said = tracking.hand_in_all()
    assert said == "MLFLOW_TRACKING_URI is set, but MLflow is not installed; pip install 'imgclf[history]'"


# What people change


@in_made_database
def test_what_is_changed_on_mlflows_page_is_taken_over():
    runs.change(finished(), tags=["old", "sehr gut!"])
    tracking.hand_in_all()
    (copy,) = copies()
    with_client(
        "run = sys.argv[1]\nclient.update_run(run, name='the good one')\nclient.set_tag(run, 'mlflow.note.content', 'from the page')\n"
        "client.set_tag(run, 'lamp', 'new')\nclient.set_tag(run, 'best', '')\nclient.delete_tag(run, 'old')",
        copy["id"],
    )
    assert tracking.hand_in_all(is_forced=True) == ""
    (run,) = runs.all_runs()
    assert (run.name, run.note) == ("the good one", "from the page")
    assert sorted(run.tags) == ["best", "lamp=new", "sehr gut!"]


@in_made_database
def test_what_is_changed_here_gets_to_mlflow_and_here_counts_where_both_changed():
    run = runs.change(finished(), note="first", tags=["old", "both"])
    tracking.hand_in_all()
    with_client("client.set_tag(sys.argv[1], 'mlflow.note.content', 'page')", handed_in_by()[0])
    runs.change(run, name="mine", note="here", tags=["new", "both"])
    assert tracking.hand_in_all() == ""
    (copy,) = copies()
    assert (copy["name"], copy["tags"]["mlflow.note.content"]) == ("mine", "here")
    assert {"new", "both"} <= copy["tags"].keys() and "old" not in copy["tags"]
    assert runs.all_runs()[0].note == "here"


@in_made_database
def test_a_run_deleted_here_is_deleted_in_mlflow():
    runs.delete(finished())  # was never there
    run = finished()
    kept = finished()
    tracking.hand_in_all()
    runs.delete(runs.find(run.id))
    assert tracking.hand_in_all() == ""
    stages = {copy["tags"]["imgclf.id"]: copy["stage"] for copy in copies()}
    assert stages == {run.id: "deleted", kept.id: "active"}
    assert len([*(files.data_dir() / "mlflow_artifacts").iterdir()]) == 1
    assert [*(runs.root() / tracking.TO_DELETE).iterdir()] == []


@in_made_database
def test_a_deletion_waits_until_the_database_can_be_written():
    run = finished()
    tracking.hand_in_all()
    runs.delete(runs.find(run.id))
    with closing(sqlite3.connect(files.data_dir() / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert "the database is locked" in tracking.hand_in_all()
    assert tracking.hand_in_all() == "" and [copy["stage"] for copy in copies()] == ["deleted"]


@in_made_database
def test_a_database_that_names_another_folder_has_nothing_deleted_there(tmp_path):
    (tmp_path / "mine" / "artifacts").mkdir(parents=True)
    run = finished()
    tracking.hand_in_all()
    with closing(sqlite3.connect(files.data_dir() / "mlflow.db")) as database, database:
        location = (files.data_dir() / "mlflow_artifacts").as_uri() + "/../../mine/artifacts"
        database.execute("UPDATE runs SET artifact_uri = ?", (location,))
    runs.delete(runs.find(run.id))
    assert tracking.hand_in_all() == "" and (tmp_path / "mine" / "artifacts").exists()


@in_made_database
def test_a_run_deleted_on_mlflows_page_stays_as_files_and_is_not_handed_in_again():
    run = finished()
    tracking.hand_in_all()
    with_client("client.delete_run(sys.argv[1])", handed_in_by()[0])
    runs.change(run, note="still here")
    assert tracking.hand_in_all() == "" and [copy["stage"] for copy in copies()] == ["deleted"]
    assert run.folder.is_dir()


@in_made_database
def test_after_an_experiment_is_deleted_on_mlflows_page_new_runs_have_another():
    finished()
    tracking.hand_in_all()
    with_client("client.delete_experiment(client.get_experiment_by_name('fruit').experiment_id)")
    finished()
    assert tracking.hand_in_all() == ""
    assert sorted((copy["experiment"], copy["stage"]) for copy in copies()) == [
        ("fruit", "deleted"),
        ("fruit (2)", "active"),
    ]


# The network of several runs


def write_large_network(path):
    """An ONNX file with weights of 2 MB."""
    weights = np.random.default_rng(0).normal(size=500_000).astype(np.float32)
    graph = onnx.helper.make_graph([], "large", [], [], [numpy_helper.from_array(weights, "weights")])
    onnx.save(onnx.helper.make_model(graph), path)
    return path


def with_classifier(path) -> runs.Run:
    run = runs.start(runs.BY_RUN, "fruit", {})
    storage.store(path, run.folder, runs.root() / runs.WEIGHTS)
    return runs.finish(run)


def used_bytes(folder) -> int:
    """What the files of a folder take on the disk; a file with two names is counted once."""
    found = {
        (stat.st_dev, stat.st_ino): stat.st_size
        for path in folder.rglob("*")
        if (stat := path.stat()) and path.is_file()
    }
    return sum(found.values())


@in_made_database
def test_the_network_of_five_runs_is_handed_in_once(data_dir, tmp_path):
    network = write_large_network(tmp_path / "classifier.onnx")
    recorded = [with_classifier(network) for _ in range(5)]
    (weights,) = (runs.root() / runs.WEIGHTS).iterdir()
    assert weights.stat().st_size > 1e6
    before = used_bytes(data_dir)
    assert tracking.hand_in_all() == ""
    assert used_bytes(data_dir) - before < 2e6  # the database
    stored = {copy["tags"]["imgclf.id"]: copy for copy in copies()}
    first = stored[recorded[0].id]
    assert (
        f"weights/{weights.name}" in first["artifacts"]
        and first["tags"]["imgclf.weights_sha256"] == weights.name
    )
    for run in recorded[1:]:
        assert stored[run.id]["artifacts"] == ["classifier.json", "classifier.rest"]
        assert stored[run.id]["tags"]["imgclf.weights_in_run"] == first["id"]


@in_made_database
def test_the_network_in_a_deleted_copy_is_handed_over_to_another(tmp_path):
    network = write_large_network(tmp_path / "classifier.onnx")
    first, *others = (with_classifier(network) for _ in range(3))
    (weights,) = (runs.root() / runs.WEIGHTS).iterdir()
    assert tracking.hand_in_all() == ""
    runs.delete(runs.find(first.id))
    assert tracking.hand_in_all() == ""
    active = [copy for copy in copies() if copy["stage"] == "active"]
    assert {copy["tags"]["imgclf.id"] for copy in active} == {run.id for run in others}
    (heir,) = (copy for copy in active if f"weights/{weights.name}" in copy["artifacts"])
    (other,) = (copy for copy in active if copy != heir)
    assert heir["tags"]["imgclf.weights_sha256"] == weights.name
    assert "imgclf.weights_in_run" not in heir["tags"]
    assert other["tags"]["imgclf.weights_in_run"] == heir["id"]


# Where it cannot be


@pytest.mark.service
def test_what_an_unreachable_server_misses_is_handed_in_when_it_is_there(tmp_path, monkeypatch):
    port = mlflow_copies.free_port()
    uri = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{port}")
    run = finished()
    assert tracking.hand_in_all() == f"MLflow: no connection to {uri}; {SENTENCE}"
    assert runs.find(run.id) == run
    other = finished("coats", metrics={f"accuracy of class {k}": k / 900 for k in range(900)})
    with mlflow_copies.server(tmp_path / "server", port):
        assert tracking.hand_in_all() == ""
        found = {copy["tags"]["imgclf.id"]: copy for copy in copies(uri)}
        assert found.keys() == {run.id, other.id}
        assert sorted(handed_in_by(uri)) == sorted(copy["id"] for copy in found.values())
        assert found[run.id]["artifacts"] == ["evaluation.json", "notebooks/05_evaluate.ipynb"]
        assert len(found[other.id]["metrics"]) > 900
        runs.change(runs.find(run.id), note="later")
        runs.delete(runs.find(other.id))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{mlflow_copies.free_port()}")
        assert "no connection" in tracking.hand_in_all()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert tracking.hand_in_all() == ""
        found = {copy["tags"]["imgclf.id"]: copy for copy in copies(uri)}
        assert found[run.id]["tags"]["mlflow.note.content"] == "later"
        assert found[other.id]["stage"] == "deleted"
    assert "secret" not in (run.folder / "run.json").read_text()
    assert not (files.data_dir() / "mlflow.db").exists()


def test_a_server_that_does_not_answer_costs_seconds(monkeypatch):
    run = finished()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")  # the user's own
        begun = time.monotonic()
        assert tracking.hand_in_all() == f"MLflow: {uri} does not answer; {SENTENCE}"
        assert time.monotonic() - begun < 30
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
        assert (
            tracking.hand_in_all(seconds=5)
            == f"MLflow: not done after 5 s; imgclf history takes the time it needs; {SENTENCE}"
        )
    assert runs.find(run.id) == run


@in_made_database
def test_a_locked_database_costs_seconds_and_gets_the_run_later():
    finished()
    tracking.hand_in_all()
    finished()
    with closing(sqlite3.connect(files.data_dir() / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        begun = time.monotonic()
        assert tracking.hand_in_all() == f"MLflow: the database is locked; {SENTENCE}"
        assert time.monotonic() - begun < 40
    assert tracking.hand_in_all() == "" and len(copies()) == 2


def test_a_damaged_database_is_named():
    finished()
    (files.data_dir() / "mlflow.db").write_bytes(b"no database " * 100)
    said = tracking.hand_in_all()
    assert said == f"MLflow: mlflow.db is damaged; delete it, and it is made again from runs/; {SENTENCE}"


def test_a_full_disk_is_named_and_the_run_is_handed_in_later():
    run = finished()
    # The limit of a file's size stands for the disk: SQLite and copies meet it as they meet a full one.
    code = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\nfrom imgclf.experiments.history import tracking\nprint(tracking.hand_in_all())"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.startswith("MLflow: the disk is full") and SENTENCE in ended.stdout
    assert runs.find(run.id) == run and not [*files.data_dir().glob("*.part")]
    assert tracking.hand_in_all() == "" and len(copies()) == 1


def test_a_database_that_cannot_be_written_is_named():
    finished()
    (files.data_dir() / "mlflow.db").mkdir()
    assert tracking.hand_in_all() == f"MLflow: no permission to write mlflow.db; {SENTENCE}"


def test_a_process_killed_at_any_time_leaves_what_the_next_one_completes():
    run = finished()
    for milliseconds in (1500, 2500, 3500):
        process = subprocess.Popen(
            [sys.executable, "-m", "imgclf.experiments.history.mlflow_store"],
            env=tracking.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(milliseconds / 1000)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert tracking.hand_in_all() == ""
    (copy,) = copies()
    assert (copy["tags"]["imgclf.id"], copy["status"]) == (run.id, "FINISHED")
    assert json.loads((run.folder / "run.json").read_text())["handed_in"] == {tracking.own_uri(): copy["id"]}


# A data folder that somebody sent


def outside_is_untouched(folder) -> bool:
    return [path.name for path in folder.iterdir()] == ["thesis"]


@pytest.fixture
def outside(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis").write_text("of the user")
    return tmp_path / "mine"


def in_database(*statements: str) -> None:
    with closing(sqlite3.connect(files.data_dir() / "mlflow.db")) as database, database:
        for statement in statements:
            database.execute(statement)


@in_made_database
@pytest.mark.parametrize("place", ["folder", "server"])
def test_a_database_that_names_another_place_has_nothing_written_there(outside, place):
    asked = socket.create_server(("127.0.0.1", 0))
    asked.setblocking(False)
    location = outside.as_uri() if place == "folder" else f"http://127.0.0.1:{asked.getsockname()[1]}/x"
    run = finished()
    tracking.hand_in_all()
    runs.update(run, handed_in={})
    in_database(
        f"UPDATE runs SET artifact_uri = '{location}', status = 'RUNNING'",
        f"UPDATE experiments SET artifact_location = '{location}'",
    )
    second = finished()
    assert tracking.hand_in_all() == "" and outside_is_untouched(outside)
    with asked, pytest.raises(BlockingIOError):  # nobody has connected
        asked.accept()
    ours = (files.data_dir() / "mlflow_artifacts").as_uri()
    found = {copy["tags"]["imgclf.id"]: copy for copy in copies()}
    assert found[run.id]["artifacts"] == found[second.id]["artifacts"] != []
    assert {copy["location"] for copy in copies()} == {f"{ours}/{copy['id']}/artifacts" for copy in copies()}


@in_made_database
def test_a_database_that_changes_the_place_by_a_trigger_has_nothing_written_there(outside):
    finished()
    tracking.hand_in_all()
    in_database(
        "CREATE TRIGGER t AFTER INSERT ON runs BEGIN UPDATE runs SET artifact_uri = "
        f"'{outside.as_uri()}' WHERE run_uuid = new.run_uuid; END"
    )
    finished()
    assert tracking.hand_in_all() == "" and outside_is_untouched(outside)


@in_made_database
def test_a_copy_with_an_id_of_another_kind_gets_no_files():
    run = finished()
    tracking.hand_in_all()
    runs.update(run, handed_in={})
    tables = ("runs", "tags", "params", "metrics", "latest_metrics")
    in_database(*(f"UPDATE {table} SET run_uuid = 'elsewhere'" for table in tables))
    in_database("UPDATE runs SET status = 'RUNNING'")
    assert tracking.hand_in_all().startswith("MLflow: mlflow.db is damaged; delete it")
    assert not (files.data_dir() / "mlflow_artifacts" / "elsewhere").exists()


@pytest.mark.parametrize("linked", ["mlflow.db", "mlflow_artifacts", "runs/.to_delete"])
def test_nothing_of_mlflows_is_written_or_deleted_behind_a_link(outside, linked):
    finished()
    (files.data_dir() / linked).symlink_to(outside / "thesis" if linked == "mlflow.db" else outside)
    (outside / "thesis").write_bytes(b"")
    assert f"{linked.rpartition('/')[2]}: is a link to elsewhere" in tracking.hand_in_all()
    assert outside_is_untouched(outside) and (outside / "thesis").read_bytes() == b""


@in_made_database
def test_a_link_among_the_artefacts_is_not_followed(outside):
    run = finished()
    tracking.hand_in_all()
    runs.update(run, handed_in={})
    in_database("UPDATE runs SET status = 'RUNNING'")
    (folder,) = (files.data_dir() / "mlflow_artifacts").glob("*/artifacts/notebooks")
    shutil.rmtree(folder)
    folder.symlink_to(outside)
    assert "a link leads out of" in tracking.hand_in_all() and outside_is_untouched(outside)


@in_made_database
def test_weights_that_are_a_link_are_not_handed_in(outside):
    sha256 = "0" * 64
    run = finished()
    (run.folder / "classifier.json").write_text(
        json.dumps({"version": 1, "sha256": sha256, "weights": sha256, "bytes": 0, "segments": []})
    )
    (runs.root() / "weights").mkdir()
    (runs.root() / "weights" / sha256).symlink_to(outside / "thesis")
    assert f"{sha256}: is a link to elsewhere" in tracking.hand_in_all()
    assert f"weights/{sha256}" not in copies()[0]["artifacts"]


def test_the_copy_of_somebody_else_is_neither_changed_nor_deleted(tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path / 'team.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    theirs = finished("theirs")
    assert tracking.hand_in_all() == ""
    (id,) = handed_in_by(uri)
    shutil.rmtree(theirs.folder)
    runs.update(finished(), handed_in={uri: id}, note="sent")
    for name in ("a", "0" * 32):
        files.write_json(runs.root() / tracking.TO_DELETE / f"{name}.json", {uri: id})
    assert tracking.hand_in_all() == ""
    (copy,) = copies(uri)
    assert (copy["stage"], copy["tags"].get("mlflow.note.content")) == ("active", None)
    assert [path.stem for path in (runs.root() / tracking.TO_DELETE).iterdir()] == ["a"]


@pytest.mark.parametrize("uri", ["foo://x", "mlruns"])
def test_a_tracking_uri_of_an_unknown_kind_is_named(monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    finished()
    said = tracking.hand_in_all()
    assert said == f"MLflow: MLFLOW_TRACKING_URI names neither a server nor a database; {SENTENCE}"
