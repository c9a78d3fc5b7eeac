"""One notebook through papermill: its kernel, its progress, and how it ends, wherever its files are."""

import ast
import errno
import os
import pwd
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from imgclf import ImgclfError
from imgclf.experiments import execution, notebooks
from imgclf.experiments.execution import execute
from imgclf.experiments.kernels import Kernels

pytestmark = pytest.mark.notebooks
on_linux = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="kernels are forked on Linux only")
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


NAMES = "import os, sys; print(os.getpid(), 'sklearn' in sys.modules, dir())"


@pytest.fixture
def two(tmp_path) -> list[Path]:
    """Two notebooks; the second one prints its process, whether libraries are loaded, and its names."""
    (tmp_path / "out").mkdir()
    return [
        notebook(tmp_path / "01_x.ipynb", "1"),
        notebook(tmp_path / "02_x.ipynb", NAMES),
    ]


def forked() -> list[psutil.Process]:
    """The process that forks kernels, and those that it forked."""
    found = psutil.Process().children(recursive=True)
    return [each for each in found if "imgclf.experiments.kernel_server" in each.cmdline()]


def waited_for_end(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, GIVE_UP_SECONDS)[1]


@on_linux
def test_kernels_are_forked_with_their_libraries_loaded(two, tmp_path):
    with Kernels() as kernels:
        (server,) = forked()
        for path in two:
            execute(path, tmp_path / "out", {}, kernels=kernels)
        assert forked() == [server]
    process, is_loaded, *_ = printed(tmp_path / "out" / "02_x.ipynb").split()
    assert int(process) != server.pid and is_loaded == "True" and forked() == []


@on_linux
def test_a_kernel_starts_by_itself_if_what_forks_them_was_killed(two, tmp_path):
    with Kernels() as kernels:
        execute(two[0], tmp_path / "out", {}, kernels=kernels)
        (server,) = forked()
        server.kill()
        server.wait()
        execute(two[1], tmp_path / "out", {}, kernels=kernels)
    assert printed(tmp_path / "out" / "02_x.ipynb").split()[1] == "False"


@on_linux
def test_no_kernel_is_forked_where_the_system_gives_no_handles_of_processes(two, tmp_path, monkeypatch):
    def refused(pid):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "pidfd_open", refused)
    with Kernels() as kernels:
        assert forked() == []
        execute(two[1], tmp_path / "out", {}, kernels=kernels)
    assert printed(tmp_path / "out" / "02_x.ipynb").split()[1] == "False"


