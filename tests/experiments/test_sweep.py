"""`imgclf sweep` on a small data set: failing, killed and kept trials.

Most tests look at one sweep of two networks, since each notebook of a trial starts a kernel. Its steps: the command is killed
during the second trial; it runs again while the second file is not a network; it runs again with a network; one trial runs after
the images changed.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner

from imgclf import ImgclfError, cli
from imgclf.experiments import notebooks, sweep, trials
from imgclf.features import inference
from imgclf.images import decoding
from support import cells
from support.networks import write_tiny_network
from support.pictures import write_colours

IMGCLF = Path(sys.executable).parent / "imgclf"
GRID = {"backbone": "dnn_fixed.onnx,second.onnx", "input_size": "32", "svm_c": "[0.1,1]"}
KILLED, WITHOUT_NETWORK, COMPLETE, OTHER_IMAGES = "killed", "without network", "complete", "other images"


@dataclass
class Sweep:
    """A sweep in a folder of its own, step by step.

    Attributes
    ----------
    output : by step, what the command printed. records : by step, `trial.json` of each trial by its network.
    left : processes that still worked in the data folder a minute after the sweep was killed.
    counted : notebooks done and of all, of the last step.
    """

    folder: Path
    output: dict[str, subprocess.CompletedProcess] = field(default_factory=dict)
    records: dict[str, dict[str, dict]] = field(default_factory=dict)
    left: list[int] = field(default_factory=list)
    counted: list[tuple[int, int]] = field(default_factory=list)

    @property
    def data(self) -> Path:
        return self.folder / "imgclf_data"

    @property
    def command(self) -> list[str | Path]:
        values = {"dataset_name": "colours", "images_dir": self.folder / "colours", **GRID}
        return [IMGCLF, "sweep", *(word for name in values for word in ("-p", f"{name}={values[name]}"))]

    def run(self, step: str) -> None:
        self.output[step] = subprocess.run(
            self.command, capture_output=True, text=True, timeout=300, cwd=self.folder
        )
        self.records[step] = self.read_records()

    def run_and_kill(self) -> None:
        """Kill the command when the first trial is done and the second has begun."""
        with subprocess.Popen(self.command, stdout=subprocess.DEVNULL, cwd=self.folder) as process:
            while len(self.read_records()) < 2 and process.poll() is None:
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
        self.records[KILLED] = self.read_records()
        deadline = time.monotonic() + 60
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.2)
        self.left = left

    def read_records(self) -> dict[str, dict]:
        stored = [json.loads(path.read_text()) for path in self.data.glob("proc/*/trial.json")]
        return {Path(record["values"]["backbone"]).name: record for record in stored}

    def processes(self) -> list[int]:
        """Processes that work in the data folder, without this one; none where there is no /proc."""
        setting = f"IMGCLF_DATA={self.data}".encode()
        found = [
            path for path in Path("/proc").glob("[0-9]*/environ") if setting in content(path).split(b"\0")
        ]
        return [pid for path in found if (pid := int(path.parent.name)) != os.getpid()]


def content(path: Path) -> bytes:
    """The content of a file; nothing if its process has ended meanwhile, or is another user's."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweep]:
    scenario = Sweep(tmp_path_factory.mktemp("sweep"))
    images = write_colours(scenario.folder / "colours")
    first = write_tiny_network(scenario.folder / "dnn_fixed.onnx")
    second = scenario.folder / "second.onnx"
    second.write_text("no network")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGCLF_DATA", str(scenario.data))
        scenario.run_and_kill()
        scenario.run(WITHOUT_NETWORK)
        shutil.copy(first, second)
        scenario.run(COMPLETE)
        (images / "red" / "more.jpg").write_bytes(
            decoding.jpeg(decoding.read(images / "red" / "00.jpg")[::-1])
        )
        first.write_text("no network")  # to fail is the quickest way to show that a trial ran
        with pytest.raises(ImgclfError, match=r"^the only trial failed: .*dnn_fixed.onnx"):
            sweep.run(
                "colours",
                str(images),
                f"backbone: {first}; input_size: 32; svm_c: [0.1, 1]",
                progress=lambda done, total: scenario.counted.append((done, total)),
            )
        scenario.records[OTHER_IMAGES] = scenario.read_records()
        yield scenario


