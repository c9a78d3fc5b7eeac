"""A parameter sweep: the notebooks once for each combination of parameters, each as a trial."""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from imgclf import ImgclfError, __version__, files, parameters
from imgclf.classifier.model import Classifier
from imgclf.data import dataset, folders, remote, split, split_check
from imgclf.data.dataset import Dataset
from imgclf.data.split import Split
from imgclf.experiments import notebooks, plan, provenance, remote_trials, sequence, trials
from imgclf.experiments.execution import execute
from imgclf.experiments.history import recording, runs, tracking
from imgclf.experiments.kernels import Kernels
from imgclf.experiments.remote_trials import Job
from imgclf.experiments.trials import Trial
from imgclf.features import copy_detection, inference
from imgclf.images.loading import load_all
from imgclf.images.workers import HERE, Workers
from imgclf.networks import backbones
from imgclf.networks.hub import repository
from imgclf.parameters import Value, project_file

NOTEBOOKS = ("02", "03", "04", "05")  # of each trial; one scan serves all trials with its near_duplicates
NOTEBOOK = "07"  # runs a sweep and shows its results
TIMED_IMAGES = 64
UNFINISHED = "interrupted"


@project_file.fixed()
def run(
    dataset_name: str,
    images_dir: str,
    grid: str,
    *,
    workers: Workers = HERE,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Trial]:
    """Run notebooks 02 to 05 for each combination of parameters, on the same images; print a line for each.

    Each trial runs as a data set of its own beside `dataset_name`, whose results stay as they are. Trials
    that finished in an earlier sweep on the same images, labels and split are kept; failed ones are retried.
    A trial that fails does not stop the others.

    Parameters
    ----------
    grid : parameter grid, as `trials.parse_grid` reads it; empty for no trials.
    workers : of a cluster that sees the data folder and the images at the same paths; each runs a trial.
    progress : called before and after each notebook, or after each trial of a cluster, with the number of
        notebooks that were run, and of those and the ones to come; trials that are kept count for neither.

    Raises
    ------
    ImgclfError : there are no images to train on, or the grid is invalid, or all trials failed.
    """
    if not grid.strip():
        print("the grid is empty: no trials")
        return []
    combinations = trials.combinations(trials.parse_grid(grid))
    check_distinct(combinations)
    for name, value in trials.FIXED_VALUES.items():
        if (left := _cells().get(name, value)) != value:
            print(f"{name} = {left!r} in the notebooks is not used: all trials have {name} = {value!r}")
    folder = _images_folder(dataset_name, images_dir)
    scans: dict[str, Dataset] = {}  # by near_duplicates, a parameter of the scan
    for near in sorted({_settings(values)["near_duplicates"] for values in combinations}):
        scans[near] = copy_detection.scan_folder(dataset_name, folder, near_duplicates=near, workers=workers)
        dataset.check(scans[near])
        _check_split_parameters(scans[near], combinations)
    for line in repository.descriptions(str(_settings(values)["backbone"]) for values in combinations):
        print(line, flush=True)
    pairs = [(scans[_settings(values)["near_duplicates"]], values) for values in combinations]
    computed = _by_cluster(pairs, workers, progress) if workers.cluster else _here(pairs, progress)
    results: list[Trial] = []
    with closing(computed):
        for number, values in enumerate(combinations, start=1):
            print(f"{number} of {len(combinations)}: {trials.values_as_text(values)}: ", end="", flush=True)
            results.append(next(computed))
            print(results[-1], flush=True)
    if sentence := tracking.hand_in_all():
        print(sentence)
    if all(trial.error for trial in results):
        reasons = "; ".join(dict.fromkeys(trial.error for trial in results))
        which = f"all {len(results)} trials" if len(results) > 1 else "the only trial"
        raise ImgclfError(f"{which} failed: {reasons}")
    return results


@project_file.fixed()
def run_headless(values: Mapping[str, Value]) -> str:
    """Execute 07_compare_runs with these parameters through papermill, and return its tables as text.

    The output of its cells is printed here too.

    Raises
    ------
    ImgclfError : as `run`; or, at the end, that a trial failed.
    KeyboardInterrupt : Ctrl-C or SIGTERM; the message says how to go on.
    """
    grid = trials.parse_grid(str(values["grid"]))
    path = notebooks.path(NOTEBOOK)
    # The notebook runs in another folder, so it gets the grid as parsed: with absolute paths.
    given = {**values, "grid": trials.grid_as_text(grid)}
    set_values = plan.wanted(path, given)
    parameters.check_together(set_values)
    check_distinct(trials.combinations(grid))
    dataset_name = str(set_values["dataset_name"])
    _images_folder(dataset_name, str(set_values["images_dir"]))  # fails before a kernel starts
    repository.descriptions(map(str, grid.get("backbone", [])))  # so does this
    folder = runs.new_folder(f"{dataset_name} sweep")
    try:
        with sequence.stoppable():
            execute(path, folder, given, output=sys.stdout)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            "stopped; run the same sweep again to go on: finished trials are kept"
        ) from None
    names = [trials.trial_name(dataset_name, values) for values in trials.combinations(grid)]
    results = [trial for name in names if (trial := trials.read(name))]
    failed = [f"{trials.values_as_text(trial.values)}: {trial.error}" for trial in results if trial.error]
    text = "\n".join(
        [
            trials.table(results).to_string(),
            "",
            trials.times(results).to_string(),
            "",
            f"the notebook        {folder / path.name}",
            f"each trial's files  {files.proc_dir(f'{dataset_name}@…')}",
        ]
    )
    if failed:
        print(text, flush=True)
        raise ImgclfError(
            f"{len(failed)} of {len(names)} trials failed (run the sweep again to retry them; "
            f"the others are kept): {'; '.join(failed)}"
        )
    return text