@on_linux
def test_a_forked_kernel_that_is_killed_is_one_sentence(tmp_path):
    path = notebook(tmp_path / "01_x.ipynb", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    (tmp_path / "out").mkdir()
    with Kernels() as kernels, pytest.raises(ImgclfError, match="its kernel process was killed"):
        execute(path, tmp_path / "out", {}, kernels=kernels)
    assert forked() == []


@on_linux
def test_a_forked_kernel_and_what_it_started_end_with_a_failed_cell(tmp_path):
    seconds = f"1000.{os.getpid()}"  # that no other process sleeps
    cell = f"import subprocess; subprocess.Popen(['sleep', '{seconds}']); raise KeyError(1)"
    (tmp_path / "out").mkdir()
    before = set(psutil.Process().children())
    with Kernels() as kernels, pytest.raises(ImgclfError, match="KeyError"):
        execute(notebook(tmp_path / "01_x.ipynb", cell), tmp_path / "out", {}, kernels=kernels)
    sleeping = [
        each for each in psutil.process_iter(["cmdline"]) if each.info["cmdline"] == ["sleep", seconds]
    ]
    assert waited_for_end(sleeping) and set(psutil.Process().children()) <= before


@on_linux
def test_kernels_end_when_the_process_that_runs_them_is_killed(tmp_path):
    path = notebook(tmp_path / "01_x.ipynb", "print('started', flush=True)", "import time; time.sleep(1000)")
    (tmp_path / "out").mkdir()
    code = (
        "import sys; from pathlib import Path; from imgclf.experiments.execution import *\n"
        "with Kernels() as kernels:\n"
        f"    execute(Path({str(path)!r}), Path({str(tmp_path / 'out')!r}), {{}}, output=sys.stdout, kernels=kernels)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as running:
        while "started" not in running.stdout.readline():
            assert running.poll() is None
        processes = psutil.Process(running.pid).children(recursive=True)
        assert len(processes) == 2
        running.kill()
    assert waited_for_end(processes)


@on_linux
def test_a_forked_kernel_has_the_names_and_the_environment_of_any_kernel(two, tmp_path, monkeypatch):
    alone = tmp_path / "alone"
    alone.mkdir()
    two[0] = notebook(tmp_path / "01_x.ipynb", "import os; print(sorted(os.environ.items()))")
    for path in two:
        execute(path, alone, {})
    with Kernels() as kernels:
        monkeypatch.setenv("SET_AFTER_THE_START", "yes")
        for path in two:
            execute(path, tmp_path / "out", {}, kernels=kernels)
    names = [printed(folder / "02_x.ipynb").partition("[")[2] for folder in (alone, tmp_path / "out")]
    assert names[0] == names[1]
    seen = [dict(ast.literal_eval(printed(folder / "01_x.ipynb"))) for folder in (alone, tmp_path / "out")]
    assert seen[1].pop("SET_AFTER_THE_START") == "yes"
    for each in seen:  # of the process that started the kernel
        each.pop("JPY_PARENT_PID", None)
    assert seen[0] == seen[1]


SETTINGS = """
import matplotlib, pandas, re
print(re.findall(r"currently: .*", pandas.describe_option(_print_desc=False)))
print(sorted(matplotlib.rcParams.items()))
"""


@on_linux
def test_libraries_have_the_settings_of_any_kernel_in_a_forked_one(tmp_path):
    path = notebook(tmp_path / "01_x.ipynb", SETTINGS)
    for name in ("alone", "forked"):
        (tmp_path / name).mkdir()
    execute(path, tmp_path / "alone", {})
    with Kernels() as kernels:
        execute(path, tmp_path / "forked", {}, kernels=kernels)
    alone, forked = (printed(tmp_path / name / path.name).lower() for name in ("alone", "forked"))  # UTF-8
    assert alone == forked


@on_linux
def test_figures_are_shown_and_widgets_have_their_state_in_a_forked_kernel(tmp_path):
    cell = "import matplotlib.pyplot as plt, ipywidgets\nplt.plot([1, 2])\nipywidgets.IntSlider(7)"
    (tmp_path / "out").mkdir()
    with Kernels() as kernels:
        execute(notebook(tmp_path / "01_x.ipynb", cell), tmp_path / "out", {}, kernels=kernels)
    executed = nbformat.read(tmp_path / "out" / "01_x.ipynb", as_version=4)
    shown = [set(output.data) for output in executed.cells[-1].outputs if "data" in output]
    assert any("image/png" in each for each in shown)
    assert any("application/vnd.jupyter.widget-view+json" in each for each in shown)
    states = executed.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"].values()
    assert 7 in [each["state"].get("value") for each in states]


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
    notebook(tmp_path / "notebooks" / "02_refine_dnn.ipynb", "")
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


def test_loading_what_executes_notebooks_compiles_no_grammar_of_urls():
    code = "import sys, imgclf.experiments.execution; print('nbformat' in sys.modules, 'lark' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "True False\n"


def test_unicode_urls_are_checked_all_the_same_after_notebooks_are_executed():
    code = (
        "import imgclf.experiments.execution, jsonschema\n"
        "check = jsonschema.FormatChecker(['iri'])\n"
        "print(check.conforms('http://münchen.de', 'iri'), check.conforms('no url', 'iri'))\n"
        "import rfc3987_syntax\n"
        "print(rfc3987_syntax.is_valid_syntax('iri', 'http://münchen.de'), rfc3987_syntax.__file__ is not None)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "True False\nTrue True\n"
