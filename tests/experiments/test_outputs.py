"""The outputs that the kernel collects are those that a saved notebook has; in a real kernel."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient

from imgclf.experiments import outputs

SHOW = """
from IPython.display import HTML, clear_output, display
import ipywidgets, matplotlib.pyplot as plt, pandas as pd, sys, time
from imgclf.experiments import outputs
from imgclf.widgets.progress import progress"""
CELLS = (
    'dataset_name: str = "fruit"  # name',
    f"{SHOW}\noutputs.watch()\nprint('after the beginning')",
    "print('one')\ndisplay(HTML('<b>two</b>'))\nprint('three')\nprint('four', file=sys.stderr)\n5",
    "plt.plot([1, 2])\nplt.show()",
    "pd.DataFrame({'label': ['<script>']})",
    "with progress('images', 2) as show:\n    show(1)\nprint('done')",
    "print('replaced')\nclear_output(wait=True)\nprint('kept')",
    "print('replaced at once')\nclear_output()",
    "later = display('before', display_id=True)",
    "later.update('after')",
    "display(ipywidgets.IntSlider())\nprint('no widget')",
    "for k in range(3):\n    print(k, flush=True)\n    time.sleep(0.3)",
    "None",
)
COLLECT = "import nbformat\nfrom pathlib import Path\nprint('of the cell itself')\nnbformat.write(outputs.notebook(Path({0!r})), {1!r})"


def joined(received: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Outputs without widgets, and with texts of one stream joined that follow one another."""
    without: list[nbformat.NotebookNode] = []
    for output in received:
        if without and without[-1].output_type == "stream" and without[-1].name == output.get("name"):
            without[-1].text += output.text
        elif outputs.WIDGET not in output.get("data", {}):
            without.append(output)
    return without


def cells_of(sources: tuple[str, ...]) -> list[nbformat.NotebookNode]:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    cells[0].metadata.tags = ["parameters"]
    return [nbformat.v4.new_markdown_cell("# Title"), *cells]


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[nbformat.NotebookNode, nbformat.NotebookNode]:
    """The notebook with the outputs that its client received, and with those that its kernel collected."""
    folder = tmp_path_factory.mktemp("outputs")
    path, collected = folder / "05_evaluate.ipynb", folder / "collected.ipynb"
    notebook = nbformat.v4.new_notebook(cells=cells_of((*CELLS, COLLECT.format(str(path), str(collected)))))
    nbformat.write(notebook, path)
    NotebookClient(notebook, kernel_name="python3", extra_arguments=["--log-level=CRITICAL"]).execute()
    return notebook, nbformat.read(collected, as_version=4)


def test_the_outputs_are_those_of_the_saved_notebook(executed):
    received, collected = (notebook.cells[3:] for notebook in executed)  # without what ran before `watch`
    for theirs, ours in zip(received, collected, strict=True):
        assert ours.outputs == joined(theirs.outputs)
        assert ours.execution_count == theirs.execution_count
    assert {kind for cell in collected for output in cell.outputs for kind in output.get("data", {})} == {
        "text/plain",
        "text/html",
        "image/png",
    }


def test_the_cell_that_begins_has_what_it_prints_after_that(executed):
    assert executed[1].cells[2].outputs[0].text == "after the beginning\n"


def test_the_cell_that_collects_has_what_it_printed_so_far(executed):
    assert executed[1].cells[-1].outputs[0].text == "of the cell itself\n"


def test_a_finished_progress_bar_leaves_an_empty_output(executed):
    bar, printed = executed[1].cells[6].outputs
    assert bar.data == {"text/plain": "", "text/html": ""} and printed.text == "done\n"


def test_the_notebook_says_when_and_with_what_it_ran(executed):
    assert executed[1].metadata[outputs.METADATA].keys() == {"version", "ended"}


