"""A JupyterLab of one's own, and a notebook that is open in it in Chromium."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import nbformat

from imgclf import parameters
from imgclf.experiments import notebooks

if TYPE_CHECKING:
    from playwright.sync_api import Locator, LocatorAssertions, Page

START_SECONDS = 60
OPEN_SECONDS = 60
RUN_SECONDS = 120  # the longest that the cells of one notebook may take
EXPECT_SECONDS = 15
DATASET = "colours"

# Lab's own defaults, but: no questions to its makers, and every cell is in the page, also one out of view.
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
}
OPTIONS = (
    "--no-browser",
    "--allow-root",
    "--ServerApp.ip=127.0.0.1",
    "--ServerApp.port=0",  # 0: a port that is free
    "--LabApp.expose_app_in_browser=True",
    "--LabApp.extension_manager=readonly",
    # If the tests were killed, nobody else would end the server and its kernels.
    "--MappingKernelManager.cull_idle_timeout=300",
    "--ServerApp.shutdown_no_activity_timeout=300",
)

# What the open notebook is and does, asked of JupyterLab itself.
IS_IDLE = """name => {
    const widget = window.jupyterapp?.shell.currentWidget;
    return widget?.context?.path === name && widget.sessionContext.session?.kernel?.status === 'idle';
}"""
RUN_ALL = """seconds => Promise.race([
    jupyterapp.commands.execute('notebook:run-all-cells'),
    new Promise((_, refuse) => setTimeout(() => refuse(new Error(`the cells are not done after ${seconds} s`)), 1000 * seconds))])"""
OUTPUTS = """() => [...jupyterapp.shell.currentWidget.content.model.cells].flatMap(
    (cell, index) => cell.type === 'code' ? cell.outputs.toJSON().map(output => ({cell: index, ...output})) : [])"""


@dataclass(frozen=True)
class Server:
    """A running JupyterLab.

    Attributes
    ----------
    url : with a slash at its end. token : what a request must show.
    folder : holds `notebooks`, and `data`, which is $IMGCLF_DATA of its kernels.
    """

    url: str
    token: str
    folder: Path

    @property
    def notebooks(self) -> Path:
        return self.folder / "notebooks"

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    def begin_test(self, data: Path) -> None:
        """Give the kernels a fresh copy of `data`, the reader the committed notebooks and the default settings."""
        for path in (self.data_dir, self.notebooks, self.folder / "settings"):
            shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(data, self.data_dir)
        shutil.copytree(notebooks.NOTEBOOKS, self.notebooks)

    def shut_down_kernels(self) -> None:
        """End all kernels; their memory is free when this returns."""
        with httpx.Client(
            base_url=self.url, headers={"Authorization": f"token {self.token}"}, trust_env=False, timeout=30
        ) as client:
            for kernel in client.get("api/kernels").raise_for_status().json():
                client.delete(f"api/kernels/{kernel['id']}").raise_for_status()


@contextmanager
def running_server(folder: Path) -> Iterator[Server]:
    """A JupyterLab that keeps all its files below `folder`, and nothing of the user's settings.

    Raises
    ------
    RuntimeError : it did not start; with all that it wrote.
    """
    (folder / "notebooks").mkdir(parents=True)
    (folder / "lab").mkdir()
    (folder / "lab" / "overrides.json").write_text(json.dumps(SETTINGS))
    with (folder / "jupyterlab.log").open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "jupyterlab",
                *OPTIONS,
                f"--ServerApp.root_dir={folder / 'notebooks'}",
                f"--LabApp.app_settings_dir={folder / 'lab'}",
            ],
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield _wait_for_start(process, folder)
    finally:
        _end(process)


def _environment(folder: Path) -> dict[str, str]:
    own = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "share",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "IPYTHONDIR": "ipython",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IMGCLF_DATA": "data",
    }
    return {**os.environ, **{name: str(folder / path) for name, path in own.items()}}


def _wait_for_start(process: subprocess.Popen, folder: Path) -> Server:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        for path in (folder / "runtime").glob("jpserver-*.json"):
            if text := path.read_text():  # the file is empty for a moment
                told = json.loads(text)
                return Server(url=told["url"], token=told["token"], folder=folder)
        time.sleep(0.05)
    raise RuntimeError(
        f"JupyterLab ended at its start, or did not start in {START_SECONDS} s; it wrote:\n{(folder / 'jupyterlab.log').read_text()}"
    )


def _end(process: subprocess.Popen) -> None:
    """End the server, which ends its kernels; by force if it does not obey."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Lab:
    """A page of Chromium with one notebook in JupyterLab.

    For what there is no method for, take `page`, which is playwright's: `lab.page.get_by_role("button", name="Undo").click()`.
    Ask by role, or by a CSS class of the widget: a text is found in the source of the cells, too.

    Attributes
    ----------
    javascript_errors : what the page has told of in its console as an error, or did not catch.
    """

    def __init__(self, page: "Page", server: Server):
        self.page = page
        self.javascript_errors: list[str] = []
        self._server = server
        page.on(
            "console",
            lambda message: self.javascript_errors.append(message.text) if message.type == "error" else None,
        )
        page.on("pageerror", lambda error: self.javascript_errors.append(str(error)))

    def open(self, name: str, **values: parameters.Value) -> None:
        """Open a notebook, such as "05_evaluate", without its stored outputs, and wait until its kernel is ready.

        Parameters
        ----------
        values : of the notebook's parameters. dataset_name is "colours" if it isn't given; the others have their defaults.
        """
        _write_parameters(self._server.notebooks / f"{name}.ipynb", {"dataset_name": DATASET, **values})
        self.page.goto(f"{self._server.url}lab/tree/{name}.ipynb?token={self._server.token}&reset")
        self.page.wait_for_function(IS_IDLE, arg=f"{name}.ipynb", timeout=1000 * OPEN_SECONDS)

    def run_all(self, *, seconds: int = RUN_SECONDS) -> None:
        """Run all cells and wait until the last is done, so many seconds at most. A widget is drawn a little later: `expect` it."""
        self.page.evaluate(RUN_ALL, seconds)

    def expect(self, what: "str | Locator") -> "LocatorAssertions":
        """What the page soon holds, by CSS or a locator: `lab.expect(".bqplot svg").to_have_count(2)`; waits up to 15 s.

        Test files need no playwright for this, so that they can be skipped where it is missing.
        """
        from playwright.sync_api import expect

        expect.set_options(timeout=1000 * EXPECT_SECONDS)
        return expect(self.page.locator(what) if isinstance(what, str) else what)

    def outputs(self) -> list[dict[str, Any]]:
        """All outputs as they would stand in the file, each with the number of its `cell`, counted from 0."""
        return self.page.evaluate(OUTPUTS)

    def errors(self) -> list[str]:
        """One line for each cell that failed: its number, the error's name and text."""
        return [
            f"cell {output['cell']}: {output['ename']}: {output['evalue']}"
            for output in self.outputs()
            if output["output_type"] == "error"
        ]

    def stderr(self) -> str:
        """All that the cells wrote to stderr."""
        return "".join(output["text"] for output in self.outputs() if output.get("name") == "stderr")

    def theme(self, name: str) -> None:
        """Change JupyterLab's theme, to "light" or "dark", and wait until it is there."""
        theme = f"JupyterLab {name.title()}"
        self.page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', {theme})", theme)
        self.expect("body").to_have_attribute("data-jp-theme-name", theme)
        self.expect("#jupyterlab-splash").to_have_count(0)  # it covers the page for a moment

    def viewport(self, width: int, height: int) -> None:
        """Resize the page, pixels."""
        self.page.set_viewport_size({"width": width, "height": height})

    def hide_sidebar(self) -> None:
        """Leave the page to the notebook: no file browser."""
        self.page.evaluate("() => jupyterapp.shell.collapseLeft()")

    def screenshot(self, path: Path) -> None:
        """Save what can be seen of the page as a PNG."""
        self.page.screenshot(path=path)


def _write_parameters(path: Path, values: Mapping[str, parameters.Value]) -> None:
    number = path.name[:2]
    strangers = set(values) - {parameter.name for parameter in parameters.for_notebook(number)}
    assert not strangers, f"{path.stem} takes no parameter {', '.join(sorted(strangers))}"
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None  # else a test would see what was committed
        if notebooks.TAG in cell.metadata.get("tags", []):
            cell.source = notebooks.cell_source(number, values)
    nbformat.write(notebook, path)
