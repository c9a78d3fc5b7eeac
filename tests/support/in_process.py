"""Notebooks run in this process, in a tenth of the time that a kernel takes: their code without pictures and widgets."""

import contextlib
import io
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest

from imgclf import plots
from imgclf.experiments import notebooks
from imgclf.experiments.history import tracking
from support.networks import write_tiny_network
from support.pictures import write_colours

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of bqplot's definitions, when it is first imported
    from imgclf.widgets import annotator, charts, progress, results

# What a cell calls to show something. Nothing else is left out, and `plots.short` returns text.
SHOWN = [
    name for name in vars(plots) if callable(getattr(plots, name)) and name.islower() and name != "short"
]


def nothing(*_: Any, **__: Any) -> None:
    """Show nothing."""


class Silent:
    """Stands for a progress bar or a chart in progress."""

    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    show = progress = staticmethod(nothing)
    __call__ = nothing


def leave_out_what_is_shown(patch: pytest.MonkeyPatch) -> None:
    """Replace pictures, widgets and progress bars; nothing is handed in to MLflow, which takes seconds."""
    for name in SHOWN:
        patch.setattr(plots, name, nothing)
    for module, name in ((annotator, "Annotator"), (results, "ResultsBrowser"), (charts, "feature_map")):
        patch.setattr(module, name, nothing)
    patch.setattr(charts, "LiveTraining", Silent)
    patch.setattr(tracking, "prepared", contextlib.nullcontext)
    patch.setattr(tracking, "hand_in_all", lambda **_: "")
    for name in ("progress", "transfer", "counted"):
        patch.setattr(progress, name, lambda *_, **__: Silent())


def execute(path: Path, folder: Path, values: Mapping[str, Any], **_: Any) -> float:
    """Do what `experiments.execution.execute` does, without a kernel; what cells print goes nowhere."""
    run(path, values)
    return 0.0


def run(path: Path, values: Mapping[str, Any]) -> str:
    """Run the code cells of a notebook, and return what they print."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for cell in code_cells(path):
            exec(compile(cell.source, f"{path.name} {cell.id}", "exec"), namespace)
            if notebooks.TAG in cell.metadata.get("tags", ()):
                namespace |= {name: value for name, value in values.items() if name in namespace}
    return printed.getvalue()


def run_all(first: str, last: str, values: Mapping[str, Any]) -> str:
    """Run the notebooks with these numbers and those between, and return what they print."""
    return "".join(run(path, values) for path in notebooks.paths() if first <= path.name[:2] <= last)


def given(backbone: Path) -> dict[str, Any]:
    """Parameters with which the colours take a second."""
    return {"dataset_name": "colours", "backbone": str(backbone), "input_size": 32, "svm_c": [0.1, 1.0]}


@dataclass(frozen=True)
class Folder:
    """A data folder with the colours, $IMGCLF_DATA, and the parameters that notebooks run with in it."""

    data: Path
    values: dict[str, Any]

    def run(self, first: str, last: str = "", **others: Any) -> str:
        """Run the notebooks with these numbers and those between, and return what they print."""
        return run_all(first, last or first, self.values | others)

    @property
    def proc(self) -> Path:
        """Folder of the results."""
        return self.data / "proc" / "colours"

    @property
    def images(self) -> Path:
        """Folder of the images."""
        return self.data / "images" / "colours"


def finished(data: Path) -> Folder:
    """Run 01 to 05 on the colours in a new data folder, with a tiny network beside it."""
    write_colours(data / "images" / "colours")
    write_tiny_network(data.parent / "tiny.onnx")
    folder = Folder(data, given(data.parent / "tiny.onnx"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGCLF_DATA", str(data))
        leave_out_what_is_shown(patch)
        folder.run("01", "05")
    return folder


def code_cells(path: Path) -> Iterator[nbformat.NotebookNode]:
    """Yield the code cells, without those that only draw with matplotlib itself."""
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code" and not re.search(r"^ax\b", cell.source, re.MULTILINE):
            yield cell
