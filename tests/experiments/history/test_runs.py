"""The run history as folders: names, changes by several processes at once, killed and damaged runs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime

import pytest

from imgclf import ImgclfError, files
from imgclf.experiments.history import runs

METRICS = {"overall accuracy": 0.9216, "accuracy of class red": 0.5}


def started(name: str = "fruit", kind: str = runs.BY_RUN, **others) -> runs.Run:
    return runs.start(kind, name, {"classifier": "svm", "epochs": 5}, **others)


def finished(name: str = "fruit", **changes) -> runs.Run:
    return runs.finish(started(name), **{"metrics": METRICS, **changes})


def in_another_process(code: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", f"from imgclf.experiments.history import runs\n{code}"],
        stdout=subprocess.PIPE,
        text=True,
    )


def in_the_end(processes: list[subprocess.Popen]) -> list[int]:
    """Exit codes of processes, when all have ended."""
    for process in processes:
        process.communicate(timeout=120)
    return [process.returncode for process in processes]


def test_a_folder_is_named_by_time_data_set_classifier_and_in_the_end_the_accuracy():
    run = started()
    when = datetime.fromisoformat(run.started)
    assert run.folder == runs.root() / f"{when:%Y-%m-%d %H%M} fruit svm" and run.folder.is_dir()
    assert run.name == run.folder.name and abs((datetime.now().astimezone() - when).total_seconds()) < 60
    done = runs.finish(run, metrics=METRICS)
    assert done.name == done.folder.name == f"{run.name} 92 %" and not run.folder.exists()
    assert sorted(path.name for path in done.folder.iterdir()) == ["run.json"]


def test_a_trial_is_named_by_its_values():
    values = {"classifier": "svm", "epochs": 5, "svm_c": [0.1, 1.0], "backbone": "/home/me/own.onnx"}
    run = started(kind=runs.TRIAL, values=values)
    assert run.name.endswith(" fruit svm epochs=5 svm_c=[0.1,1.0] backbone=own.onnx")
    assert run.values == values


@pytest.mark.parametrize(
    ("dataset_name", "expected"),
    [('a:b*c?"<x>|', "a-b-c---x--"), ("tab\there", "tab-here"), ("grün 🍏", "grün 🍏")],
)
def test_letters_that_a_file_system_refuses_are_replaced(dataset_name, expected):
    assert started(dataset_name).folder.name[16:] == f"{expected} svm"


def test_a_long_name_is_cut_and_keeps_the_accuracy():
    first, second = finished("é" * 250), finished("é" * 250)
    assert len(first.folder.name.encode()) < 140 and first.folder.name.endswith(" 92 %")
    assert second.folder.name == f"{first.folder.name} (2)"
    assert first.dataset_name == "é" * 250


def test_two_runs_of_one_minute_have_two_folders():
    first, second = finished(), finished()
    assert second.name == f"{first.name} (2)"
    assert {run.id for run in runs.all_runs()} == {first.id, second.id}


def test_what_is_written_is_read_back_to_the_last_digit():
    run = started(values={"epochs": 5})
    third = 1 / 3
    done = runs.finish(
        run,
        metrics={"overall accuracy": third, "nothing": float("nan")},
        curves={"training error": [[0.0, float("nan")], [1.0, third]]},
        counts={"train": {"red": 9}, "test": {"red": 3}},
        about={"evaluated_on": "test"},
        seconds={"02": 1.25},
    )
    (read,) = runs.all_runs()
    assert read == done and read.metrics == {"overall accuracy": third}
    assert read.curves == {"training error": [[1.0, third]]} and read.status == runs.FINISHED


def test_a_failed_run_keeps_its_folder_and_says_why():
    run = started()
    assert runs.fail(run, "no images").folder == run.folder
    (read,) = runs.all_runs()
    assert (read.status, read.error) == (runs.FAILED, "no images")


def test_runs_are_listed_newest_first_and_by_data_set():
    first, other, last = (finished(name) for name in ("fruit", "coats", "fruit"))
    for run, hour in ((first, 10), (other, 11), (last, 9)):
        runs.update(run, started=f"2026-11-25T{hour:02d}:00:00+01:00")
    runs.update(last, started="2026-11-25T09:30:00+00:00")  # half past ten there
    assert [run.id for run in runs.all_runs()] == [other.id, last.id, first.id]
    assert [run.id for run in runs.all_runs("fruit")] == [last.id, first.id]


def test_a_person_changes_name_note_and_tags_and_the_folder_stays():
    run = finished()
    runs.change(run, name=" good one ", note="with the new\nlamp", tags=["a", " b ", "a", ""])
    (read,) = runs.all_runs()
    assert (read.name, read.note, read.tags) == ("good one", "with the new\nlamp", ("a", "b"))
    assert read.folder == run.folder and read.metrics == run.metrics
    runs.change(read, tags=())
    assert runs.find("good one").tags == () and runs.find("good one").note == "with the new\nlamp"
    with pytest.raises(ImgclfError, match="name of 'good one': empty; give one"):
        runs.change(read, name=" ")


def test_a_name_given_while_it_runs_stays_when_it_finishes():
    run = started()
    runs.change(run, name="mine")
    done = runs.finish(run, metrics=METRICS)
    assert done.name == "mine" and done.folder.name.endswith(" fruit svm 92 %")


def test_a_change_finds_the_run_whose_folder_was_renamed_meanwhile():
    run = started()
    done = runs.finish(run, metrics=METRICS)
    runs.note_handed_in(run, "sqlite:///mlflow.db", "7")
    runs.note_handed_in(run, "http://127.0.0.1", "8")
    assert runs.find(done.id).handed_in == {"sqlite:///mlflow.db": "7", "http://127.0.0.1": "8"}


def test_a_run_is_found_by_the_beginning_of_its_id_its_name_and_its_folder():
    run = runs.change(finished(), name="good")
    finished("coats")
    for text in (run.id, run.id[:8].upper(), "good", run.folder.name):
        assert runs.find(text).id == run.id


def test_a_name_of_several_runs_or_none_is_refused_with_the_candidates():
    first, second = (runs.change(finished(), name="good") for _ in range(2))
    with pytest.raises(ImgclfError, match=f"'good': 2 runs match: .*{first.id[:8]}.*give more of an id"):
        runs.find("good")
    with pytest.raises(ImgclfError, match=f"'xyz': no such run in .*{second.id[:8]} .*imgclf runs lists all"):
        runs.find("xyz")
    with pytest.raises(ImgclfError, match="no such run"):
        runs.find("")


def test_the_folders_of_a_run_that_was_copied_are_named():
    run = finished()
    shutil.copytree(run.folder, runs.root() / "copy")
    with pytest.raises(ImgclfError, match=r"2 folders hold this run: .*; move the copies away") as raised:
        runs.find(run.short_id)
    assert str(run.folder) in str(raised.value) and str(runs.root() / "copy") in str(raised.value)


def test_the_run_that_executes_a_notebook_is_known_in_the_block_alone(monkeypatch):
    run = started()
    with runs.executing(run):
        assert runs.current() == run
        with runs.executing(started("coats")):
            assert runs.current().dataset_name == "coats"
        assert runs.current() == run
        runs.finish(run)
        assert runs.current() is None  # a name that was left over
    assert runs.current() is None
    monkeypatch.setenv("IMGCLF_RUN", "/nowhere")
    assert runs.current() is None


def test_scores_and_classifiers_that_a_run_lacks_are_refused():
    for run, why in ((finished(), "; choose"), (runs.fail(started(), "no memory"), r"failed \(no memory\)")):
        with pytest.raises(ImgclfError, match=f"has no scores.*{why}"):
            runs.evaluation(run)
        with pytest.raises(ImgclfError, match=f"has no classifier.*{why}"):
            runs.classifier(run)


class TestDeleting:
    def test_the_folder_goes_and_the_others_stay(self):
        first, second = finished(), finished()
        runs.delete(first)
        assert [run.id for run in runs.all_runs()] == [second.id] and not first.folder.exists()
        with pytest.raises(ImgclfError, match=r"run\.json is gone or damaged"):
            runs.delete(first)

    def test_a_running_one_is_refused(self):
        run = started()
        with pytest.raises(ImgclfError, match="is running; stop it first"):
            runs.delete(run)
        assert runs.all_runs() == [run]


class TestSeveralProcesses:
    def test_four_runs_at_once_lose_nothing(self):
        code = (
            "for k in range(10):\n"
            "    run = runs.start(runs.BY_RUN, 'fruit', {'classifier': 'svm'})\n"
            "    run = runs.finish(run, metrics={'overall accuracy': k / 10})\n"
            "    runs.change(run, note=f'number {k}')\n"
        )
        processes = [in_another_process(code) for _ in range(4)]
        assert in_the_end(processes) == [0] * 4
        found, damaged = runs.listing()
        assert len(found) == 40 and not damaged and {run.status for run in found} == {runs.FINISHED}
        assert sorted(run.note for run in found) == sorted(f"number {k}" for k in range(10) for _ in range(4))
        assert len({run.folder for run in found}) == len({run.id for run in found}) == 40

    def test_a_list_made_while_folders_are_renamed_misses_none(self):
        first = finished()
        code = (
            "for k in range(200):\n"
            "    run = runs.start(runs.BY_RUN, 'coats', {})\n"
            "    runs.delete(runs.finish(run, metrics={'overall accuracy': 0.5}))\n"
        )
        with in_another_process(code) as process:
            while process.poll() is None:
                found, damaged = runs.listing()
                assert first in found and damaged == []
        assert process.returncode == 0 and runs.listing() == ([first], [])

    def test_a_list_made_while_a_run_finishes_leaves_no_folder_with_its_old_name(self):
        run = started()
        done = runs.finish(run, metrics=METRICS)
        assert runs._marked_if_killed(run) == done  # as it was read before
        assert not run.folder.exists()

    def test_changes_of_one_run_by_several_lose_nothing(self):
        run = finished()
        code = f"for k in range(25): runs.note_handed_in(runs.find('{run.id}'), f'%s {{k}}', 'x')\n"
        processes = [in_another_process(code % name) for name in "abcd"]
        assert in_the_end(processes) == [0] * 4
        assert len(runs.find(run.id).handed_in) == 100

    def test_a_killed_one_is_marked_as_failed_by_the_next_and_a_running_one_is_not(self):
        code = "import time\nprint(runs.start(runs.BY_RUN, 'fruit', {}).id, flush=True)\ntime.sleep(100)"
        with in_another_process(code) as process:
            id = process.stdout.readline().strip()
            assert runs.find(id).status == runs.RUNNING
            with pytest.raises(ImgclfError, match="is running"):
                runs.delete(runs.find(id))
            process.send_signal(signal.SIGKILL)
        started("coats")
        stored = json.loads(next(runs.root().glob("*fruit/run.json")).read_text())
        assert (stored["status"], stored["error"]) == ("failed", runs.KILLED)
        assert [path.name for path in runs.find(id).folder.iterdir()] == ["run.json"]
        runs.delete(runs.find(id))

    def test_a_wait_for_another_process_is_printed_and_ends(self, monkeypatch, capsys):
        run = finished()
        monkeypatch.setattr(runs, "SILENT_SECONDS", 0.01)
        monkeypatch.setattr(runs, "LOCK_SECONDS", 0.01)
        held = files.acquire(runs.root() / files.LOCK, seconds=0)
        with pytest.raises(ImgclfError, match=r"runs/\.lock: another process holds this lock; end"):
            runs.change(run, note="x")
        held.release()
        assert capsys.readouterr().out == "another process changes the run history; waiting for it\n"
        assert runs.change(run, note="x").note == "x"


class TestFilesOfSomebodyElse:
    @pytest.mark.parametrize(
        "changes",
        [
            {"id": "../../x"},
            {"id": None},
            {"dataset_name": "../../etc"},
            {"started": "yesterday"},
            {"started": "2026-11-25T17:04:00"},  # no offset
            {"metrics": {"overall accuracy": "high"}},
            {"metrics": {"overall accuracy": 10**400}},
            {"curves": {"training error": [[1]]}},
            {"tags": "ab"},
            {"counts": {"train": 3}},
            {"parameters": {"svm_c": [[1]]}},
            {"values": {"svm_c": {}}},
            {"metrics": {"overall accuracy": 1e308}},
            {"seconds": {"05": 1e308}},
            {"started": "0001-01-01T00:00:00+14:00"},
            {"started": "9999-12-31T23:59:59-14:00"},
        ],
    )
    def test_a_damaged_record_hides_no_other(self, changes):
        good, bad = finished(), finished()
        path = bad.folder / "run.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
        assert runs.listing() == ([good], [path])

    def test_a_folder_named_by_the_year_1_hides_no_other(self):
        good = finished()
        (runs.root() / "0001-01-01_00-00-00").mkdir()
        (runs.root() / "0001-01-01_00-00-00" / "05_evaluate.ipynb").write_text("{}")
        assert runs.listing() == ([good], [])

    @pytest.mark.parametrize("content", ["", "[]", "{}", "[" * 10**5, "\0", '{"folder": "/etc"}'])
    def test_a_file_of_another_kind_hides_no_other(self, content):
        good, bad = finished(), finished()
        (bad.folder / "run.json").write_text(content)
        assert runs.listing() == ([good], [bad.folder / "run.json"])

    def test_a_record_cannot_name_another_folder_and_keys_of_later_versions_are_left_out(self):
        run = finished()
        path = run.folder / "run.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "folder": "/etc", "later": 1}))
        assert runs.all_runs() == [run]

    def test_links_and_pipes_are_no_runs(self, tmp_path):
        run = finished()
        elsewhere = run.folder.rename(tmp_path / "elsewhere")
        run.folder.symlink_to(elsewhere)
        (runs.root() / "pipe").mkdir()
        os.mkfifo(runs.root() / "pipe" / "run.json")
        assert runs.listing() == ([], [runs.root() / "pipe" / "run.json"])


def test_two_hundred_runs_are_listed_in_a_moment():
    first = finished(metrics={f"accuracy of class {k}": 0.5 for k in range(100)})
    for k in range(199):
        folder = runs.root() / f"run {k}"
        folder.mkdir()
        stored = json.loads((first.folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps({**stored, "id": f"{k:032x}"}))
    begin = time.perf_counter()
    assert len(runs.all_runs()) == 200
    assert time.perf_counter() - begin < 1


def test_a_data_folder_that_cannot_be_written_is_listed(data_dir, monkeypatch):
    run = finished()
    code = "run = runs.start(runs.BY_RUN, 'fruit', {}); import os; os._exit(0)"
    assert in_the_end([in_another_process(code)]) == [0]

    def refuse(*_, **__):
        raise PermissionError(13, "no permission")

    monkeypatch.setattr(runs, "write", refuse)
    assert {found.status for found in runs.all_runs()} == {runs.FINISHED, runs.FAILED}
    monkeypatch.undo()
    monkeypatch.setenv("IMGCLF_DATA", str(data_dir))
    assert json.loads(next(runs.root().glob("*fruit/run.json")).read_text())["status"] == "running"
    assert run.folder.exists()


class TestLinksOfSomebodyElse:
    """A data folder that somebody sent must not have files outside of it deleted or written."""

    @pytest.fixture
    def outside(self, tmp_path):
        """A folder of the user with an old folder, and a file that is called like weights."""
        (tmp_path / "mine" / "thesis").mkdir(parents=True)
        (tmp_path / "mine" / ("0" * 64)).write_text("of the user")
        os.utime(tmp_path / "mine" / "thesis", (0, 0))
        return tmp_path / "mine"

    @pytest.mark.parametrize("name", [".deleted", "restored", "weights", ".to_delete"])
    def test_nothing_is_deleted_through_a_link(self, outside, name):
        run = finished(handed_in={"sqlite:///x": "1"})
        (outside / run.id).mkdir()
        (runs.root() / name).symlink_to(outside)
        with pytest.raises(ImgclfError, match=f"{name}: is a link to elsewhere"):
            runs.delete(run)
        assert runs.all_runs() == [run]
        assert sorted(path.name for path in outside.iterdir()) == sorted(["0" * 64, run.id, "thesis"])

    def test_no_classifier_is_put_together_behind_a_link(self, outside):
        run = finished()
        (run.folder / "classifier.json").write_text("{}")
        (runs.root() / "restored").symlink_to(outside)
        with pytest.raises(ImgclfError, match="restored: is a link to elsewhere"):
            runs.classifier(run)
        (runs.root() / "restored").unlink()
        (runs.root() / "restored").mkdir()
        (runs.root() / "restored" / run.id).symlink_to(outside)
        with pytest.raises(ImgclfError, match=f"{run.id}: is a link to elsewhere"):
            runs.classifier(run)
        assert (outside / "thesis").exists()

    def test_only_restored_classifiers_are_removed_when_they_are_old(self):
        run = finished()
        (run.folder / "classifier.json").write_text("{}")
        for name in ("mine", "0" * 32):
            (runs.root() / "restored" / name).mkdir(parents=True)
            os.utime(runs.root() / "restored" / name, (0, 0))
        with pytest.raises(ImgclfError, match="damaged"):
            runs.classifier(run)
        assert [path.name for path in (runs.root() / "restored").iterdir()] == ["mine"]
