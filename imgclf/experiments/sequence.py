"""Executing the notebooks in order through papermill, without a browser."""

import os
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from itertools import chain
from pathlib import Path
from types import FrameType

from imgclf import ImgclfError, files, parameters
from imgclf.data import dataset, scan, split
from imgclf.evaluation import report
from imgclf.experiments import notebooks, plan
from imgclf.experiments.execution import execute
from imgclf.experiments.exporting_ahead import exports
from imgclf.experiments.history import recording, runs, tracking
from imgclf.experiments.kernels import Kernels
from imgclf.experiments.notebooks import LAST
from imgclf.finetuning import learning_curve, record
from imgclf.networks.hub import repository
from imgclf.parameters import SVM, Value, project_file
from imgclf.parameters.precedence import NOTEBOOK

UP_TO_DATE = "none: all results are up to date; imgclf run --from 00 runs all again"
RESTART_LINE = "\r\x1b[K"  # on a terminal: overwrite the line
LIVE = "IMGCLF_LIVE"  # environment variable of a command whose output is shown as a terminal shows it
LAST_SCAN = "last scan"  # source of a value
NO_VALUES: Mapping[str, Value] = {}


@project_file.fixed()
def run(
    values: Mapping[str, Value], *, start_from: str | None = None, fetches: bool = True
) -> tuple[str, Path | None]:
    """Execute the notebooks through papermill, up to 05_evaluate; stop at the first failure.

    Prints the images and the parameters that it runs with, without `start_from` also the plan; then a line
    for each notebook: its name when it starts, on a terminal what its progress bars show, and the seconds it
    took when it ends.

    Parameters
    ----------
    values : parameters; each notebook gets those that it takes.
    start_from : the first notebook, by its number or name; it and all later ones run. By default, those run
        whose results are not up to date, see `provenance.outdated`.
    fetches : whether 00_get_images may run, too.

    Returns
    -------
    The name of the data set, and the folder of the run in the history, with the executed notebooks; None if
    all were up to date.

    Raises
    ------
    ImgclfError : a cell failed; the message holds its error and the path of the executed notebook. Or an
        earlier notebook would have to run; see `plan.check_start`.
    KeyboardInterrupt : Ctrl-C or SIGTERM; the message says how to go on.
    """
    left_out, chosen = _divided(start_from)
    chosen = chosen if fetches else [path for path in chosen if path.name[:2] != "00"]
    set_values = {**plan.wanted(chosen[0], values), **values}
    parameters.check_together(set_values)
    dataset_name, images_dir = str(set_values["dataset_name"]), str(set_values["images_dir"])
    given, values = values, plan.with_known_folder(values, dataset_name, images_dir)
    of_scan = [name for name in values if values[name] != given.get(name)]
    plan.check_folder(dataset_name, str(values.get("images_dir", images_dir)), chosen[0].name[:2])
    plan.check_agreement(chosen, values)
    lines = [
        _images_line({**set_values, **values}),
        *changed_parameters(chosen, values, of_scan=of_scan),
        *without_effect(chosen, values),
        *_other_folder(set_values, values, usual=plan.wanted(chosen[0], {})),
    ]
    print("\n".join(lines), flush=True)
    with stoppable(), files.lock(files.proc_dir(dataset_name)):
        if start_from:
            plan.check_start(chosen, left_out, values)
            to_run = chosen
        else:
            steps = plan.make(chosen, values)
            print(f"\n{plan.text(steps)}")
            chosen = [step.path for step in steps]
            plan.check_used(chosen, values)
            to_run = [step.path for step in steps if step.reason]
        backbones = [str(plan.wanted(path, values).get("backbone")) for path in to_run]
        for line in repository.descriptions(backbones):
            print(line, flush=True)
        return dataset_name, _execute(dataset_name, chosen, values, is_planned=not start_from)


