"""Which value a parameter has: -p, then the cell, then imgclf.toml, then the default."""

from pathlib import Path

import pytest

from imgclf import ImgclfError, files, parameters
from imgclf.experiments import notebooks
from imgclf.parameters import precedence

CELL = notebooks.cell_source("02")
EDITED = notebooks.cell_source("02", {"input_size": 64})
INJECTED = "# Parameters\ninput_size = 32\n"
DEFAULT = "all parameters have their defaults"


@pytest.fixture
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty imgclf.toml in the working directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / files.PROJECT_FILE
    path.touch()
    return path


class Kernel:
    """Runs cells, and keeps their sources as IPython does."""

    def __init__(self) -> None:
        self.namespace: dict = {"In": [""]}

    def run(self, *cells: str) -> None:
        for cell in cells:
            self.namespace["In"].append(cell)
            exec(cell, self.namespace)

    def announce(self, capsys: pytest.CaptureFixture) -> str:
        self.namespace["In"].append("parameters.announce(globals())")
        parameters.announce(self.namespace)
        return capsys.readouterr().out.strip()


@pytest.mark.parametrize(
    ("cells", "stored", "value", "printed"),
    [
        ([CELL], "", 0, DEFAULT),
        ([CELL], "input_size = 48", 48, "input_size = 48 (imgclf.toml; the cell has the default)"),
        ([CELL], "input_size = 0", 0, DEFAULT),
        ([EDITED], "", 64, "input_size = 64 (this notebook)"),
        ([EDITED], "input_size = 48", 64, "input_size = 64 (this notebook)"),
        ([CELL, INJECTED], "", 32, "input_size = 32 (-p)"),
        ([CELL, INJECTED], "input_size = 48", 32, "input_size = 32 (-p)"),
        ([EDITED, INJECTED], "input_size = 48", 32, "input_size = 32 (-p)"),
        ([EDITED, "# Parameters\ninput_size = 0\n"], "input_size = 48", 0, "input_size = 0 (-p)"),
        ([CELL, "# Parameters\ninput_size = 0\n"], "", 0, DEFAULT),
    ],
)
def test_each_combination_of_sources(toml, capsys, cells, stored, value, printed):
    toml.write_text(stored)
    kernel = Kernel()
    kernel.run(*cells)
    assert kernel.announce(capsys) == printed
    assert kernel.namespace["input_size"] == value


def test_a_first_cell_that_runs_again_uses_a_changed_file(toml, capsys):
    kernel = Kernel()
    kernel.run(CELL)
    for stored, printed in (
        ("input_size = 48", "input_size = 48 (imgclf.toml; the cell has the default)"),
        ("input_size = 48", "input_size = 48 (imgclf.toml; the cell has the default)"),
        ("input_size = 96", "input_size = 96 (imgclf.toml; the cell has the default)"),
        ("", DEFAULT),
        ("input_size = 32", "input_size = 32 (imgclf.toml; the cell has the default)"),
    ):
        toml.write_text(stored)
        assert kernel.announce(capsys) == printed


def test_what_a_person_does_between_counts(toml, capsys):
    toml.write_text("input_size = 48")
    kernel = Kernel()
    kernel.run(CELL)
    kernel.announce(capsys)
    kernel.run(notebooks.cell_source("02", {"input_size": 48}))  # edited to the value that the file has now
    toml.write_text("input_size = 96")
    assert kernel.announce(capsys) == "input_size = 48 (this notebook)"
    kernel.run(CELL)
    assert kernel.announce(capsys) == "input_size = 96 (imgclf.toml; the cell has the default)"
    kernel.run("input_size = 100")  # in a cell below
    assert kernel.announce(capsys) == "input_size = 100 (this notebook)"
    kernel.run(CELL, "# Parameters\ninput_size = 96\n")
    assert kernel.announce(capsys) == "input_size = 96 (-p)"
    kernel.run(CELL)
    assert kernel.announce(capsys) == "input_size = 96 (imgclf.toml; the cell has the default)"


def test_a_value_that_has_no_effect_is_said_to_have_none_with_its_source(toml, capsys):
    toml.write_text("epochs = 9")
    kernel = Kernel()
    kernel.run(CELL)
    assert kernel.announce(capsys) == (
        "epochs = 9 (imgclf.toml; the cell has the default) has no effect on the classifier with classifier = 'svm'"
    )


def test_values_of_other_notebooks_and_of_lines_that_a_cell_lacks_are_left_alone(toml, capsys):
    toml.write_text("svm_c = [1.0]\nseed = 5")
    kernel = Kernel()
    kernel.run("\n".join(line for line in CELL.splitlines() if not line.startswith("seed")))
    assert kernel.announce(capsys) == DEFAULT
    assert "seed" not in kernel.namespace and "svm_c" not in kernel.namespace


def test_a_damaged_file_stops_the_notebook(toml):
    toml.write_text("input_size = ")
    with pytest.raises(ImgclfError, match=r"imgclf\.toml: Invalid value"):
        parameters.announce({"input_size": 240})


def test_resolved_values_are_checked_and_tell_their_sources(toml):
    toml.write_text("seed = 5\nepochs = 7\n")
    cell = {"seed": 0, "epochs": 9, "dropout": 0.2, "batch_size": 32}
    settings = parameters.resolve({"dropout": 0.5}, cell, cell)
    assert {name: (setting.value, setting.source) for name, setting in settings.items()} == {
        "seed": (5, precedence.PROJECT),
        "epochs": (9, precedence.NOTEBOOK),
        "dropout": (0.5, precedence.GIVEN),
        "batch_size": (32, precedence.DEFAULT),
    }
    with pytest.raises(ImgclfError, match="^seed='x': must be a whole number"):
        parameters.resolve({"seed": "x"}, cell, cell)


def test_a_notebook_has_a_default_of_its_own_which_the_project_changes(tmp_path, monkeypatch):
    cell = {"dataset_name": "own_images"}
    own = parameters.resolve({}, cell, cell, number="08")["dataset_name"]
    assert (own.value, own.source, own.is_default) == ("own_images", "default", True)
    (tmp_path / "imgclf.toml").write_text('dataset_name = "fruit"\n')
    monkeypatch.chdir(tmp_path)
    of_project = parameters.resolve({}, cell, cell, number="08")["dataset_name"]
    assert (of_project.value, of_project.source) == ("fruit", "imgclf.toml")
    (tmp_path / "imgclf.toml").write_text(f'dataset_name = "fruit"\nimages_dir = "{tmp_path}"\n')
    used_in_place = parameters.resolve({}, cell, cell, number="08")["dataset_name"]
    assert (used_in_place.value, used_in_place.source) == ("own_images", "default")
