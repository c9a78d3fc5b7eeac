"""Executing the notebooks in order through papermill, without a browser."""

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

LAST = "05"  # last notebook of a run; later ones are executed on their own


def run(values: Mapping[str, Value], *, start_from: str = "00") -> tuple[str, Path]:
    """Execute the notebooks through papermill, from `start_from` to 05_evaluate; stop at the first failure.

    Prints a line for each notebook: its name when it starts, the seconds it took when it ends.

    Parameters
    ----------
    values : parameters; each notebook gets those that it takes.
    start_from : the first notebook, by its number or name.

    Returns
    -------
    The name of the data set, and the folder of the executed notebooks.

    Raises
    ------
    ImgclfError : a cell failed; the message holds its error and the path of the executed notebook.
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
    """Return the notebooks of a run, starting with the one of this number or name."""
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
    """Create a new folder for a run, also for two runs in one second."""
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
    """Execute one notebook through papermill; return the seconds it took.

    Parameters
    ----------
    folder : for the executed copy.
    values : parameters; the notebook gets those that it takes.
    output : stream to which the output of the cells is copied as it is printed.

    Raises
    ------
    ImgclfError : a cell failed, or the kernel died; the message holds the error and the path of the executed
        copy.
    """
    executed = folder / path.name
    taken = {
        parameter.name: values[parameter.name]
        for parameter in parameters.for_notebook(path.name[:2])
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
            extra_arguments=["--log-level=CRITICAL"],  # the kernel logs its sockets and its shutdown
        )
    except PapermillExecutionError as error:
        name = "" if error.ename == ImgclfError.__name__ else f"{error.ename}: "
        raise ImgclfError(f"{name}{error.evalue} (cell [{error.exec_count}] of {executed})") from None
    except DeadKernelError:
        raise ImgclfError(
            f"{executed}: its kernel process was killed, most often for lack of memory; "
            "close other programs and run again"
        ) from None
    except OSError as error:
        with files.writable(executed):
            raise error
    return time.perf_counter() - start


def closing_report(dataset_name: str, folder: Path) -> str:
    """Return the accuracies of a run and the paths of its files, as text."""
    proc = files.proc_dir(dataset_name)
    scanned = dataset.read(dataset_name)
    notes = [f"left out: {image.path}: {image.excluded}" for image in scanned.excluded]
    if len(notes) > 5:
        notes[5:] = [f"and {len(notes) - 5} more images left out; 01_prepare_data lists them"]
    if scanned.other_files:
        notes.append(scanned.other_files_note())
    if cautions := scanned.cautions():
        notes.append(cautions)
    if caution := split.read(scanned).caution():
        notes.append(caution)
    figures = report.read(proc)
    if figures.get("classifier") != SVM and (done := record.read(proc)):
        notes.append(
            f"fine-tuning, validated on {len(done.held_back)} images: {learning_curve.summary(done.epochs)}"
        )
    if notes:
        notes.append("")
    return "\n".join(
        [
            report.table(figures),
            "",
            *notes,
            f"executed notebooks   {folder}",
            f"pictures, figures    {proc}",
            f"the classifier       {proc / files.CLASSIFIER}",
        ]
    )
