"""Projects: what `imgclf new`, `set` and `lab` make of a folder, and which values its notebooks run with."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner, Result
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import start_new_kernel
from nbformat.v4 import new_code_cell, new_notebook

from imgclf import ImgclfError, cli, files
from imgclf.experiments import notebooks, plan, projects, sequence, sweep
from imgclf.experiments.execution import execute
from imgclf.parameters import project_file
from support.pictures import write_colours

ANNOUNCE = "from imgclf import parameters\nparameters.announce(globals())"


def imgclf(*words: object) -> Result:
    return CliRunner().invoke(cli.main, [str(word) for word in words])


def error_line(*words: object) -> str:
    result = imgclf(*words)
    assert (result.exit_code, result.stdout) == (1, "")
    return result.stderr.strip().removeprefix("imgclf: ")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of label folders, with a space in its path."""
    return write_colours(tmp_path / "my pictures" / "fruit")


@pytest.fixture
def project(tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new project, in which commands run."""
    folder = tmp_path / "my project"
    assert imgclf("new", folder, "--images", pictures).exit_code == 0
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def later_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The notebooks of another version of imgclf, in which 02 and 04 are changed."""
    folder = shutil.copytree(notebooks.NOTEBOOKS, tmp_path / "later", ignore=shutil.ignore_patterns(".*"))
    for name in ("02_refine_dnn", "04_train_svm"):
        edit(folder / f"{name}.ipynb", "# a later version")
    monkeypatch.setattr(notebooks, "NOTEBOOKS", folder)
    return folder


def edit(path: Path, line: str) -> None:
    """Add a line to the last cell of a notebook."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[-1].source += f"\n{line}"
    nbformat.write(notebook, path)


def last_line(path: Path) -> str:
    return nbformat.read(path, as_version=4).cells[-1].source.splitlines()[-1]


def test_a_new_project_has_notebooks_without_outputs_and_its_parameters(project, pictures):
    assert sorted(path.name for path in project.iterdir()) == [
        ".gitignore",
        ".imgclf.toml.lock",
        "imgclf.toml",
        "notebooks",
    ]
    own = sorted((project / "notebooks").iterdir())
    assert [path.name for path in own] == [path.name for path in notebooks.shipped()]
    cells = [cell for path in own for cell in nbformat.read(path, as_version=4).cells]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
    assert nbformat.read(own[1], as_version=4).cells[1].metadata.tags == [notebooks.TAG]
    assert plan.wanted(own[1], {})["images_dir"] == str(pictures)
    assert plan.wanted(own[7], {}) == {
        "dataset_name": "fruit",
        "images_dir": str(pictures),
        "grid": "",
        "cluster": "",
    }


def test_new_says_what_comes_next(tmp_path):
    lines = imgclf("new", tmp_path / "a b").stdout.splitlines()
    assert lines[0] == f"made {tmp_path / 'a b'}" and lines[2] == f"cd '{tmp_path / 'a b'}'"
    assert str(tmp_path / "a b" / "images" / "a b" / "LABEL") in lines[3]
    assert (tmp_path / "a b" / "images" / "a b").is_dir()


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--images", "{pictures}"], "fruit"),
        ([], "place"),
        (["--images", "{pictures}", "--name", "veg"], "veg"),
    ],
)
def test_the_data_set_is_named_after_the_images_or_the_project(tmp_path, pictures, words, name):
    assert (
        imgclf("new", tmp_path / "place", *(word.format(pictures=pictures) for word in words)).exit_code == 0
    )
    assert f'\ndataset_name = "{name}"\n' in (tmp_path / "place" / "imgclf.toml").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["project"],
            "project: a project already; imgclf new .*project --update brings the notebooks of imgclf",
        ),
        (["full"], r"full: not empty \(a\.txt\); name an empty folder or a new one"),
        (["full/a.txt"], "a.txt: a file; name a folder"),
        (["x", "--images", "nowhere"], "nowhere: no such folder"),
        (["x", "--images", "full"], "full: no label folders in it"),
        (["pictures/x", "--images", "pictures"], "pictures/x: lies in the folder of the images"),
        (["x", "--name", "a/b"], "dataset_name='a/b': must be the name of one folder"),
        (["x", "--images", "pictures", "--name", "fashion_texture"], "the demo set; give your images a name"),
        (["full/a.txt/x"], "a.txt"),
        (["full", "--update"], "full: no project, it has no imgclf.toml; leave out --update"),
    ],
)
def test_a_folder_or_images_that_cannot_be_used_are_refused_before_anything_is_made(
    tmp_path, monkeypatch, words, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").touch()
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "imgclf.toml").touch()
    write_colours(tmp_path / "pictures")
    before = sorted(tmp_path.rglob("*"))
    result = imgclf("new", *words)
    assert result.exit_code == 1 and sorted(tmp_path.rglob("*")) == before
    with pytest.raises(ImgclfError, match=message):
        raise ImgclfError(result.stderr)


def test_a_folder_that_git_made_is_empty_enough(tmp_path):
    (tmp_path / "x" / ".git").mkdir(parents=True)
    (tmp_path / "x" / ".gitignore").write_text("mine")
    assert imgclf("new", tmp_path / "x").exit_code == 0
    assert (tmp_path / "x" / ".gitignore").read_text() == f"mine\n{projects.GITIGNORE}"


def test_git_sees_parameters_and_notebooks_alone_after_a_run(project):
    made = (
        "images/fruit/red/1.jpg proc/fruit/.lock proc/fruit/classifier.onnx networks/.lock mlflow.db "
        "mlflow_artifacts/1 .mlflow.lock .mlflow.lock.held .imgclf.toml.lock .imgclf.toml.lock.held "
        "runs/.lock runs/1/run.json notebooks/.ipynb_checkpoints/1 .0f.part notebooks/.0f.part"
    )
    for name in made.split():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).touch()
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    command = ["git", "status", "--porcelain", "--untracked-files=all"]
    seen = subprocess.run(command, cwd=project, check=True, capture_output=True, text=True).stdout
    own = [f"notebooks/{path.name}" for path in notebooks.shipped()]
    assert sorted(line[3:] for line in seen.splitlines()) == [".gitignore", "imgclf.toml", *own]


def test_an_update_adds_what_gitignore_lacks_and_keeps_what_a_person_took_out(project):
    path = project / ".gitignore"
    path.write_text("# /runs/\n" + path.read_text().replace("/runs/\n", "").replace("/.mlflow*\n", ""))
    before = path.read_text()
    assert imgclf("new", project, "--update").stdout == ".gitignore: added /.mlflow*\n"
    assert path.read_text() == f"{before}/.mlflow*\n"


def test_an_update_to_the_same_version_changes_nothing(project):
    edit(project / "notebooks" / "02_refine_dnn.ipynb", "# mine")
    before = {path: path.read_bytes() for path in project.rglob("*.*")}
    assert imgclf("new", project, "--update").stdout == "nothing to update\n"
    assert {path: path.read_bytes() for path in project.rglob("*.*")} == before


def test_an_update_brings_new_notebooks_and_keeps_copies_of_those_that_were_changed(project, later_version):
    own = project / "notebooks"
    edit(own / "02_refine_dnn.ipynb", "# mine")
    edit(own / "03_run_dnn.ipynb", "# mine too")
    (own / "05_evaluate.ipynb").unlink()
    assert imgclf("new", project, "--update").stdout.splitlines() == [
        "02_refine_dnn: new version; you had changed it: your copy is notebooks/replaced/02_refine_dnn.ipynb",
        "04_train_svm: new version",
        "05_evaluate: added",
    ]
    assert (
        last_line(own / "02_refine_dnn.ipynb") == last_line(own / "04_train_svm.ipynb") == "# a later version"
    )
    assert last_line(own / "replaced" / "02_refine_dnn.ipynb") == "# mine"
    assert last_line(own / "03_run_dnn.ipynb") == "# mine too"  # this version has no other one
    edit(later_version / "02_refine_dnn.ipynb", "# the next version")
    edit(own / "02_refine_dnn.ipynb", "# mine again")
    assert "replaced/02_refine_dnn 2.ipynb" in imgclf("new", project, "--update").stdout
    assert len(notebooks.paths()) == len(notebooks.shipped())  # copies are no notebooks of the project


def test_a_run_names_the_notebooks_that_have_a_new_version(project, later_version, monkeypatch):
    edit(project / "notebooks" / "02_refine_dnn.ipynb", "# mine")
    monkeypatch.setattr(sequence, "run", lambda *_, **__: ("fruit", None))
    monkeypatch.setattr(sequence, "closing_report", lambda *_: "")
    note = imgclf("run").stderr
    assert note.startswith("02_refine_dnn, 04_train_svm: imgclf ") and f"'{project}' --update brings" in note
    imgclf("new", project, "--update")
    edit(project / "notebooks" / "02_refine_dnn.ipynb", "# mine again")
    assert imgclf("run").stderr == ""


def test_an_update_replaces_a_damaged_notebook_and_keeps_its_copy(project, later_version):
    (project / "notebooks" / "03_run_dnn.ipynb").write_text("{")
    assert "03_run_dnn: new version; you had changed it" in imgclf("new", project, "--update").stdout
    assert (project / "notebooks" / "replaced" / "03_run_dnn.ipynb").read_text() == "{"


def test_an_update_adds_new_parameters_and_keeps_values_and_comments(project):
    (project / "imgclf.toml").write_text("# mine\ndataset_name = 'fruit'\nseed = 5 # ours\n")
    assert imgclf("new", project, "--update").stdout.startswith(
        "imgclf.toml: new parameters, with their defaults: "
    )
    text = (project / "imgclf.toml").read_text()
    assert text.startswith("# mine\ndataset_name = 'fruit'\nseed = 5 # ours\n") and "\n# epochs = 5\n" in text


def test_a_data_folder_becomes_a_project_by_an_empty_file_and_an_update(data_dir):
    (data_dir / "proc").mkdir(parents=True)
    (data_dir / "imgclf.toml").touch()
    assert imgclf("new", data_dir, "--update").stdout.count(": added\n") == len(notebooks.shipped())
    assert (data_dir / "imgclf.toml").read_text() == project_file.new({})
    assert notebooks.paths() == sorted((data_dir / "notebooks").iterdir())


def test_the_notebooks_of_a_project_come_before_those_of_imgclf(project, monkeypatch):
    (project / "notebooks" / "06_deploy.ipynb").unlink()
    for copy in ("02_refine_dnn-Copy1", "02_refine_dnn_old", "02_a"):
        shutil.copy(project / "notebooks" / "02_refine_dnn.ipynb", project / "notebooks" / f"{copy}.ipynb")
    folders = [path.parent for path in notebooks.paths()]
    assert folders == [*[project / "notebooks"] * 6, notebooks.NOTEBOOKS, *[project / "notebooks"] * 2]
    assert notebooks.paths()[2].stem == "02_refine_dnn"
    monkeypatch.chdir(project.parent)
    assert notebooks.paths() == notebooks.shipped()


def test_set_writes_the_file_and_no_notebook(project):
    before = {path: path.read_bytes() for path in (project / "notebooks").iterdir()}
    assert imgclf("set", "epochs=9", "svm_c=0.5,2").stdout == "changed imgclf.toml\n"
    assert imgclf("set", "epochs=9").stdout == "nothing to change\n"
    text = (project / "imgclf.toml").read_text()
    assert "\nepochs = 9\n" in text and "\nsvm_c = [0.5, 2]\n" in text
    assert imgclf("set", "--defaults").stdout == "changed imgclf.toml\n"
    assert "\n# epochs = 5\n" in (project / "imgclf.toml").read_text()
    assert {path: path.read_bytes() for path in (project / "notebooks").iterdir()} == before


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("learning_rate=0,1", "above 0 and at most 1; decimals have a point: write learning_rate=0.1"),
        ("learning_rate=0,001", "decimals have a point: write learning_rate=0.001"),
        ("learning_rate=1,5", "at most 1; decimals have a point: write learning_rate=1.5"),
        ("dropout=0,2", "decimals have a point: write dropout=0.2"),
        ("images_dir=/nowhere", "/nowhere: no such folder"),
        ("images_dir=notebooks/replaced", "notebooks/replaced: no such folder"),
        ("backbone=net.onnx", "net.onnx: no such file; correct the path"),
        ("epoch=3", "unknown parameter 'epoch' (did you mean epochs?)"),
        ("epochs=x", "epochs='x': must be a whole number at least 0 and at most 1000"),
    ],
)
def test_set_refuses_what_is_not_allowed_and_writes_nothing(project, word, message):
    before = (project / "imgclf.toml").read_bytes()
    assert message in error_line("set", word)
    assert (project / "imgclf.toml").read_bytes() == before


def test_set_without_a_project_names_imgclf_new(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "make a project with imgclf new FOLDER" in error_line("set", "seed=3")


def test_a_run_prints_each_value_with_its_source(project, pictures):
    imgclf("set", "epochs=9", "classifier=dnn", "batch_size=8")
    path = project / "notebooks" / "02_refine_dnn.ipynb"
    path.write_text(path.read_text().replace("dropout: float = 0.2", "dropout: float = 0.5"))
    chosen = [each for each in notebooks.paths() if each.name[:2] in ("02", "03")]
    assert sequence.changed_parameters(chosen, {"epochs": 5, "optimizer": "sgd"}) == [
        'dataset_name = "fruit" (imgclf.toml)',
        f'images_dir = "{pictures}" (imgclf.toml)',
        'classifier = "dnn" (imgclf.toml)',
        "epochs = 5 (-p)",  # the default, which the file does not have
        "batch_size = 8 (imgclf.toml)",
        "dropout = 0.5 (the cell of 02)",
        'optimizer = "sgd" (-p)',
    ]
    assert sequence.without_effect(chosen, {}) == []


def test_a_run_keeps_the_values_that_it_began_with(project, monkeypatch):
    seen = []

    def look(*_: object) -> None:
        seen.append(plan.settings(notebooks.paths()[1], {})["seed"])

    def set_during_the_run(*_: object, **__: object) -> None:
        look()
        project_file.change({"seed": 6})
        look()

    imgclf("set", "seed=5")
    monkeypatch.setattr(sequence, "_execute", set_during_the_run)
    monkeypatch.setattr(sequence, "closing_report", lambda *_: str(look()))
    assert imgclf("run", "--from", "01").exit_code == 0
    look()
    assert [(each.value, each.source) for each in seen] == [(5, "imgclf.toml")] * 3 + [(6, "imgclf.toml")]


def test_a_sweep_without_a_grid_has_no_trials(project, capsys):
    assert sweep.run("fruit", "", " ") == []
    assert capsys.readouterr().out == "the grid is empty: no trials\n"


def test_trials_use_the_values_of_the_project(project):
    imgclf("set", "seed=5")
    assert sweep._settings({"epochs": 3})["seed"] == 5


def test_a_sweep_takes_images_and_values_of_the_project(project, monkeypatch):
    given = []

    def remember(path, folder, values, **_):
        project_file.change({"seed": 8})  # counts from the next sweep on
        given.append({**values, "seed": plan.wanted(notebooks.paths()[1], {})["seed"]})
        raise ImgclfError("no kernel in this test")

    monkeypatch.setattr(sweep, "execute", remember)
    assert "epochs = 2 has no effect" in error_line("sweep", "-p", "epochs=1,2")
    imgclf("set", "classifier=dnn")
    assert error_line("sweep", "-p", "epochs=1,2") == "no kernel in this test"
    assert given == [{"grid": "epochs: 1, 2", "seed": 0}]


def announcing(folder: Path, **values: object) -> Path:
    """A notebook that announces the parameters of 02, with these in its cell."""
    first = new_code_cell(notebooks.cell_source("02", values), metadata={"tags": ["parameters"]})
    path = folder / "02_announce.ipynb"
    nbformat.write(new_notebook(cells=[first, new_code_cell(ANNOUNCE)]), path)
    return path


@pytest.mark.notebooks
@pytest.mark.parametrize(
    ("cell", "given", "printed"),
    [
        ({}, {}, "input_size = 48 (imgclf.toml; the cell has the default)"),
        ({"input_size": 64}, {}, "input_size = 64 (this notebook)"),
        ({}, {"input_size": 32}, "input_size = 32 (-p)"),
        ({"input_size": 64}, {"input_size": 240}, "input_size = 240 (-p)"),
    ],
)
def test_precedence_in_a_kernel_without_a_browser(project, cell, given, printed):
    (project / "imgclf.toml").write_text('dataset_name = "fruit"\ninput_size = 48\n')
    (project / "runs").mkdir()
    execute(announcing(project, **cell), project / "runs", given)
    executed = nbformat.read(project / "runs" / "02_announce.ipynb", as_version=4)
    text = "".join(output.text for output in executed.cells[-1].outputs)
    assert text == f"dataset_name = 'fruit' (imgclf.toml; the cell has the default)\n{printed}\n"


@pytest.mark.notebooks
def test_a_kernel_of_a_run_uses_the_values_that_the_run_began_with(project):
    (project / "runs").mkdir()
    project_file.change({"input_size": 48})
    with project_file.fixed():
        project_file.change({"input_size": 96})
        execute(announcing(project), project / "runs", {"images_dir": ""})
    executed = nbformat.read(project / "runs" / "02_announce.ipynb", as_version=4)
    assert "input_size = 48 (imgclf.toml; the cell has the default)" in executed.cells[-1].outputs[0].text


@pytest.fixture
def kernel(project: Path) -> Iterator[BlockingKernelClient]:
    """A running kernel, as JupyterLab starts it for a notebook of the project."""
    manager, client = start_new_kernel(cwd=str(project / "notebooks"))
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def run(client: BlockingKernelClient, source: str) -> str:
    """Run a cell in a kernel, and return what it prints."""
    printed: list[str] = []

    def take(message: dict) -> None:
        printed.append(message["content"].get("text", ""))

    reply = client.execute_interactive(source, output_hook=take, timeout=60)
    assert reply["content"]["status"] == "ok", reply["content"]
    return "".join(printed)


@pytest.mark.notebooks
@pytest.mark.slow
def test_a_running_kernel_uses_what_is_set_meanwhile_and_its_notebook_stays_as_it_was(project, kernel):
    path = project / "notebooks" / "01_prepare_data.ipynb"
    before = path.read_bytes()
    sources = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    run(kernel, sources[0])
    assert "seed" not in run(kernel, sources[1])
    for seed in (7, 8):
        assert imgclf("set", f"seed={seed}").exit_code == 0
        assert f"seed = {seed} (imgclf.toml; the cell has the default)\n" in run(kernel, sources[1])
    run(kernel, sources[0].replace("seed: int = 0", "seed: int = 3"))
    assert "seed = 3 (this notebook)\n" in run(kernel, sources[1])
    assert run(kernel, "print(seed)") == "3\n"
    run(kernel, "# Parameters\nseed = 4")
    assert "seed = 4 (-p)\n" in run(kernel, sources[1])
    assert path.read_bytes() == before
    record = json.loads((project / "proc" / "fruit" / "made_with" / "01.json").read_text())
    assert record["parameters"]["seed"] == 4


def test_jupyterlab_opens_the_project_at_its_first_notebook(project, tmp_path, monkeypatch):
    assert projects.lab_options() == [
        f"--ServerApp.root_dir={project}",
        "--LabApp.default_url=/lab/tree/notebooks/01_prepare_data.ipynb",
    ]
    (project / "imgclf.toml").write_text("")  # the demo set, whose images are not there yet
    assert projects.lab_options()[1].endswith("/notebooks/00_get_images.ipynb")
    (project / "images" / "fashion_texture").mkdir(parents=True)
    assert projects.lab_options()[1].endswith("/notebooks/00_get_images.ipynb")
    monkeypatch.chdir(tmp_path)
    assert projects.lab_options() == [f"--ServerApp.root_dir={notebooks.NOTEBOOKS}"]
    monkeypatch.setattr(files, "CLONE", None)
    assert "make a project with imgclf new FOLDER, and start imgclf lab in it" in error_line("lab")
