"""The committed notebooks: how they read, and that their stored outputs are compared for real."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from imgclf import ImgclfError
from imgclf.experiments import notebooks, sequence
from imgclf.images import decoding
from support.pictures import picture

NOTEBOOKS = notebooks.paths()
MOST_LINES = 12


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def test_the_sequence_is_complete():
    assert [path.stem for path in NOTEBOOKS] == [
        "00_get_images",
        "01_prepare_data",
        "02_refine_dnn",
        "03_run_dnn",
        "04_train_svm",
        "05_evaluate",
        "06_deploy",
        "07_compare_runs",
        "08_own_images",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestEachNotebook:
    def test_begins_with_title_in_out_takes_and_ends_in_prose(self, path):
        first, *_, last = read(path).cells
        assert first.source.startswith(f"# {path.name[:2]} ") and last.cell_type == "markdown"
        assert all(f"**{word}**" in first.source for word in ("In", "Out", "Takes"))

    def test_cells_are_short_and_define_nothing(self, path):
        for number, cell in enumerate(code_cells(path)[1:]):
            is_imports = number == 0
            assert is_imports or len([line for line in cell.source.split("\n") if line.strip()]) <= MOST_LINES
            kinds = {type(node) for node in ast.walk(ast.parse(cell.source))}
            assert not kinds & {ast.FunctionDef, ast.ClassDef, ast.If, ast.While, ast.Try, ast.Lambda}
            assert not re.search(r"import \*|sys\.path|^[%!]|\bpip\b", cell.source, re.MULTILINE)

    def test_prose_stands_between_code(self, path):
        kinds = "".join(cell.cell_type[0] for cell in read(path).cells)
        assert "cccc" not in kinds and "ccc" not in kinds.replace(
            "mcc", "m", 1
        )  # parameters and imports stand together

    def test_was_run_once_from_top_to_bottom(self, path):
        cells = code_cells(path)
        assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))

    def test_outputs_are_clean(self, path):
        for cell in code_cells(path):
            for output in cell.outputs:
                assert output.output_type != "error" and output.get("name") != "stderr"
                text = (
                    output.get("text", "")
                    + str(output.get("data", {}).get("text/plain", ""))
                    + str(output.get("data", {}).get("text/html", ""))
                )
                assert not re.search(r"/home/|/root/|/tmp/|/Users/|[A-Z]:\\|at 0x[0-9a-f]+", text)

    def test_metadata_is_clean(self, path):
        notebook = read(path)
        assert notebook.metadata.kernelspec.name == "python3" and set(notebook.metadata) == {
            "kernelspec",
            "language_info",
        }
        assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)


def nbval(*paths: Path, data: Path) -> subprocess.CompletedProcess:
    """Run notebooks, and compare what each cell gives with its stored output."""
    options = (
        f"--nbval --nbval-current-env --nbval-cell-timeout=900 --color=no -p no:cacheprovider -c {os.devnull}"
    )
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options.split(), *paths],
        env={**os.environ, "IMGCLF_DATA": str(data)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=paths[0].parent,
    )


@pytest.mark.notebooks
@pytest.mark.slow
def test_every_stored_output_is_what_a_fresh_run_gives(data_dir):
    fresh = nbval(*NOTEBOOKS, data=data_dir)
    assert fresh.returncode == 0, fresh.stdout


@pytest.mark.notebooks
def test_a_changed_number_in_a_stored_output_fails(tmp_path, data_dir):
    notebook, copy = read(NOTEBOOKS[2]), tmp_path / NOTEBOOKS[2].name
    last = next(k for k, cell in enumerate(notebook.cells) if "1280 features" in str(cell.get("outputs")))
    notebook.cells = notebook.cells[: last + 1]  # those below take long
    output = notebook.cells[last].outputs[0]
    output.text = output.text.replace("1280", "1281")
    nbformat.write(notebook, copy)
    changed = nbval(copy, data=data_dir)
    assert changed.returncode == 1 and "1281" in changed.stdout
    assert f"1 failed, {len(code_cells(copy)) - 1} passed" in changed.stdout


REFUSED = "from imgclf.data import dataset\ndataset.read('nothing')"
WITH_A_CAUSE = """
from pathlib import Path
from imgclf import engines
Path("x.onnx").write_text("no network")
engines.preprocessing(Path("x.onnx"))"""
INTERRUPTED = """
import os, signal, time
from imgclf.data import dataset
def images():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(9)
    yield