def check_distinct(combinations: Sequence[dict[str, Value]]) -> None:
    """Refuse a grid with trials that cannot differ, and say why.

    Raises
    ------
    ImgclfError : two combinations differ only in parameters that do not change the classifier.
    """
    first: dict[str, dict[str, Value]] = {}
    for values in combinations:
        settings = _settings(values)
        why = {name: reason for name in values if (reason := parameters.idle(name, settings))}
        effective = {name: value for name, value in values.items() if name not in why}
        if "input_size" in effective:
            side = backbones.known_side(str(settings["backbone"]), values["input_size"])
            effective["input_size"] = side
            why["input_size"] = f"input_size = 0 is {side} of {settings['backbone']}"
        other = first.setdefault(json.dumps(effective), values)
        if different := [name for name in why if other[name] != values[name]]:
            raise ImgclfError(
                f"grid: {trials.values_as_text(other)} and {trials.values_as_text(values)} would be the same "
                f"trial: {why[different[0]]}; give {different[0]} one value, or sweep the others alone"
            )


def _check_split_parameters(scanned: Dataset, combinations: Sequence[dict[str, Value]]) -> None:
    """Refuse several values of a parameter of the split that has no effect on these images."""
    for name, reason in split_check.idle_settings(scanned, split_by="group").items():
        if len(tried := {values[name] for values in combinations if name in values}) > 1:
            raise ImgclfError(
                f"grid: the trials with {name}={', '.join(map(str, sorted(tried)))} would be the same: "
                f"{reason}; give {name} one value"
            )


def _images_folder(dataset_name: str, images_dir: str) -> Path:
    """Return the folder of the images.

    Raises
    ------
    ImgclfError : there is no such folder.
    """
    folder = dataset.images_folder(dataset_name, images_dir)
    remote.follow(folder)
    if not folder.is_dir():
        raise ImgclfError(
            f"{folder}: no images of {dataset_name} yet{folders.nearest(folder)}; "
            "run 00_get_images first, or set images_dir"
        )
    return folder


def _here(
    pairs: Sequence[tuple[Dataset, dict[str, Value]]], progress: Callable[[int, int], None]
) -> Generator[Trial]:
    """Yield the trials, computed by this process one after another."""
    ran = 0
    for number, (scanned, values) in enumerate(pairs):

        def show(done: int, before: int = ran, to_come: int = len(pairs) - number) -> None:
            nonlocal ran
            ran = before + done
            progress(ran, before + len(NOTEBOOKS) * to_come)

        yield trial(scanned, values, progress=show)


def _by_cluster(
    pairs: Sequence[tuple[Dataset, dict[str, Value]]],
    workers: Workers,
    progress: Callable[[int, int], None],
) -> Generator[Trial]:
    """Yield the trials, computed by the workers of a cluster; those that finished earlier are kept."""
    with remote_trials.token(pairs[0][0].name) as token:
        planned = [(*pair, _planned(*pair)[1]) for pair in pairs]
        kept = [_finished(*each) for each in planned]
        jobs = [Job(*each, token) for each, earlier in zip(planned, kept, strict=True) if not earlier]
        with closing(remote_trials.run(jobs, workers)) as computed:
            ran = 0
            for (scanned, values, _), earlier in zip(planned, kept, strict=True):
                if not earlier:
                    earlier = next(computed) or trial(scanned, values)  # None: the cluster is lost
                    ran += len(NOTEBOOKS)
                    progress(ran, len(NOTEBOOKS) * len(jobs))
                yield earlier


def _planned(scanned: Dataset, values: Mapping[str, Value]) -> tuple[Split, str]:
    """Return the split of a trial, and its fingerprint."""
    settings = _settings(values)
    parts = split.split(
        scanned,
        train_fraction=settings["train_fraction"],
        split_by=settings["split_by"],
        seed=settings["seed"],
    )
    return parts, _fingerprint(settings, parts)


def _finished(scanned: Dataset, values: Mapping[str, Value], fingerprint: str) -> Trial | None:
    """Return an earlier trial with these values and this fingerprint that did not fail."""
    earlier = trials.read(trials.trial_name(scanned.name, values))
    is_same = earlier and not earlier.error and earlier.fingerprint == fingerprint
    return earlier if is_same else None