class Kernel:
    """A kernel to which a test sends cells as JupyterLab does: with their ids."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def run(self, source: str, cell_id: str, **settings: bool) -> str:
        """Run a cell that must succeed, and return the id of the request."""
        content = {
            "code": source,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": True,
            **settings,
        }
        message = self.client.session.msg("execute_request", content, metadata={"cellId": cell_id})
        self.client.shell_channel.send(message)
        reply = self.client._recv_reply(message["header"]["msg_id"], timeout=60)
        assert reply["content"]["status"] == "ok", reply["content"]
        return message["header"]["msg_id"]

    def received(self, source: str) -> list[str]:
        """Run a cell, and return the kinds of the outputs that JupyterLab receives."""
        request = self.run(source, "c")
        kinds: list[str] = []
        while "idle" not in kinds:
            message = self.client.get_iopub_msg(timeout=60)
            if message["parent_header"].get("msg_id") == request:  # those of earlier cells may come late
                kinds.append(message["content"].get("execution_state", message["msg_type"]))
        return [kind for kind in kinds if kind not in ("busy", "idle", "execute_input")]

    def notebook(self, path: Path) -> list[nbformat.NotebookNode]:
        """Return the code cells that `outputs.notebook` gives."""
        collected = path.with_name("collected.ipynb")
        self.run(COLLECT.format(str(path), str(collected)), "last")
        return nbformat.read(collected, as_version=4).cells[1:]


@pytest.fixture(scope="module")
def kernel():
    manager, client = start_new_kernel(extra_arguments=["--log-level=CRITICAL"])
    yield Kernel(client)
    client.stop_channels()
    manager.shutdown_kernel(now=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A saved notebook."""
    notebook = nbformat.v4.new_notebook(
        cells=cells_of(('dataset_name: str = "fruit"', "print(1)", "print(2)"))
    )
    for cell, cell_id in zip(notebook.cells[1:], "abc", strict=True):
        cell.id = cell_id
    nbformat.write(notebook, tmp_path / "05_evaluate.ipynb")
    return tmp_path / "05_evaluate.ipynb"


def texts(cells: list[nbformat.NotebookNode]) -> list[str]:
    return ["".join(output.text for output in cell.outputs) for cell in cells]


class TestInJupyterLab:
    def test_the_last_execution_of_a_cell_counts_and_one_that_did_not_run_has_no_output(self, kernel, path):
        kernel.run(f"{SHOW}\noutputs.watch()", "begin")
        kernel.run("print(1)", "b")
        kernel.run("print(1)", "b")
        cells = kernel.notebook(path)
        assert texts(cells) == ["", "1\n", ""]
        assert [cell.execution_count is None for cell in cells] == [True, False, True]

    def test_an_edited_cell_has_the_code_and_the_output_that_it_had_when_it_ran(self, kernel, path):
        kernel.run(f"{SHOW}\noutputs.watch()", "begin")
        kernel.run("print('edited')", "c")
        cells = kernel.notebook(path)
        assert texts(cells)[2] == "edited\n" and cells[2].source == "print('edited')"

    def test_the_parameters_cell_has_the_values_that_the_notebook_ran_with(self, kernel, path):
        kernel.run("dataset_name = 'vegetables'", "a")
        kernel.run(f"{SHOW}\noutputs.watch()", "begin")
        assert kernel.notebook(path)[0].source.startswith('dataset_name: str = "vegetables"  #')

    def test_watching_again_forgets_the_outputs_before(self, kernel, path):
        kernel.run(f"{SHOW}\noutputs.watch()", "begin")
        kernel.run("print(1)", "b")
        kernel.run("outputs.watch()\nprint('again')", "begin")
        kernel.run("print(2)", "c")
        assert texts(kernel.notebook(path)) == ["", "", "2\n"]

    def test_what_an_extension_runs_out_of_sight_is_left_out(self, kernel, path):
        kernel.run(f"{SHOW}\noutputs.watch()", "begin")
        kernel.run("print(1)", "b")
        kernel.run("print('of a variable inspector')", "b", store_history=False)
        assert texts(kernel.notebook(path)) == ["", "1\n", ""]

    def test_seconds_are_those_of_the_cells(self, kernel, path):
        kernel.run(f"{SHOW}\noutputs.watch()", "begin")
        kernel.run("time.sleep(0.5)", "b")
        kernel.run("assert 0.5 <= outputs.seconds() < 5, outputs.seconds()", "c")

    def test_a_fault_while_collecting_does_not_reach_the_notebook(self, kernel, path):
        kernel.run(f"{SHOW}\noutputs.watch()", "begin")
        kernel.run("store = outputs._Collector._store\noutputs._Collector._store = None", "b")
        assert kernel.received("print(1)\ndisplay(2)\n3") == ["stream", "display_data", "execute_result"]
        kernel.run("outputs._Collector._store = store", "b")


def test_outside_a_kernel_nothing_is_collected(path):
    outputs.watch()
    assert outputs.seconds() == 0
    assert [cell.outputs for cell in outputs.notebook(path).cells[1:]] == [[], [], []]
