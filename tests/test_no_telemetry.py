"""No telemetry: imgclf, its engines and the processes they start send nothing and leave nothing in the home folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import nbformat
import pytest

import imgclf
from imgclf.experiments import notebooks
from imgclf.experiments.execution import execute
from imgclf.experiments.history import runs, tracking

WATCHED = (
    "CI",
    "GITHUB_ACTIONS",
    "TF_BUILD",
    "XDG_",
    "JUPYTER_",
    "IPYTHON",
    "MPL",
    "OPENVINO",
    "ORT_",
    "NNCF",
)  # would send files elsewhere, or switch telemetry off
HARMLESS = {
    ".ipython",
    ".local/share/jupyter",
    ".jupyter",
    ".cache/matplotlib",
    ".config/matplotlib",
    ".cache/fontconfig",
}  # of the notebook itself

# Python's audit events for connections and name lookups.
AUDIT = """
import json, sys
attempts = []

def listen(event, arguments):
    if event in ("socket.connect", "socket.sendto"):
        attempts.append(arguments[1][0] if isinstance(arguments[1], tuple) else "")
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        attempts.append(arguments[0] or "")

sys.addaudithook(listen)
"""
COMPUTE = """
import numpy as np
from pathlib import Path
from imgclf import engines
shapes = []
for name in engines.ENGINES:
    ready = engines.start(Path({network!r}), engine=name, batch_size=2)
    shapes += [features.shape for features, in ready.run([np.zeros((2, 32, 32, 3), np.uint8)])]
assert shapes == [(2, 8), (2, 8)]
"""
WITH_TELEMETRY = 'del sys.modules["openvino_telemetry"]'  # that imgclf keeps from being imported
QUANTIZE = """
import sys, numpy as np
from pathlib import Path
from imgclf.networks import quantization
{before}
pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
assert quantization.quantize(Path({network!r}), pixels, made_from="")
"""
# The same in each Python process that is started: it writes down whom it looks for, and is kept from it.
IN_EACH_PROCESS = """
import os, sys

def listen(event, arguments):
    if event in ("socket.connect", "socket.sendto"):
        host = arguments[1][0] if isinstance(arguments[1], tuple) else ""
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0] or ""
    else:
        return
    if str(host) not in ("", "127.0.0.1", "::1", "localhost", "0.0.0.0"):
        with open(os.environ["CONTACTED"], "a") as file:
            file.write(f"{host}\\n")
        raise OSError("no test may contact it")

sys.addaudithook(listen)
"""
REPORT = """
contacted = sorted({str(a) for a in attempts if str(a) not in ("", "127.0.0.1", "::1", "localhost", "0.0.0.0")})
print(json.dumps(contacted))
"""


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty home folder, in an environment that does not disable telemetry."""
    folder = tmp_path / "home"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith(WATCHED)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    return folder