def trial(
    scanned: Dataset,
    values: dict[str, Value],
    *,
    fingerprint: str = "",
    progress: Callable[[int], None] = lambda done: None,
) -> Trial:
    """Return the trial of these values: an earlier one, or run it now.

    Parameters
    ----------
    fingerprint : that it must have, of the machine that planned it; "" for any.
    progress : called before and after each notebook with the number that were run.

    Raises
    ------
    ImgclfError : its fingerprint is another one, or its folder cannot be written.
    """
    name, settings = trials.trial_name(scanned.name, values), _settings(values)
    parts, own = _planned(scanned, values)
    if fingerprint not in ("", own):
        raise ImgclfError(
            f"{name}: a worker of the cluster has other notebooks or files, another imgclf.toml or, with "
            "precision='auto', another processor than this machine; make them the same, or set cluster=''"
        )
    fingerprint = own
    with files.lock(files.proc_dir(name)):
        if earlier := _finished(scanned, values, fingerprint):
            return earlier
        result = Trial(name, values, fingerprint, {}, error=UNFINISHED)
        trials.write(result)
        given = {
            **settings,
            **trials.FIXED_VALUES,
            "dataset_name": scanned.name,
            "images_dir": dataset.location(scanned.folder),
            "cluster": "",
        }
        try:
            run = runs.start(runs.TRIAL, scanned.name, given, values=values)
            with runs.attempt(run), runs.executing(run):
                result = _run(result, run.folder, scanned, parts, progress)
            recording.finish(run, {**given, "dataset_name": name})
        except ImgclfError as error:
            result = replace(result, error=str(error))
        trials.write(result)
    return result


def _settings(values: Mapping[str, Value]) -> dict[str, Any]:
    """All parameters of a trial: its own values, and those of the notebooks for the rest."""
    together = {**_cells(), **values, **trials.FIXED_VALUES}
    return {name: value for name, value in together.items() if name not in trials.FIXED_PARAMETERS}


def _cells() -> dict[str, Value]:
    """The values of notebooks 01 to 05 without a trial: of their cells, the project, or the defaults."""
    return {name: value for path in notebooks.stages() for name, value in plan.wanted(path, {}).items()}


def _fingerprint(settings: Mapping[str, Value], parts: Split) -> str:
    """Hash of everything that a trial depends on, with the code of its notebooks; of a backbone in a file,
    also of its content; with precision="auto", of the processor."""
    code = [notebooks.code_sha256(path) for path in notebooks.paths() if path.name[:2] in NOTEBOOKS]
    about = [__version__, code, settings, dataset.fingerprint(parts.train), dataset.fingerprint(parts.test)]
    backbone = Path(str(settings["backbone"]))
    if backbone.is_file():
        about.append(files.sha256(backbone))
    if settings["precision"] == "auto":
        about.append(inference.processor(str(settings["engine"])))
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _run(
    trial: Trial, folder: Path, scanned: Dataset, parts: Split, progress: Callable[[int], None]
) -> Trial:
    """Run the notebooks of a trial; `folder` is for the executed ones."""
    own = replace(scanned, name=trial.name)
    dataset.write(own)
    split.write(own, parts)
    given = {
        **trial.values,
        **trials.FIXED_VALUES,
        "dataset_name": trial.name,
        "images_dir": dataset.location(scanned.folder),
        "cluster": "",  # a trial that a worker runs, too
    }
    provenance.write("01", {**_settings(trial.values), **given})  # as notebook 01 would
    seconds: dict[str, float] = {}
    with Kernels() as kernels:
        for path in notebooks.paths():
            if path.name[:2] in NOTEBOOKS:
                progress(len(seconds))
                seconds[path.name[:2]] = execute(path, folder, given, kernels=kernels)
                progress(len(seconds))
    milliseconds, input_size = _milliseconds(trial, own, parts)
    return replace(trial, seconds=seconds, milliseconds=milliseconds, input_size=input_size, error="")


def _milliseconds(trial: Trial, scanned: Dataset, parts: Split) -> tuple[float, int]:
    """Inference time per image, from pixels to probabilities, as the fastest of three rounds; and the side of
    the images, pixels.
    """
    settings = _settings(trial.values)
    some = parts.test[:: max(1, len(parts.test) // TIMED_IMAGES)][:TIMED_IMAGES]
    with Classifier.load(
        files.proc_dir(trial.name) / files.CLASSIFIER,
        engine=settings["engine"],
        precision=settings["precision"],
        batch_size=settings["inference_batch_size"],
    ) as loaded:
        pixels = load_all([scanned.file(image) for image in some], loaded.preprocessing)
        fastest = min(_seconds(loaded, pixels) for _ in range(3))
        return fastest / len(pixels) * 1000, loaded.preprocessing.input_size


def _seconds(loaded: Classifier, pixels: np.ndarray) -> float:
    start = time.perf_counter()
    loaded.scores(pixels)
    return time.perf_counter() - start
