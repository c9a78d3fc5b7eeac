"""A service that ends with the process that started it, also where that was killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import nbformat
import papermill
import pytest
from papermill.exceptions import PapermillExecutionError

from imgclf import ImgclfError
from imgclf.experiments import notebooks
from imgclf.images import decoding
from imgclf.service import background
from imgclf.service.client import Client
from support.classifiers import trained
from support.pictures import COLOURS, picture

STARTER = """
import sys, time
from pathlib import Path
from imgclf.service import background
service = background.start(Path(sys.argv[1]))
print(service.url, flush=True)
time.sleep(600)
"""


@pytest.fixture
def model(tiny_network, colour_folder) -> Path:
    return trained(tiny_network, colour_folder)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").is_success
    except httpx.TransportError:
        return False


def serving(path: Path) -> list[int]:
    """Processes whose command names a file below `path` (Linux)."""
    commands = {entry: (entry / "cmdline") for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    return [
        int(entry.name)
        for entry, command in commands.items()
        if command.exists() and str(path).encode() in command.read_bytes()
    ]


def wait_until(condition) -> bool:
    deadline = time.monotonic() + 20
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return met


def test_it_responds_until_it_is_stopped(model):
    blouse = decoding.jpeg(picture(COLOURS["red"], seed=9))
    with background.start(model) as service, Client(service.url) as client:
        (answer,) = client.label([blouse])
        assert answer.label == "red" and str(service) == "a service on this machine, running"
    assert not answers(service.url) and str(service) == "a service on this machine, ended"
    service.stop()  # a second time does nothing


def test_it_rejects_labels_below_the_given_probability(model):
    with background.start(model, reject_below=1) as service, Client(service.url) as client:
        (answer,) = client.label([decoding.jpeg(picture(COLOURS["red"], seed=9))])
    assert answer.label is None and answer.probability < 1


def test_it_ends_when_its_parent_is_killed(model):
    starter = subprocess.Popen([sys.executable, "-c", STARTER, model], stdout=subprocess.PIPE, text=True)
    with starter, starter.stdout:
        url = starter.stdout.readline().strip()
        assert answers(url)
        starter.send_signal(signal.SIGKILL)
    assert wait_until(lambda: not answers(url))


def test_a_file_that_is_no_classifier_raises(tmp_path):
    with pytest.raises(ImgclfError, match=r"classifier\.onnx: no classifier there; run 04_train_svm first"):
        background.start(tmp_path / "classifier.onnx")


@pytest.mark.notebooks
def test_a_notebook_leaves_no_process_after_a_failing_cell(model, tmp_path, data_dir):
    """The notebook's own first cells, then one that fails: as when a person's images are bad."""
    proc = data_dir / "proc" / "colours"
    proc.mkdir(parents=True)
    os.replace(model, proc / "classifier.onnx")
    cells = [
        nbformat.v4.new_code_cell(source)
        for source in (
            "from imgclf import files\nfrom imgclf.service import background",
            "service = background.start(files.proc_dir('colours') / 'classifier.onnx')\nprint(service.url)",
            "raise ValueError('a cell that fails')",
        )
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "06.ipynb")
    with pytest.raises(PapermillExecutionError, match="a cell that fails"):
        papermill.execute_notebook(
            tmp_path / "06.ipynb",
            tmp_path / "out.ipynb",
            kernel_name="python3",
            progress_bar=False,
            extra_arguments=["--log-level=CRITICAL"],
        )
    assert "http://127.0.0.1:" in (tmp_path / "out.ipynb").read_text()
    assert wait_until(lambda: not serving(proc))


def test_every_notebook_that_serves_stops_in_its_own_cells():
    texts = {
        path.name: "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
        for path in notebooks.paths()
    }
    serving_ones = {name for name, text in texts.items() if "background.start(" in text}
    assert serving_ones == {"06_deploy.ipynb"} and all(
        "service.stop()" in texts[name] for name in serving_ones
    )