def _execute(
    dataset_name: str, chosen: Sequence[Path], values: Mapping[str, Value], *, is_planned: bool
) -> Path | None:
    """Execute notebooks, or those that are not up to date, as one run of the history; return its folder."""
    # Whether one is up to date is known when those before it have run.
    outdated = (path for path in chosen if not is_planned or plan.make([path], values)[0].reason)
    if (first := next(outdated, None)) is None:
        _hand_in()
        return None
    stages = [plan.wanted(path, values) for path in notebooks.stages()]
    used = {name: each[name] for each in stages for name in each}
    run = runs.start(runs.BY_RUN, dataset_name, used)
    print()
    process: tracking.Process | None = None
    with ExitStack() as stack:
        with (
            runs.attempt(run),
            runs.executing(run),
            exports(used) if first.name[:2] < "02" else nullcontext(),
            Kernels() as kernels,
        ):
            for path in chain([first], outdated):
                if not process and (path != first or path == chosen[-1]):  # 00 needs all cores
                    process = stack.enter_context(tracking.prepared())
                _execute_one(path, run.folder, values, is_planned=is_planned, kernels=kernels)
        run = recording.finish(run, stages[-1])
        _hand_in(process)
    return run.folder


def _hand_in(process: tracking.Process | None = None) -> None:
    """Hand in runs to MLflow, and say if something could not be handed in."""
    if sentence := tracking.hand_in_all(process=process):
        print(f"\n{sentence}")


def _execute_one(
    path: Path,
    folder: Path,
    values: Mapping[str, Value],
    *,
    is_planned: bool,
    kernels: Kernels,
) -> None:
    """Execute one notebook, and print its line."""
    print(f"{path.stem:<18}", end="", flush=True)
    try:
        progress = _progress_line(path.stem)
        seconds = execute(path, folder, values, progress=progress, kernels=kernels)
    except ImgclfError:
        _end_line(path.stem, "failed")
        raise
    except KeyboardInterrupt:
        _end_line(path.stem, "stopped")
        again = command("" if is_planned else path.stem[:2], values)
        raise KeyboardInterrupt(f"stopped in {path.stem}; to go on: {again}") from None
    _end_line(path.stem, f"{seconds:6.1f} s")


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise KeyboardInterrupt at SIGTERM too, so that it ends kernels as Ctrl-C does."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # only there signals can be handled
        yield
        return
    earlier = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


def command(start_from: str, values: Mapping[str, Value]) -> str:
    """Return the command line of a run with these parameters, quoted for a shell.

    Parameters
    ----------
    start_from : number of the first notebook; empty to let the run choose it.
    """
    assignments = [f"{name}={_as_argument(value)}" for name, value in values.items()]
    start = ["--from", start_from] if start_from else []
    words = ["imgclf", "run", *start, *(word for each in assignments for word in ("-p", each))]
    return shlex.join(words)


def _as_argument(value: Value) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _images_line(values: Mapping[str, Value]) -> str:
    folder = dataset.images_folder(str(values["dataset_name"]), str(values["images_dir"]))
    with suppress(ImgclfError):
        return f"{scan.count_images(folder):,} images in {dataset.location(folder)}"
    return f"no images in {dataset.location(folder)} yet"


def _other_folder(
    set_values: Mapping[str, Value], values: Mapping[str, Value], *, usual: Mapping[str, Value]
) -> list[str]:
    """Return a line if a run of another data set than usual takes the folder set for the notebooks."""
    is_usual = set_values["dataset_name"] == usual["dataset_name"]
    if not set_values["images_dir"] or "images_dir" in values or is_usual:
        return []
    return [
        f"CAREFUL: images_dir is still {set_values['images_dir']}, and its images are called "
        f"{set_values['dataset_name']}; add -p images_dir= to use those in {files.data_dir() / 'images'}"
    ]


