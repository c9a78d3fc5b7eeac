"""The notebook files, and the parameters cell of each."""

import ast
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from imgclf import ImgclfError, files
from imgclf.parameters import Value, code, for_notebook, literal

if TYPE_CHECKING:
    import nbformat

NOTEBOOKS = files.shipped("notebooks")
FOLDER = "notebooks"  # of a project
PATTERN = "[0-9][0-9]_*.ipynb"
TAG = "parameters"
STAGES = ("01", "02", "03", "04", "05")  # numbers of those that lead from images to an evaluation
LAST = STAGES[-1]  # of a run; later ones are executed on their own


def cell_source(number: str, values: Mapping[str, Value] | None = None) -> str:
    """Return the source of a notebook's parameters cell: one literal a line, each with its meaning."""
    values = values or {}
    return "\n".join(
        f"{p.name}: {p.type} = {code(values.get(p.name, p.default))}  # {p.meaning}"
        for p in for_notebook(number)
    )


def shipped() -> list[Path]:
    """Return the notebooks that come with imgclf, in order."""
    return sorted(NOTEBOOKS.glob(PATTERN))


def paths() -> list[Path]:
    """Return the notebooks, in order: those of the project; one that it lacks, as it comes with imgclf.

    Other notebooks in the project, such as copies under other names, are not among them.
    """
    project = files.project_dir()
    own = {path.name: path for path in (project / FOLDER).glob(PATTERN)} if project else {}
    return [own.get(path.name, path) for path in shipped()]


def path(number: str) -> Path:
    """Return the notebook with a number, such as "05"."""
    return next(path for path in paths() if path.name.startswith(number))


def stages() -> list[Path]:
    """Return the notebooks of `STAGES`, in order."""
    return [path for path in paths() if path.name[:2] in STAGES]


def read(path: Path) -> dict[str, Value]:
    """Return the values in the parameters cell of a notebook.

    Raises
    ------
    ImgclfError : there is no such cell, or a line of it is not `NAME = VALUE` or `NAME: TYPE = VALUE`.
    """
    # Here, since an installation that only serves needs no notebooks.
    from imgclf.experiments.notebook_format import nbformat

    return read_cell(parameters_cell(nbformat.read(path, as_version=4), path.name).source, path.name)


def code_sha256(path: Path, ran: Iterable[str] | None = None) -> str:
    """Return the sha256 of the code cells of a notebook, without the parameters cell and without outputs.

    Parameters
    ----------
    ran : the cells that a kernel executed. If one of the notebook is not among them, as where an edited copy
        ran, the hash is empty.
    """
    from imgclf.experiments.notebook_format import nbformat

    cells = nbformat.read(path, as_version=4).cells
    sources = [c.source for c in cells if c.cell_type == "code" and TAG not in c.metadata.get("tags", [])]
    if ran is not None and not {source.strip() for source in sources} <= {source.strip() for source in ran}:
        return ""
    return hashlib.sha256("\0".join(sources).encode()).hexdigest()


def parameters_cell(notebook: "nbformat.NotebookNode", name: str) -> "nbformat.NotebookNode":
    """Return the parameters cell of the notebook file `name`.

    Raises
    ------
    ImgclfError : there is none.
    """
    for cell in notebook.cells:
        if TAG in cell.metadata.get("tags", []):
            return cell
    raise ImgclfError(
        f"{name}: no cell has the tag '{TAG}'; add the tag to the parameters cell, "
        "or download the notebook again"
    )


def read_cell(source: str, name: str) -> dict[str, Value]:
    """Return the values that a parameters cell assigns.

    Raises
    ------
    ImgclfError : a line is not `NAME = VALUE` or `NAME: TYPE = VALUE`; `name` says in which notebook.
    """
    try:
        return dict(_assignment(line) for line in ast.parse(source).body)
    except (SyntaxError, ValueError) as error:
        raise ImgclfError(
            f"{name}: its parameters cell has a line that is not NAME = VALUE; "
            "write each parameter as NAME = VALUE"
        ) from error


def _assignment(line: ast.stmt) -> tuple[str, Value]:
    """Return name and value of an assignment; a ValueError for any other statement."""
    match line:
        case (
            ast.Assign(targets=[ast.Name(id=name)], value=value)
            | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
        ):
            return name, literal(value)
    raise ValueError("not NAME = VALUE")
