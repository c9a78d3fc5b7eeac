"""`imgclf runs`: the table, all about one run, and changes by a person."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from imgclf import cli
from imgclf.experiments.history import runs
from support.classifiers import trained

METRICS = {
    "overall accuracy": 0.9216,
    "overall accuracy low": 0.884,
    "overall accuracy high": 0.951,
    "test images": 153.0,
}


def call(*arguments: object, **others) -> Result:
    return CliRunner().invoke(cli.main, ["runs", *map(str, arguments)], **others)


def finished(name: str = "fruit", **others) -> runs.Run:
    run = runs.start(runs.BY_RUN, name, {"classifier": "svm", "seed": 0})
    return runs.finish(run, **{"metrics": METRICS, **others})


def test_the_table_has_a_line_for_each_run_newest_first():
    first, second = finished(), finished("coats")
    runs.update(first, started="2026-11-25T17:04:00+01:00")
    runs.change(second, name="new lamp", tags=["good", "old"])
    runs.fail(runs.start(runs.BY_RUN, "hats", {"classifier": "dnn"}), "no memory " * 20)
    header, *lines = call().stdout.splitlines()
    assert header.split() == ["id", "when", "data", "set", "classifier", "accuracy"]
    of_hats, of_coats = sorted(lines[:2], key=lambda line: "coats" in line)
    assert f"{second.id[:8]}  " in of_coats and of_coats.endswith(
        "  coats     svm         92.2% (88% to 95%)  new lamp #good #old"
    )
    assert of_hats.endswith("failed: " + "no memory " * 6 + "…")
    assert lines[2] == f"{first.id[:8]}  2026-11-25 17:04  fruit     svm         92.2% (88% to 95%)"
    assert call("--dataset", "fruit").stdout.splitlines()[1:] == [" ".join(lines[2].split(" "))]


def test_an_accuracy_on_training_images_and_the_values_of_a_trial_are_named():
    finished(about={"evaluated_on": "train"})
    runs.finish(runs.start(runs.TRIAL, "fruit", {"classifier": "dnn"}, values={"epochs": 5}), metrics=METRICS)
    listed = call().stdout.splitlines()
    assert sorted(line.partition(")")[2] for line in listed[1:]) == ["  epochs=5", "  on training images"]


def test_without_runs_it_says_how_to_make_one():
    listed = call()
    assert (listed.exit_code, listed.stdout) == (0, "")
    assert listed.stderr == "no runs yet: imgclf run and notebook 05_evaluate record them\n"
    assert json.loads(call("--json").stdout) == []


def test_of_a_data_set_without_runs_those_with_runs_are_named():
    finished("coats")
    finished("fruit")
    assert call("--dataset", "friut").stderr == "no runs of 'friut'; there are runs of coats, fruit\n"


def test_json_has_all_that_is_recorded():
    run = finished(note="x")
    (told,) = json.loads(call("--json").stdout)
    assert told["folder"] == str(run.folder) and told["metrics"] == METRICS and told["note"] == "x"
    assert told.keys() == vars(run).keys()


def test_a_damaged_run_is_named_and_hides_no_other():
    first, second = finished(), finished()
    (second.folder / "run.json").write_text("{")
    listed = call()
    assert listed.exit_code == 0 and first.id[:8] in listed.stdout
    assert (
        listed.stderr
        == f"left out: {second.folder / 'run.json'}: damaged; delete its folder, or restore the file\n"
    )


def test_show_prints_all_of_a_run():
    run = finished(
        curves={"out-of-fold accuracy over C": [[0.1, 0.5], [1.0, 0.75]]},
        counts={"train": {"apple": 9}, "test": {"apple": 3}},
        about={"git commit": "abc"},
        seconds={"03": 1.25},
        peak_memory_mb={"03": 512.0},
    )
    runs.change(run, note="with the\nnew lamp", tags=["a"])
    shown = call("show", run.id[:6]).stdout
    for line in (
        run.name,
        f"  id        {run.id}",
        "  note      with the\\nnew lamp",
        "  overall accuracy  0.9216 (0.8840 to 0.9510)",
        "  test images       153",
        "train images",
        "  apple  9",
        "  seed        0",
        "  0.1  0.5",
        "  03  1.2 s, 512 MB at most",
        "  git commit  abc",
    ):
        assert line in shown.splitlines()


def test_name_note_and_tags_are_changed():
    run = finished()
    assert call("name", run.id[:6], "new lamp").stdout == f"{run.id[:8]} new lamp\n"
    assert call("note", "new lamp", "better light").stdout == f"{run.id[:8]} new lamp: better light\n"
    assert call("tag", "new lamp", "a", "b").stdout == f"{run.id[:8]} new lamp: a, b\n"
    assert call("tag", "new lamp", "a", "--remove").stdout == f"{run.id[:8]} new lamp: b\n"
    refused = call("tag", "new lamp", "a", "--remove")
    assert refused.exit_code == 1 and "new lamp: has no tag 'a'; its tags are b" in refused.stderr
    changed = runs.find(run.id)
    assert (changed.name, changed.note, changed.tags) == ("new lamp", "better light", ("b",))
    assert call("note", "new lamp", "").stdout == f"{run.id[:8]} new lamp: no note\n"
    refused = call("name", run.id, " ")
    assert refused.exit_code == 1 and "empty; give one" in refused.stderr


def test_an_unknown_run_is_refused_in_one_line():
    run = finished()
    for command in (["show"], ["name", "x"], ["note", "x"], ["tag", "x"], ["delete"], ["classifier", "x"]):
        refused = call(command[0], "zzz", *command[1:])
        assert refused.exit_code == 1 and len(refused.stderr.splitlines()) == 1
        assert "'zzz': no such run in" in refused.stderr and run.name in refused.stderr


class TestDelete:
    def test_it_says_what_goes_and_asks(self):
        first, second, third = (finished() for _ in range(3))
        (second.folder / "scores.npz").write_bytes(bytes(2_300_000))
        kept = call("delete", second.id, first.id[:10], input="n\n")
        assert kept.exit_code == 1 and f"{second.folder}, 2.3 MB" in kept.stdout
        assert "Delete these 2 runs? [y/N]" in kept.stdout and len(runs.all_runs()) == 3
        gone = call("delete", second.id, first.id, second.id, input="y\n")
        assert gone.stdout.endswith("deleted 2\n") and [run.id for run in runs.all_runs()] == [third.id]

    def test_with_yes_it_does_not_ask(self):
        assert call("delete", "--yes", finished().id).exit_code == 0
        assert runs.all_runs() == []

    def test_one_unknown_id_deletes_none(self):
        run = finished()
        assert call("delete", "--yes", run.id, "zzz").exit_code == 1
        assert runs.all_runs() == [run]


def test_the_classifier_of_a_run_is_written_and_no_file_overwritten_unasked(
    tiny_network, colour_folder, tmp_path
):
    path, run = trained(tiny_network, colour_folder), finished()
    runs.keep_classifier(run, path)
    target = tmp_path / "out" / "fruit.onnx"
    written = call("classifier", run.id, target)
    assert written.stdout == f"{target}: the classifier of {run.name}\n"
    assert target.read_bytes() == path.read_bytes()
    refused = call("classifier", run.id, target)
    assert refused.exit_code == 1 and "exists already; name another file, or overwrite it" in refused.stderr
    assert call("classifier", run.id, target, "--replace").exit_code == 0
    lacking = call("classifier", finished().id, tmp_path / "x.onnx")
    assert lacking.exit_code == 1 and "has no classifier; choose another run" in lacking.stderr


def test_two_hundred_runs_are_printed_within_two_seconds_and_nothing_heavy_is_loaded(data_dir: Path):
    first = finished(metrics={**METRICS, **{f"accuracy of class {k}": 0.5 for k in range(100)}})
    stored = json.loads((first.folder / "run.json").read_text())
    for k in range(199):
        (runs.root() / f"run {k}").mkdir()
        (runs.root() / f"run {k}" / "run.json").write_text(json.dumps({**stored, "id": f"{k:032x}"}))
    runs.new_folder("fruit sweep")
    (runs.root() / "2026-11-25_17-04-02").mkdir()  # of version 0.1.0, without a notebook
    code = (
        "import sys; from imgclf.cli import main; main(['runs'], standalone_mode=False); "
        "print([name for name in ('mlflow', 'torch', 'sklearn', 'onnx', 'pandas', 'scipy', 'nbformat') "
        "if name in sys.modules])"
    )
    begin = time.perf_counter()
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - begin
    *lines, loaded = printed.stdout.splitlines()
    assert len(lines) == 201 and loaded == "[]"
    assert seconds < 6  # 0.5 s alone on two cores


@pytest.mark.parametrize("name", ["\x1b[2Jx", "a\tb"])
def test_what_a_terminal_would_obey_is_escaped(name):
    run = runs.change(finished(), name=name, note=name)
    for printed in (call().stdout, call("show", run.id).stdout, call("name", run.id, name).stdout):
        assert "\x1b" not in printed and "\t" not in printed
