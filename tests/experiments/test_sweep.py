"""`imgclf sweep` on a small data set: failing, killed and kept trials."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from imgclf.experiments import sweep, trials
from imgclf.images import decoding

IMGCLF = Path(sys.executable).parent / "imgclf"


@pytest.fixture
def command(colour_folder, tmp_path) -> list[str | Path]:
    """A sweep of two networks, of which the second is not a network."""
    (tmp_path / "second.onnx").write_text("no network")
    return [
        IMGCLF,
        "sweep",
        "-p",
        "dataset_name=colours",
        "-p",
        f"images_dir={colour_folder}",
        "-p",
        "backbone=dnn_fixed.onnx,second.onnx",
        "-p",
        "input_size=32",
        "-p",
        "svm_c=[0.1,1]",
    ]


def run(command: list[str | Path], folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder)


def records(data: Path) -> dict[str, dict]:
    return {
        json.loads(path.read_text())["values"]["backbone"].rpartition("/")[2]: json.loads(path.read_text())
        for path in data.glob("proc/*/trial.json")
    }


def test_a_failing_trial_does_not_stop_the_others_and_is_retried(
    command, tiny_network, colour_folder, tmp_path, data_dir
):
    first = run(command, tmp_path)
    assert first.returncode == 1 and "Traceback" not in first.stderr
    assert (
        "1 of 2 trials failed (run the sweep again to retry them; the others are kept)" in first.stderr
        and "second.onnx" in first.stderr
    )
    assert (
        "1 of 2: backbone=" in first.stdout
        and "held-out accuracy" in first.stdout
        and "2 of 2: backbone=" in first.stdout
        and "failed: " in first.stdout
    )
    before = records(data_dir)
    assert not before["dnn_fixed.onnx"]["error"] and before["second.onnx"]["error"]

    shutil.copy(tiny_network, tmp_path / "second.onnx")
    again = run(command, tmp_path)
    assert again.returncode == 0, again.stderr
    after = records(data_dir)
    assert after["dnn_fixed.onnx"] == before["dnn_fixed.onnx"] and not after["second.onnx"]["error"]
    assert (
        set(after["second.onnx"]["seconds"]) == {"02", "03", "04", "05"}
        and after["second.onnx"]["milliseconds"] > 0
    )
    table = [line.split() for line in again.stdout.splitlines() if line.startswith(("1 ", "2 "))]
    assert (
        len(table) == 6 and "ms per image" in again.stdout
    )  # a line while it runs, one of each table, for both
    executed = Path(again.stdout.partition("the notebook ")[2].split("\n")[0].strip())
    assert any(
        "image/png" in str(cell.get("outputs")) for cell in nbformat.read(executed, as_version=4).cells
    )
    assert (data_dir / "proc" / "colours" / "trials.png").exists()
    assert not (
        data_dir / "proc" / "colours" / "classifier.onnx"
    ).exists()  # the data set's own results are not touched

    (colour_folder / "red" / "more.jpg").write_bytes(
        decoding.jpeg(decoding.read(colour_folder / "red" / "00.jpg")[::-1])
    )
    found = sweep.run(
        "colours", str(colour_folder), f"backbone: {tmp_path}/dnn_fixed.onnx; input_size: 32; svm_c: [0.1, 1]"
    )
    assert (
        found[0].fingerprint != after["dnn_fixed.onnx"]["fingerprint"] and not found[0].error
    )  # other images: run again


def kernels_of(data: Path) -> list[int]:
    """Return the processes that work in this data folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"IMGCLF_DATA={data}".encode() in process.read_bytes().split(b"\0"):
                found.append(int(process.parent.name))
        except OSError:  # it ended meanwhile, or is another user's
            continue
    return [pid for pid in found if pid != os.getpid()]


@pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="reads /proc to find processes that are left"
)
def test_a_killed_sweep_leaves_no_process_and_resumes(command, tiny_network, tmp_path, data_dir):
    shutil.copy(tiny_network, tmp_path / "second.onnx")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=tmp_path) as process:
        deadline = time.monotonic() + 200
        while (
            len(records(data_dir)) < 2 and time.monotonic() < deadline
        ):  # the first is done, the second has begun
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    stopped = records(data_dir)
    assert stopped["second.onnx"]["error"] == sweep.UNFINISHED and not stopped["dnn_fixed.onnx"]["error"]
    deadline = time.monotonic() + 60
    while kernels_of(data_dir) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not kernels_of(data_dir)
    again = run(command, tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert (
        records(data_dir)["dnn_fixed.onnx"] == stopped["dnn_fixed.onnx"]
        and not records(data_dir)["second.onnx"]["error"]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("-p", "dataset_name=nothing", "-p", "epochs=1,2"),
            "no images of nothing yet; run 00_get_images first, or set images_dir",
        ),
        (("-p", "epochs=1,x"), "epochs='x': must be a whole number"),
        (("-p", "dataset_name=fruit"), "grid: empty"),
        (("-p", "images_dir=/nowhere", "-p", "epochs=1"), "images_dir is given, but dataset_name is still"),
    ],
)
def test_an_invalid_sweep_fails_with_one_sentence(arguments, message, data_dir):
    refused = run([IMGCLF, "sweep", *arguments], Path())
    assert (
        refused.returncode == 1
        and refused.stderr.splitlines()[-1].startswith("imgclf: ")
        and message in refused.stderr
        and "Traceback" not in refused.stderr
    )


def test_equal_values_of_a_parameter_are_one_trial():
    assert trials.combinations(trials.parse_grid("epochs=5,5")) == [{"epochs": 5}]