@pytest.mark.notebooks
@pytest.mark.slow
class TestSweepOfTwoNetworks:
    def test_a_killed_sweep_leaves_an_unfinished_trial_and_no_process(self, swept):
        stopped = swept.records[KILLED]
        assert stopped["second.onnx"]["error"] == sweep.UNFINISHED
        assert not stopped["dnn_fixed.onnx"]["error"]
        assert swept.left == []

    def test_a_finished_trial_is_kept_after_a_kill_and_a_failure(self, swept):
        kept = [swept.records[step]["dnn_fixed.onnx"] for step in (KILLED, WITHOUT_NETWORK, COMPLETE)]
        assert kept[0] == kept[1] == kept[2]

    def test_a_failing_trial_does_not_stop_the_others_and_is_named(self, swept):
        ended = swept.output[WITHOUT_NETWORK]
        assert ended.returncode == 1 and "Traceback" not in ended.stderr
        assert (
            "1 of 2 trials failed (run the sweep again to retry them; the others are kept)" in ended.stderr
            and "second.onnx" in ended.stderr
        )
        assert "1 of 2: backbone=" in ended.stdout and "held-out accuracy" in ended.stdout
        assert "2 of 2: backbone=" in ended.stdout and "failed: " in ended.stdout
        assert swept.records[WITHOUT_NETWORK]["second.onnx"]["error"] not in ("", sweep.UNFINISHED)

    def test_a_failed_trial_is_retried(self, swept):
        assert swept.output[COMPLETE].returncode == 0, swept.output[COMPLETE].stderr
        record = swept.records[COMPLETE]["second.onnx"]
        assert not record["error"]
        assert set(record["seconds"]) == {"02", "03", "04", "05"} and record["milliseconds"] > 0

    def test_tables_and_a_chart_compare_the_trials(self, swept):
        printed = swept.output[COMPLETE].stdout
        numbered = [line for line in printed.splitlines() if line.startswith(("1 ", "2 "))]
        assert len(numbered) == 6  # a line while it runs, one of each table, for both
        assert "ms per image" in printed
        executed = Path(printed.partition("the notebook ")[2].split("\n")[0].strip())
        cells = nbformat.read(executed, as_version=4).cells
        assert any("image/png" in str(cell.get("outputs")) for cell in cells)
        assert (swept.data / "proc" / "colours" / "trials.png").exists()

    def test_the_results_of_the_data_set_itself_are_not_touched(self, swept):
        assert not (swept.data / "proc" / "colours" / "classifier.onnx").exists()

    def test_other_images_run_a_trial_again(self, swept):
        before, after = (swept.records[step]["dnn_fixed.onnx"] for step in (COMPLETE, OTHER_IMAGES))
        assert after["fingerprint"] != before["fingerprint"]
        assert after["error"] not in ("", sweep.UNFINISHED)

    def test_progress_counts_the_notebooks_of_a_trial(self, swept):
        assert swept.counted == [(0, 4)]  # 02 failed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("-p", "dataset_name=nothing", "-p", "seed=1,2"),
            "no images of nothing yet; run 00_get_images first, or set images_dir",
        ),
        (("-p", "epochs=1,x"), "epochs='x': must be a whole number"),
        (("-p", "dataset_name=fruit"), "grid: empty"),
        (
            ("-p", "dataset_name=fruit", "-p", "epochs=5,10"),
            "grid: epochs=5 and epochs=10 would be the same trial: epochs = 10 has no effect on the "
            "classifier with classifier = 'svm'; give epochs one value, or sweep the others alone",
        ),
        (
            ("-p", "classifier=dnn,svm", "-p", "dropout=0.2,0.5"),
            "classifier=svm dropout=0.2 and classifier=svm dropout=0.5 would be the same trial: dropout",
        ),
        (
            ("-p", "classifier=dnn", "-p", "svm_c=[1],[2]"),
            "would be the same trial: svm_c = [2] has no effect",
        ),
        (
            ("-p", "dataset_name=fruit", "-p", "backbone=efficientnet_lite1", "-p", "input_size=0,240"),
            "would be the same trial: input_size = 0 is 240 of efficientnet_lite1; give input_size one value",
        ),
        (("-p", "images_dir=/nowhere", "-p", "epochs=1"), "images_dir is given, but dataset_name is still"),
        (
            ("-p", "images_dir=/nowhere", "-p", "dataset_name=fruit", "-p", "epochs=1"),
            "/nowhere: no images of fruit",
        ),
    ],
)
def test_an_invalid_sweep_fails_with_one_sentence_before_a_kernel_starts(arguments, message, data_dir):
    refused = CliRunner().invoke(cli.main, ["sweep", *arguments])
    assert refused.exit_code == 1 and isinstance(refused.exception, SystemExit)
    (line,) = refused.stderr.splitlines()
    assert line.startswith("imgclf: ") and message in line
    assert not (data_dir / "runs").exists()


def test_equal_values_of_a_parameter_are_one_trial():
    assert trials.combinations(trials.parse_grid("epochs=5,5")) == [{"epochs": 5}]