dataset.fingerprint(images())"""
INTERRUPTED_IMPORT = """
import sys
from pathlib import Path
Path("torch.py").write_text("import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(9)")
sys.path.insert(0, "")
from imgclf.finetuning import frozen
frozen.default_device()"""
INTERRUPTED_ELSEWHERE = "import imgclf, os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)"
A_DEFECT = "from imgclf import plots\nplots.short(None)"


def error_of(source: str, folder: Path, data: Path) -> nbformat.NotebookNode:
    """Run a cell in a kernel, and return the error that stopped the notebook."""
    cells = [nbformat.v4.new_code_cell(text) for text in (source, "print('not stopped')")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(notebook, resources={"metadata": {"path": str(folder)}})
    with pytest.raises(CellExecutionError):
        client.execute(env={**os.environ, "IMGCLF_DATA": str(data)})
    assert not notebook.cells[1].outputs
    (error,) = (output for output in notebook.cells[0].outputs if output.output_type == "error")
    return error


@pytest.mark.notebooks
class TestAnErrorInANotebook:
    def test_is_one_line_and_stops_it(self, tmp_path, data_dir):
        error = error_of(REFUSED, tmp_path, data_dir)
        assert error.ename == "ImgclfError" and error.evalue.startswith("no list of the images of nothing")
        assert error.traceback == [f"ImgclfError: {error.evalue}"]

    def test_shows_no_traceback_of_its_cause(self, tmp_path, data_dir):
        error = error_of(WITH_A_CAUSE, tmp_path, data_dir)
        assert error.traceback == ["ImgclfError: x.onnx: not an ONNX network for images; write it again"]

    def test_an_interrupt_of_imgclf_is_one_line(self, tmp_path, data_dir):
        error = error_of(INTERRUPTED, tmp_path, data_dir)
        assert error.ename == "KeyboardInterrupt"
        assert error.traceback == ["KeyboardInterrupt: stopped; to go on, run this cell again"]

    def test_an_interrupt_of_an_import_asks_for_a_new_kernel(self, tmp_path, data_dir):
        error = error_of(INTERRUPTED_IMPORT, tmp_path, data_dir)
        assert error.traceback == [
            "KeyboardInterrupt: stopped while a library was loaded; to go on, restart the kernel"
        ]

    @pytest.mark.parametrize("source", [INTERRUPTED_ELSEWHERE, A_DEFECT], ids=["interrupt", "defect"])
    def test_has_its_traceback_where_that_tells_something(self, source, tmp_path, data_dir):
        assert "Traceback" in "".join(error_of(source, tmp_path, data_dir).traceback)

    def test_fails_nbval(self, tmp_path, data_dir):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(REFUSED, execution_count=1)])
        nbformat.write(notebook, tmp_path / "refused.ipynb")
        ended = nbval(tmp_path / "refused.ipynb", data=data_dir)
        assert ended.returncode == 1 and "no list of the images of nothing" in ended.stdout


@pytest.mark.notebooks
@pytest.mark.slow
def test_labelling_from_zero_is_no_error_in_01_and_the_later_notebooks_stop(data_dir, tmp_path, tiny_network):
    (folder := data_dir / "images" / "zero" / "unlabelled").mkdir(parents=True)
    for seed in range(4):
        (folder / f"{seed}.jpg").write_bytes(decoding.jpeg(picture((200, 40, 40), seed=seed)))
    sequence.execute(NOTEBOOKS[1], tmp_path, {"dataset_name": "zero"})
    outputs = str([cell.outputs for cell in code_cells(tmp_path / NOTEBOOKS[1].name)])
    assert "annotator of 4 images" in outputs and "nothing to split: no image has a label yet" in outputs
    assert outputs.count("none of the 4 images has a label yet; label them in 01_prepare_data") == 2
    sequence.execute(
        NOTEBOOKS[2], tmp_path, {"dataset_name": "zero", "backbone": str(tiny_network), "input_size": 32}
    )
    with pytest.raises(ImgclfError, match="none of the 4 images has a label yet"):
        sequence.execute(NOTEBOOKS[3], tmp_path, {"dataset_name": "zero"})
