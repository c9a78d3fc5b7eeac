"""Editing the parameters cells of notebooks as a person would."""

import nbformat

from imgclf.experiments import notebooks
from imgclf.parameters import Value


def edit(**values: Value) -> None:
    """Write values into the parameters cell of each notebook of `notebooks.paths()` that takes them."""
    for path in notebooks.paths():
        notebook = nbformat.read(path, as_version=4)
        before = notebooks.read(path)
        notebooks.parameters_cell(notebook, path.name).source = notebooks.cell_source(
            path.name[:2], {**before, **values}
        )
        path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