def changed_parameters(
    chosen: Sequence[Path], values: Mapping[str, Value], *, of_scan: Collection[str] = ()
) -> list[str]:
    """Return a line with source for each parameter that is not default in a notebook of a run.

    Parameters
    ----------
    values : given to all notebooks. Values in their own cells may differ between them.
    of_scan : those of the names in `values` that nobody gave: they are from the last scan.
    """
    used: dict[str, dict[tuple[str, str], list[str]]] = {}  # name -> value as code, source -> notebooks
    shown = set()
    for path in chosen:
        for name, setting in plan.settings(path, values).items():
            key = parameters.code(setting.value), LAST_SCAN if name in of_scan else setting.source
            used.setdefault(name, {}).setdefault(key, []).append(path.name[:2])
            if not setting.is_default:
                shown.add(name)
    return [
        f"{name} = {value} ({_source(source, numbers, is_one=len(used[name]) == 1)})"
        for name in used
        if name in shown
        for (value, source), numbers in used[name].items()
    ]


def _source(source: str, numbers: Sequence[str], *, is_one: bool) -> str:
    if source == NOTEBOOK:
        return f"the cell of {', '.join(numbers)}"
    return source if is_one else f"{source}, in {', '.join(numbers)}"


def without_effect(chosen: Sequence[Path], values: Mapping[str, Value]) -> list[str]:
    """Return a line for each parameter that is given or changed, but does not change the classifier."""
    settings = {name: each for path in chosen for name, each in plan.settings(path, values).items()}
    merged = {**{name: setting.value for name, setting in settings.items()}, **values}
    return [
        sentence
        for name in merged
        if (sentence := parameters.idle(name, merged)) and (name in values or not settings[name].is_default)
    ]


def _progress_line(name: str) -> Callable[[str], None] | None:
    """Return a function that shows the progress of a notebook in its line; None if that is no terminal."""
    if not _is_live():
        return None

    def show(progress: str) -> None:
        room = max(shutil.get_terminal_size().columns - 20, 0)
        print(f"{RESTART_LINE}{name:<18}{progress[:room]}", end="", flush=True)

    return show


def _end_line(name: str, text: str) -> None:
    print(f"{RESTART_LINE}{name:<18}{text}" if _is_live() else text, flush=True)


def _is_live() -> bool:
    return sys.stdout.isatty() or LIVE in os.environ


def as_shown(printed: str) -> str:
    """Return what a terminal shows of the output of a run: without the lines that were overwritten."""
    return "\n".join(line.rpartition(RESTART_LINE)[2] for line in printed.split("\n"))


def _divided(start_from: str | None) -> tuple[list[Path], list[Path]]:
    """Return the notebooks before the one of this number or name, and the others; None for the first."""
    paths = [path for path in notebooks.paths() if path.name[:2] <= LAST]
    for k, path in enumerate(paths):
        names = (path.stem, path.name)
        if start_from is None or start_from in names or start_from.zfill(2) == path.name[:2]:
            return paths[:k], paths[k:]
    raise ImgclfError(
        f"--from {start_from}: no such notebook; there are {', '.join(path.stem for path in paths)}"
    )


def closing_report(dataset_name: str, folder: Path | None, values: Mapping[str, Value] = NO_VALUES) -> str:
    """Return the accuracies of a run with these parameters and the paths of its files, as text.

    Parameters
    ----------
    folder : of the run, with the executed notebooks; None if all results were up to date.
    """
    proc = files.proc_dir(dataset_name)
    evaluated_on = plan.wanted(notebooks.path(LAST), values)["evaluate_on"]
    results = report.results_folder(proc, str(evaluated_on))
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
    figures = report.read(results)
    if figures.get("classifier") != SVM and (done := record.read(proc)):
        validation = len(done.held_back)
        curve = learning_curve.summary(done.epochs, validation_images=validation)
        notes.append(f"fine-tuning, validated on {validation} images: {curve}")
    if notes:
        notes.append("")
    if (page := results / recording.REPORT).exists():
        notes.append(f"the report           {page}")
    return "\n".join(
        [
            report.table(figures),
            "",
            *notes,
            f"executed notebooks   {folder or UP_TO_DATE}",
            f"pictures, figures    {results}",
            f"the classifier       {proc / files.CLASSIFIER}",
        ]
    )
