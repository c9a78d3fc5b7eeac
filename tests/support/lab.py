"""A JupyterLab server for tests, and a page of Chromium with a notebook."""

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
RUN_SECONDS = 120  # timeout of all cells of a notebook
EXPECT_SECONDS = 15
DATASET = "colours"

# JupyterLab's defaults, but without requests to its makers, and with cells out of view in the page, too.
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
}
OPTIONS = (
    "--no-browser",
    "--allow-root",
    "--ServerApp.ip=127.0.0.1",
    "--ServerApp.port=0",  # 0: any free port
    "--LabApp.expose_app_in_browser=True",
    "--LabApp.extension_manager=readonly",
    # If the tests are killed, these timeouts end the server and its kernels.
    "--MappingKernelManager.cull_idle_timeout=300",
    "--ServerApp.shutdown_no_activity_timeout=300",
)

# State of the open notebook, from JupyterLab itself.
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
    url : with a trailing slash.
    token : that requests must send.
    folder : with `notebooks`, and `data`, which is $IMGCLF_DATA of the kernels.
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
        """Restore the committed notebooks and the default settings, and replace the data folder by a copy of `data`."""
        for path in (self.data_dir, self.notebooks, self.folder / "settings"):
            shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(data, self.data_dir)
        shutil.copytree(notebooks.NOTEBOOKS, self.notebooks)

    def shut_down_kernels(self) -> None:
        """Shut down all kernels. Their memory is free when this returns."""
        with httpx.Client(
            base_url=self.url, headers={"Authorization": f"token {self.token}"}, trust_env=False, timeout=30
        ) as client:
            for kernel in client.get("api/kernels").raise_for_status().json():
                client.delete(f"api/kernels/{kernel['id']}").raise_for_status()


@contextmanager
def running_server(folder: Path) -> Iterator[Server]:
    """Run a JupyterLab server with all its files below `folder`, without the user's settings.

    Raises
    ------
    RuntimeError : it did not start; the message has its log.
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
            if text := path.read_text():  # the file is empty at first
                info = json.loads(text)
                return Server(url=info["url"], token=info["token"], folder=folder)
        time.sleep(0.05)
    raise RuntimeError(
        f"JupyterLab exited, or did not start in {START_SECONDS} s; its log:\n{(folder / 'jupyterlab.log').read_text()}"
    )


def _end(process: subprocess.Popen) -> None:
    """Terminate the server, which shuts down its kernels; kill it after a timeout."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Lab:
    """A page of Chromium with one notebook in JupyterLab.

    If there is no method, use playwright's `page`: `lab.page.get_by_role("button", name="Undo").click()`.
    Locate by role or by a CSS class of the widget, since texts also occur in the source of the cells.

    Attributes
    ----------
    javascript_errors : errors in the console of the page, and uncaught exceptions.
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
        """Open a notebook, such as "05_evaluate", without its stored outputs, and wait for its kernel.

        Parameters
        ----------
        values : of the notebook's parameters. The default of dataset_name is "colours".
        """
        _write_parameters(self._server.notebooks / f"{name}.ipynb", {"dataset_name": DATASET, **values})
        self._go_to(name)

    def open_cells(self, name: str, *sources: str) -> None:
        """Open a new notebook with code cells, and wait for its kernel."""
        cells = [nbformat.v4.new_code_cell(source) for source in sources]
        metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        new = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
        nbformat.write(new, self._server.notebooks / f"{name}.ipynb")
        self._go_to(name)

    def _go_to(self, name: str) -> None:
        self.page.goto(f"{self._server.url}lab/tree/{name}.ipynb?token={self._server.token}&reset")
        self.page.wait_for_function(IS_IDLE, arg=f"{name}.ipynb", timeout=1000 * OPEN_SECONDS)

    def run_all(self, *, seconds: int = RUN_SECONDS) -> None:
        """Run all cells, and wait at most `seconds` until they are done. Widgets are drawn later: `expect` them."""
        self.page.evaluate(RUN_ALL, seconds)

    def expect(self, what: "str | Locator") -> "LocatorAssertions":
        """Return an assertion that waits up to 15 s, by CSS or locator: `lab.expect(".bqplot svg").to_have_count(2)`.

        With this method test files need not import playwright, so they can be skipped without it.
        """
        from playwright.sync_api import expect

        expect.set_options(timeout=1000 * EXPECT_SECONDS)
        return expect(self.page.locator(what) if isinstance(what, str) else what)

    def outputs(self) -> list[dict[str, Any]]:
        """Return all outputs in the format of the file, each with the index of its `cell`."""
        return self.page.evaluate(OUTPUTS)

    def errors(self) -> list[str]:
        """Return one line per failed cell: its index, and the name and text of the error."""
        return [
            f"cell {output['cell']}: {output['ename']}: {output['evalue']}"
            for output in self.outputs()
            if output["output_type"] == "error"
        ]

    def stderr(self) -> str:
        """Return the stderr of all cells."""
        return "".join(output["text"] for output in self.outputs() if output.get("name") == "stderr")

    def theme(self, name: str) -> None:
        """Set JupyterLab's theme, "light" or "dark", and wait until it is applied."""
        theme = f"JupyterLab {name.title()}"
        self.page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', {theme})", theme)
        self.expect("body").to_have_attribute("data-jp-theme-name", theme)
        self.expect("#jupyterlab-splash").to_have_count(0)  # it covers the page for a moment

    def viewport(self, width: int, height: int) -> None:
        """Set the size of the page, pixels."""
        self.page.set_viewport_size({"width": width, "height": height})

    def hide_sidebar(self) -> None:
        """Hide the file browser."""
        self.page.evaluate("() => jupyterapp.shell.collapseLeft()")

    def screenshot(self, path: Path) -> None:
        """Save the visible part of the page as a PNG."""
        self.page.screenshot(path=path)


def _write_parameters(path: Path, values: Mapping[str, parameters.Value]) -> None:
    number = path.name[:2]
    unknown = set(values) - {parameter.name for parameter in parameters.for_notebook(number)}
    assert not unknown, f"{path.stem} has no parameter {', '.join(sorted(unknown))}"
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None  # tests must not see the committed outputs
        if notebooks.TAG in cell.metadata.get("tags", []):
            cell.source = notebooks.cell_source(number, values)
    nbformat.write(notebook, path)
