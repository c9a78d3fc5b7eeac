"""The notebooks as files: which there are, and the parameters cell of each."""

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from imgclf import ImgclfError, files
from imgclf.parameters import Value, code, for_notebook, literal

if TYPE_CHECKING:
    import nbformat

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
TAG = "parameters"


def cell_source(number: str, values: Mapping[str, Value] | None = None) -> str:
    """The parameters cell of a notebook: one literal a line, each with its meaning."""
    values = values or {}
    return "\n".join(
        f"{p.name}: {p.type} = {code(values.get(p.name, p.default))}  # {p.meaning}"
        for p in for_notebook(number)
    )


def paths() -> list[Path]:
    """The notebooks, in order."""
    return sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


def read(path: Path) -> dict[str, Value]:
    """The values in the parameters cell of a notebook.

    Raises
    ------
    ImgclfError : there is no such cell, or a line of it is not `NAME = VALUE` or `NAME: TYPE = VALUE`.
    """
    import nbformat  # here, since a machine that only serves has no notebooks

    return _read_cell(_parameters_cell(nbformat.read(path, as_version=4), path.name).source, path.name)


def _parameters_cell(notebook: "nbformat.NotebookNode", name: str) -> "nbformat.NotebookNode":
    for cell in notebook.cells:
        if TAG in cell.metadata.get("tags", []):
            return cell
    raise ImgclfError(
        f"{name}: no cell has the tag '{TAG}'; give it to the cell of the parameters, or get the notebook again"
    )


def _read_cell(source: str, name: str) -> dict[str, Value]:
    try:
        return {_assigned(line): literal(line.value) for line in ast.parse(source).body}
    except (AttributeError, SyntaxError, ValueError) as error:
        raise ImgclfError(
            f"{name}: its parameters cell has a line that is not NAME = VALUE; mend it, or run imgclf set --defaults"
        ) from error


def _assigned(line: ast.stmt) -> str:
    """The one name that a line gives a value to; a ValueError or AttributeError if it does another thing."""
    (target,) = (
        line.targets
        if isinstance(line, ast.Assign)
        else [line.target]
        if isinstance(line, ast.AnnAssign)
        else []
    )
    return target.id


def change_defaults(changes: Mapping[str, Value] | None) -> list[Path]:
    """Write values into the parameters cell of every notebook that has them (None: put all defaults back).

    Returns
    -------
    The notebooks that changed.
    """
    import nbformat

    changed = []
    for path in paths():
        notebook = nbformat.read(path, as_version=4)
        cell = _parameters_cell(notebook, path.name)
        values = {} if changes is None else {**_read_cell(cell.source, path.name), **changes}
        source = cell_source(path.name[:2], values)
        if source != cell.source:
            cell.source = source
            files.write_text(path, nbformat.writes(notebook) + "\n")
            changed.append(path)
    return changed
