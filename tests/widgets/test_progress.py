"""Progress bars, in a real kernel."""

import nbformat
import pytest
from nbclient import NotebookClient

from imgclf.widgets.progress import _time_left as time_left

CELLS = (  # some leave their bar open, to see it
    "from imgclf.widgets.progress import transfer",
    "with transfer() as show:\n    pass",
    "line = transfer()\nshow = line.__enter__()\nshow(12_000_000, 46_830_000)",
    "with transfer() as show:\n    show(12_000_000, 46_830_000)\n    show(46_830_000, 46_830_000)",
    "from imgclf.widgets.progress import progress, counted\nbar_4 = progress('<images>', 20)\nshow = bar_4.__enter__()",
    "import time\nbar_5 = progress('images', 10)\nshow = bar_5.__enter__()\ntime.sleep(1.5)\nshow(2)",
    "bar_6 = progress('exporting a network', 0)\nshow = bar_6.__enter__()",
    "bar_7 = counted('notebooks')\nshow = bar_7.__enter__()\nshow(0, 12)\ntime.sleep(0.3)\nshow(4, 8)",
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


def html(output) -> str:
    return output["data"]["text/html"]


def test_a_bar_is_there_before_the_first_item_and_its_name_is_no_html(outputs):
    (bar,) = outputs[4]
    assert html(bar) == "<progress value=0 max=20></progress> 0 of 20 &lt;images&gt;"
    assert bar["data"]["text/plain"] == "0 of 20 <images>"


def test_a_bar_shows_the_time_left(outputs):
    shown, left = html(outputs[5][0]).split(", about ")
    assert shown == "<progress value=2 max=10></progress> 2 of 10 images"
    assert left.endswith(" s left") and 6 <= int(left.split()[0]) <= 30


def test_work_of_unknown_length_has_a_bar_without_a_value(outputs):
    assert html(outputs[6][0]) == "<progress></progress> exporting a network"


def test_the_number_of_all_items_may_change(outputs):
    assert html(outputs[7][0]).startswith("<progress value=4 max=8></progress> 4 of 8 notebooks")


@pytest.mark.parametrize(
    ("seconds", "done", "total", "left"),
    [
        (0.5, 1, 10, ""),
        (5, 0, 10, ""),
        (5, 10, 10, ""),
        (5, 5, 10, ", about 5 s left"),
        (9, 9, 10, ", about 1 s left"),
        (10, 1, 13, ", about 2 min left"),
        (60, 1, 301, ", about 5 h left"),
    ],
)
def test_the_time_left_follows_from_the_items_done(seconds, done, total, left):
    assert time_left(seconds, done, total) == left
