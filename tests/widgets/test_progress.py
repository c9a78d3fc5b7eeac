"""Progress bars of downloads, in a real kernel."""

import nbformat
import pytest
from nbclient import NotebookClient

CELLS = (
    "from imgclf.widgets.progress import transfer",
    "with transfer() as show:\n    pass",
    "line = transfer()\nshow = line.__enter__()\nshow(12_000_000, 46_830_000)",
    "with transfer() as show:\n    show(12_000_000, 46_830_000)\n    show(46_830_000, 46_830_000)",
)


@pytest.fixture(scope="module")
def outputs() -> list[list]:
    """Return the outputs of each cell."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    NotebookClient(notebook, kernel_name="python3", extra_arguments=["--log-level=ERROR"]).execute()
    return [cell.outputs for cell in notebook.cells]


def test_a_transfer_without_progress_shows_nothing(outputs):
    assert outputs[1] == []


def test_a_transfer_shows_megabytes(outputs):
    assert outputs[2][0]["data"]["text/html"] == "<progress value=12 max=47></progress> 12 of 47 MB"


def test_a_finished_transfer_leaves_an_empty_output(outputs):
    assert [output["data"]["text/html"] for output in outputs[3]] == [""]
