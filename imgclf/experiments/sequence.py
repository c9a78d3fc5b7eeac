"""The notebooks in order, without anybody watching."""

import logging
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TextIO

import papermill
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from imgclf import ImgclfError, files, parameters
from imgclf.data import dataset, split
from imgclf.evaluation import report
from imgclf.experiments import notebooks
from imgclf.finetuning import learning_curve, record
from imgclf.parameters import SVM, Value

LAST = "05"  # notebook of a run; what stands behind it is run by itself


def run(values: Mapping[str, Value], *, start_from: str = "00") -> tuple[str, Path]:
    """Execute the notebooks through papermill, from `start_from` to 05_evaluate, stopping at the first that fails.

    Prints a line for each notebook: its name when it begins, the seconds it took when it is done.

    Parameters
    ----------
    values : parameters; each notebook is given those that it takes.
    start_from : the first notebook, by its number or name.

    Returns
    -------
    The name of the data set, and the folder of the executed notebooks.

    Raises
    ------
    ImgclfError : a cell failed; says in which notebook, where its executed copy is, and the cell's error.
    """
    chosen = _from(start_from)
    set_values = {**notebooks.read(chosen[0]), **values}
    parameters.check_together(set_values)
    dataset_name = str(set_values["dataset_name"])
    with files.lock(files.proc_dir(dataset_name)):
        folder = new_folder()
        for path in chosen:
            print(f"{path.stem:<18}", end="", flush=True)
            try:
                seconds = execute(path, folder, values)
            except ImgclfError:
                print("failed", flush=True)
                raise
            print(f"{seconds:6.1f} s", flush=True)
    return dataset_name, folder


def _from(start_from: str) -> list[Path]:
    """The notebooks of a run from the one with this number or name on."""
    paths = [path for path in notebooks.paths() if path.name[:2] <= LAST]
    first = next(
        (
            k
            for k, path in enumerate(paths)
            if start_from in (path.stem, path.name) or start_from.zfill(2) == path.name[:2]
        ),
        None,
    )
    if first is None:
        raise ImgclfError(
            f"--from {start_from}: no such notebook; there are {', '.join(path.stem for path in paths)}"
        )
    return paths[first:]


def new_folder() -> Path:
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


def execute(path: Path, folder: Path, values: Mapping[str, Value], *, output: TextIO | None = None) -> float:
    """Execute one notebook through papermill, with those parameters that it takes; gives the seconds it took.

    Parameters
    ----------
    folder : where its executed copy goes. output : where to write what its cells print, as they print it.

    Raises
    ------
    ImgclfError : a cell failed, or the process was killed; says where the executed copy is, and the cell's error.
    """
    executed = folder / path.name
    taken = {
        parameter.name: values[parameter.name]
        for parameter in parameters.of_notebook(path.name[:2])
        if parameter.name in values
    }
    start = time.perf_counter()
    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        papermill.execute_notebook(
            path,
            executed,
            parameters=taken,
            kernel_name="python3",
            progress_bar=False,
            stdout_file=output,
            extra_arguments=["--log-level=CRITICAL"],
        )  # it tells of local sockets and of its end
    except PapermillExecutionError as error:
        name = "" if error.ename == ImgclfError.__name__ else f"{error.ename}: "
        raise ImgclfError(f"{name}{error.evalue} (cell [{error.exec_count}] of {executed})") from None
    except DeadKernelError:
        raise ImgclfError(
            f"{executed}: its Python process was killed, most often for lack of memory; close other programs and run again"
        ) from None
    except OSError as error:
        with files.writable(executed):
            raise error
    return time.perf_counter() - start


def closing_report(dataset_name: str, folder: Path) -> str:
    """The accuracies of the run and where everything is, as text."""
    proc = files.proc_dir(dataset_name)
    found = dataset.read(dataset_name)
    notes = [f"left out: {image.path}: {image.excluded}" for image in found.excluded]
    if len(notes) > 5:
        notes[5:] = [f"and {len(notes) - 5} more images left out; 01_prepare_data lists them"]
    if found.other_files:
        notes.append(found.other_files_note())
    notes += [caution] if (caution := split.read(found).caution()) else []
    figures = report.read(proc)
    if figures.get("classifier") != SVM and (done := record.read(proc)):
        notes.append(f"refining, told by {len(done.held_back)} images: {learning_curve.summary(done.epochs)}")
    return "\n".join(
        [
            report.table(figures),
            "",
            *notes,
            *[""] * bool(notes),
            f"executed notebooks   {folder}",
            f"pictures, figures    {proc}",
            f"the classifier       {proc / files.CLASSIFIER}",
        ]
    )
