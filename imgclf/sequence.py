"""The notebooks in order, without anybody watching."""

import logging
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError

from imgclf import ImgclfError, evaluation, files, parameters
from imgclf.parameters import Value


def run(values: Mapping[str, Value], *, start_from: str = "00") -> Path:
    """Execute the notebooks through papermill, from `start_from` on, stopping at the first that fails.

    Prints a line for each notebook: its name when it begins, the seconds it took when it is done.

    Parameters
    ----------
    values : parameters; each notebook is given those that it takes.
    start_from : number of the first notebook.

    Returns
    -------
    The folder of the executed notebooks.

    Raises
    ------
    ImgclfError : a cell failed; says in which notebook, where its executed copy is, and the cell's error.
    """
    chosen = [path for path in parameters.notebook_paths() if path.name[:2] >= start_from]
    if not chosen:
        raise ImgclfError(f"--from {start_from}: no such notebook; there are {', '.join(path.name[:2] for path in parameters.notebook_paths())}")
    with files.lock(files.proc_dir(str(values.get("dataset_name", parameters.PARAMETERS["dataset_name"].default)))):
        folder = _new_folder()
        for path in chosen:
            _execute(path, folder / path.name, values)
    return folder


def _new_folder() -> Path:
    """A folder of its own for each run, also for two in one second."""
    runs = files.data_dir() / "runs"
    name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    with files.writable(runs):
        for number in range(1, 1000):
            folder = runs / (name if number == 1 else f"{name}_{number}")
            if not folder.exists():
                folder.mkdir(parents=True)
                return folder
    raise ImgclfError(f"{runs}: 1,000 runs in one second; wait a moment")


def _execute(path: Path, executed: Path, values: Mapping[str, Value]) -> None:
    taken = {parameter.name: values[parameter.name] for parameter in parameters.of_notebook(path.name[:2]) if parameter.name in values}
    print(f"{path.stem:<18}", end="", flush=True)
    start = time.perf_counter()
    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        papermill.execute_notebook(path, executed, parameters=taken, kernel_name="python3", progress_bar=False,
                                   extra_arguments=["--log-level=ERROR"])  # it warns of its local sockets
    except PapermillExecutionError as error:
        print("failed", flush=True)
        raise ImgclfError(f"{executed}, cell {error.cell_index + 1}: {error.ename}: {error.evalue}") from None
    except OSError as error:
        with files.writable(executed):
            raise error
    print(f"{time.perf_counter() - start:6.1f} s", flush=True)


def closing_report(dataset_name: str, folder: Path) -> str:
    """The accuracies of the run and where everything is, as text."""
    proc = files.proc_dir(dataset_name)
    return "\n".join([evaluation.table(evaluation.read(proc)), "",
                      f"executed notebooks   {folder}", f"pictures, figures    {proc}", f"the classifier       {proc / 'classifier.onnx'}"])
