"""One notebook through papermill: its kernel, its progress, and how it ends, wherever its files are."""

import os
import pwd
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from imgclf import ImgclfError
from imgclf.experiments import execution, notebooks
from imgclf.experiments.execution import execute

pytestmark = pytest.mark.notebooks
GIVE_UP_SECONDS = 60  # of a test that would otherwise hang
PROGRESS = """
from imgclf.widgets.progress import progress
with progress("images", 10) as show:
    show(3)
"""


def notebook(path: Path, *cells: str) -> Path:
    """Write a notebook with the parameters cell of 01 and these cells."""
    path.parent.mkdir(parents=True, exist_ok=True)
    first = new_code_cell(notebooks.cell_source("01"), metadata={"tags": ["parameters"]})
    nbformat.write(new_notebook(cells=[first, *map(new_code_cell, cells)]), path)
    return path


def printed(path: Path) -> str:
    """What the last cell of an executed notebook printed."""
    return nbformat.read(path, as_version=4).cells[-1].outputs[0].text


@pytest.mark.parametrize("name", ["a {b} {} {0!r}", "größe 图 %s $HOME #1"])
def test_any_name_of_the_folders_is_taken_literally(tmp_path, name):
    path = notebook(tmp_path / name / "01_x.ipynb", "print(dataset_name)")
    (tmp_path / f"runs {name}").mkdir()
    execute(path, tmp_path / f"runs {name}", {"dataset_name": "{fruit}"})
    assert printed(tmp_path / f"runs {name}" / "01_x.ipynb") == "{fruit}\n"


def test_the_kernel_is_this_interpreter_whatever_jupyter_calls_python3(tmp_path, monkeypatch):
    spec = tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(
        '{"argv": ["/bin/false", "{connection_file}"], "display_name": "x", "language": "python"}'
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    path = notebook(tmp_path / "01_x.ipynb", "import sys; print(sys.executable)")
    (tmp_path / "out").mkdir()
    execute(path, tmp_path / "out", {})
    assert printed(tmp_path / "out" / "01_x.ipynb") == f"{sys.executable}\n"


def test_a_kernel_that_does_not_start_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    (tmp_path / "out").mkdir()
    with pytest.raises(ImgclfError, match=r"01_x\.ipynb: its kernel does not start \(Kernel died"):
        execute(notebook(tmp_path / "01_x.ipynb", "1"), tmp_path / "out", {})


def test_the_text_of_progress_bars_is_passed_on(tmp_path):
    shown: list[str] = []
    (tmp_path / "out").mkdir()
    execute(notebook(tmp_path / "01_x.ipynb", PROGRESS), tmp_path / "out", {}, progress=shown.append)
    assert shown == ["0 of 10 images", "3 of 10 images"]


def test_a_user_without_a_home_folder_runs_notebooks(tmp_path, data_dir, monkeypatch):
    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.delenv("HOME")
    (tmp_path / "out").mkdir()
    execute(notebook(tmp_path / "01_x.ipynb", "import os; print(os.environ['HOME'])"), tmp_path / "out", {})
    assert printed(tmp_path / "out" / "01_x.ipynb") == f"{data_dir}\n"


@pytest.mark.parametrize(
    ("html", "shown"),
    [
        ("<progress value=1 max=2></progress> 1 of 2 <b>images</b> &amp; more", "1 of 2 images & more"),
        ("<table><tr><td>1</td></tr></table>", ""),
        ("", ""),
    ],
)
def test_progress_bar_is_the_text_beside_it(html, shown):
    assert execution.progress_bar({"content": {"data": {"text/html": html}}}) == shown


def test_other_messages_of_a_kernel_show_no_progress():
    for content in ({}, {"text": "<progress>"}, {"data": None}, {"data": {"text/plain": "<progress>"}}):
        assert execution.progress_bar({"content": content}) == ""


RUN = """
import signal, sys
from pathlib import Path
from imgclf.experiments import notebooks
notebooks.NOTEBOOKS = Path(sys.argv.pop(1))
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell has started this in the background
from imgclf.cli import main
main()
"""


def kernels(data: Path) -> list[int]:
    """Processes that have this data folder in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"IMGCLF_DATA={data}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "cell", ["import time; time.sleep(600)", "while True: pass"], ids=["waits", "computes"]
)
def test_a_stopped_run_says_how_to_go_on_and_leaves_no_kernel(tmp_path, data_dir, number, cell):
    begin = f"open({str(tmp_path / 'begun')!r}, 'x').close()"
    notebook(tmp_path / "notebooks" / "01_prepare_data.ipynb", f"{begin}\n{cell}")
    (data_dir / "images" / "two words" / "red").mkdir(parents=True)
    arguments = ["run", "--from", "01", "-p", "dataset_name=two words", "-p", "seed=3"]
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, tmp_path / "notebooks", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + GIVE_UP_SECONDS
    while not (tmp_path / "begun").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=GIVE_UP_SECONDS)
    assert process.returncode == 130, stderr
    assert stderr == (
        "imgclf: stopped in 01_prepare_data; to go on: "
        "imgclf run --from 01 -p 'dataset_name=two words' -p seed=3\n"
    )
    assert stdout.splitlines()[-1] == "01_prepare_data   stopped"
    assert kernels(data_dir) == []
