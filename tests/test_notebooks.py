"""The committed notebooks: how they read, and that their stored outputs are compared for real."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from imgclf.experiments import notebooks

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