@pytest.fixture
def contacted(home, tmp_path, monkeypatch) -> Path:
    """A file to which each Python process started from now on appends whom it tried to contact; MLflow does not take it for a test."""
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(IN_EACH_PROCESS)
    path = tmp_path / "contacted"
    path.write_text("")
    monkeypatch.setenv("CONTACTED", str(path))
    paths = [str(tmp_path / "watch"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    for name in ("PYTEST_CURRENT_TEST", "MLFLOW_TRACKING_URI", *tracking.OFF):
        monkeypatch.delenv(name, raising=False)
    return path


def files_in(home: Path) -> set[str]:
    """All files in the home folder."""
    return {path.relative_to(home).as_posix() for path in home.rglob("*") if not path.is_dir()}


def unexpected(home: Path) -> set[str]:
    """The files in the home folder that are not of Jupyter, IPython or matplotlib."""
    return {path for path in files_in(home) if not any(path.startswith(folder + "/") for folder in HARMLESS)}


def imgclf_modules() -> list[str]:
    """All modules of the package but those that run on import, or need Python 3.6."""
    folder = Path(imgclf.__file__).parent
    names = [
        ".".join(["imgclf", *path.relative_to(folder).with_suffix("").parts]) for path in folder.rglob("*.py")
    ]
    return sorted(
        name for name in names if not name.endswith(("__init__", "__main__")) and ".worker." not in name
    )


def python(code: str) -> str:
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_audit_records_a_connection():
    output = python(
        AUDIT
        + "import socket\ntry:\n    socket.create_connection(('192.0.2.1', 80), 0.01)\nexcept OSError:\n    pass\n"
        + REPORT
    )
    assert json.loads(output) == ["192.0.2.1"]  # an IP address that is reserved for documentation


def test_engines_send_nothing_and_write_nothing_into_the_home_folder(home, tiny_network):
    assert json.loads(python(AUDIT + COMPUTE.format(network=str(tiny_network)) + REPORT)) == []
    assert files_in(home) == set()


@pytest.mark.slow
def test_nncf_alone_would_send_what_quantization_does_not(contacted, home, tiny_network):
    python(QUANTIZE.format(network=str(tiny_network), before=""))
    assert (contacted.read_text(), files_in(home)) == ("", set())
    python(QUANTIZE.format(network=str(tiny_network), before=WITH_TELEMETRY))
    assert "google-analytics" in contacted.read_text()


@pytest.mark.slow
def test_imports_send_nothing_and_write_nothing_into_the_home_folder(home):
    code = f"import {', '.join(imgclf_modules())}\n"
    assert json.loads(python(AUDIT + code + REPORT)) == []
    assert unexpected(home) == set()


def hand_in_a_run(monkeypatch) -> None:
    monkeypatch.delenv(
        "PYTEST_CURRENT_TEST", raising=False
    )  # which pytest sets again, and for which MLflow is silent
    monkeypatch.setattr(tracking, "is_installed", lambda: True)
    runs.finish(runs.start(runs.BY_RUN, "fruit", {}), metrics={"overall accuracy": 0.5})
    assert tracking.hand_in_all() == ""


@pytest.mark.slow
def test_mlflow_alone_would_send_what_handing_in_does_not(contacted, home, monkeypatch):
    hand_in_a_run(monkeypatch)
    assert (contacted.read_text(), files_in(home)) == ("", set())
    monkeypatch.setattr(tracking, "OFF", {})
    hand_in_a_run(monkeypatch)
    assert "mlflow" in contacted.read_text()


@pytest.mark.service
@pytest.mark.slow
def test_the_page_of_the_history_sends_nothing_and_writes_nothing_into_the_home_folder(
    contacted, home, monkeypatch
):
    hand_in_a_run(monkeypatch)
    with tracking.page() as url:
        path = url.partition("#")[0]
        httpx.get(path).raise_for_status()
        httpx.get(f"{path}ajax-api/2.0/mlflow/experiments/search?max_results=5").raise_for_status()
        told = httpx.get(f"{path}ajax-api/3.0/mlflow/ui-telemetry").json()
    assert told["disable_ui_telemetry"] is True
    assert (contacted.read_text(), files_in(home)) == ("", set())


@pytest.mark.notebooks
def test_a_kernel_of_a_run_sends_nothing_and_writes_only_files_of_jupyter(home, tmp_path, tiny_network):
    cells = [
        nbformat.v4.new_code_cell(source)
        for source in (
            AUDIT,
            "import imgclf.engines.openvino\n" + COMPUTE.format(network=str(tiny_network)),
            REPORT,
        )
    ]
    cells.insert(
        0, nbformat.v4.new_code_cell(notebooks.cell_source("00"), metadata={"tags": [notebooks.TAG]})
    )
    path = tmp_path / "00_engines.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    folder = tmp_path / "executed"
    folder.mkdir()
    execute(path, folder, {})
    executed = nbformat.read(folder / path.name, as_version=4)
    assert json.loads(executed.cells[-1].outputs[0].text) == []
    assert unexpected(home) == set()
    assert not [
        path
        for path in home.rglob("*")
        if any(name in path.name.lower() for name in ("intel", "openvino", "onnx", "microsoft"))
    ]