def test_a_stopped_sweep_says_how_to_go_on(data_dir, colour_folder, monkeypatch):
    def stop(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    monkeypatch.setattr(sweep, "execute", stop)
    result = CliRunner().invoke(
        cli.main, ["sweep", "-p", "dataset_name=x", "-p", f"images_dir={colour_folder}", "-p", "seed=1,2"]
    )
    assert result.exit_code == 130
    assert result.stderr == ("imgclf: stopped; run the same sweep again to go on: finished trials are kept\n")


def refuse(*_, **__):
    raise ImgclfError("no kernel in this test")


def near_duplicates_of_trials(data_dir, folder, grid):
    """The value with which the images of each trial were scanned."""
    with pytest.raises(ImgclfError, match="no kernel in this test"):
        sweep.run("colours", str(folder), grid)
    names = [trials.trial_name("colours", values) for values in trials.combinations(trials.parse_grid(grid))]
    return [
        json.loads((data_dir / "proc" / name / "images.json").read_text())["near_duplicates"]
        for name in names
    ]


@pytest.mark.usefixtures("with_copy_descriptor")
def test_each_trial_has_the_near_duplicates_of_the_grid_or_of_01(
    data_dir, colour_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(sweep, "execute", refuse)
    grid = "near_duplicates: ignored, together; seed: 1, 2"
    found = near_duplicates_of_trials(data_dir, colour_folder, grid)
    assert found == ["ignored", "ignored", "together", "together"]
    shutil.copytree(notebooks.NOTEBOOKS, tmp_path / "own", ignore=shutil.ignore_patterns(".*"))
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path / "own")
    cells.edit(near_duplicates="left out")
    assert near_duplicates_of_trials(data_dir, colour_folder, "seed: 3") == ["left out"]


@pytest.mark.usefixtures("with_copy_descriptor")
def test_trials_are_tested_whatever_the_cells_say(data_dir, colour_folder, tmp_path, monkeypatch, capsys):
    given = []

    def remember(path, folder, values, **_):
        given.append(values["evaluate_on"])
        raise ImgclfError("no kernel in this test")

    monkeypatch.setattr(sweep, "execute", remember)
    shutil.copytree(notebooks.NOTEBOOKS, tmp_path / "own", ignore=shutil.ignore_patterns(".*"))
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path / "own")
    fingerprints = set()
    for left_over in ("test", "train"):
        cells.edit(evaluate_on=left_over)
        with pytest.raises(ImgclfError, match="no kernel"):
            sweep.run("colours", str(colour_folder), "seed: 3")
        fingerprints.add(json.loads((data_dir / "proc/colours@seed=3/trial.json").read_text())["fingerprint"])
    assert given == ["test", "test"] and len(fingerprints) == 1
    said = "evaluate_on = 'train' in the notebooks is not used: all trials have evaluate_on = 'test'\n"
    assert capsys.readouterr().out.count(said) == 1


@pytest.mark.usefixtures("with_copy_descriptor")
def test_a_sweep_over_a_parameter_of_a_split_that_is_given_is_refused(data_dir, colour_folder):
    (colour_folder / "dedicated_test.tsv").write_text("red/00.jpg\nblue/00.jpg\n")
    with pytest.raises(
        ImgclfError,
        match=r"^grid: the trials with train_fraction=0\.5, 0\.9 would be the same: the list of dedicated test images "
        r"\(.*\) decides; give train_fraction one value$",
    ):
        sweep.run("colours", str(colour_folder), "train_fraction: 0.9, 0.5")
    with pytest.raises(
        ImgclfError, match="with split_by=group, image would be the same: no image is in a subf"
    ):
        sweep.run("colours", str(colour_folder), "split_by: image, group")


@pytest.mark.usefixtures("with_copy_descriptor")
def test_a_trial_of_another_network_in_the_same_file_or_of_edited_cells_runs_again(
    data_dir, colour_folder, tiny_network, monkeypatch
):
    monkeypatch.setattr(sweep, "execute", refuse)
    own = shutil.copytree(notebooks.NOTEBOOKS, data_dir / "own", ignore=shutil.ignore_patterns(".*"))
    monkeypatch.setattr(notebooks, "NOTEBOOKS", own)
    fingerprints = set()
    network = tiny_network.read_bytes()
    for content, code in ((network, "accuracy"), (b"another network", "accuracy"), (network, "ACCURACY")):
        path = own / "04_train_svm.ipynb"
        path.write_text(path.read_text().replace("training accuracy", f"training {code}"))
        tiny_network.write_bytes(content)
        with pytest.raises(ImgclfError, match="no kernel"):
            sweep.run("colours", str(colour_folder), f"backbone: {tiny_network}")
        (record,) = data_dir.glob("proc/*/trial.json")
        fingerprints.add(json.loads(record.read_text())["fingerprint"])
    assert len(fingerprints) == 3


@pytest.mark.usefixtures("with_copy_descriptor")
@pytest.mark.parametrize(("precision", "expected"), [("f32", 1), ("auto", 2)])
def test_a_trial_with_precision_auto_runs_again_on_another_processor(
    precision, expected, data_dir, colour_folder, tiny_network, monkeypatch
):
    monkeypatch.setattr(sweep, "execute", refuse)
    fingerprints = set()
    for name in ("one", "another"):
        monkeypatch.setattr(inference, "processor", lambda engine, name=name: name)
        with pytest.raises(ImgclfError, match="no kernel"):
            sweep.run("colours", str(colour_folder), f"backbone: {tiny_network}; precision: {precision}")
        (record,) = data_dir.glob("proc/*/trial.json")
        fingerprints.add(json.loads(record.read_text())["fingerprint"])
    assert len(fingerprints) == expected
