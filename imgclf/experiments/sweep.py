"""A sweep: the notebooks once for each combination of parameters, and what came of it."""

import hashlib
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from imgclf import ImgclfError, __version__, files, parameters
from imgclf.classifier.model import Classifier
from imgclf.data import dataset, scan, split
from imgclf.data.dataset import Dataset
from imgclf.data.split import Split
from imgclf.experiments import notebooks, sequence, trials
from imgclf.experiments.trials import Trial
from imgclf.images.loading import load_all
from imgclf.parameters import Value

NOTEBOOKS = ("02", "03", "04", "05")  # of each trial; the images are looked through once for all
NOTEBOOK = "07"  # which runs a sweep and shows what came of it
TIMED_IMAGES = 64
UNFINISHED = "stopped before its end"


def run(dataset_name: str, images_dir: str, grid: str) -> list[Trial]:
    """Run notebooks 02 to 05 for each combination of parameters, on the same images, and print a line for each.

    Each runs as a data set of its own beside `dataset_name`, whose results stay as they are. What an earlier sweep has done on the same images,
    labels and split is kept; what failed is tried again. A trial that fails does not stop the others.

    Parameters
    ----------
    grid : as `trials.choices` reads it.

    Raises
    ------
    ImgclfError : no images to learn from, or a grid that makes no sense.
    """
    chosen = trials.combinations(trials.choices(grid))
    folder = dataset.images_folder(dataset_name, images_dir)
    if not folder.is_dir():
        raise ImgclfError(
            f"{folder}: no images of {dataset_name} yet; run 00_get_images first, or set images_dir"
        )
    found = scan.scan_folder(dataset_name, folder)
    dataset.check(found)
    done = []
    for number, values in enumerate(chosen, start=1):
        print(f"{number} of {len(chosen)}: {trials.told(values)}: ", end="", flush=True)
        done.append(_trial(found, values))
        print(done[-1], flush=True)
    return done


def headless(values: Mapping[str, Value]) -> str:
    """Run 07_compare_runs with these parameters through papermill; gives what came of it, as text. What it prints, it prints here too.

    Raises
    ------
    ImgclfError : as `run`; or, at the end, a trial failed.
    """
    chosen = trials.choices(str(values["grid"]))
    path = next(path for path in notebooks.paths() if path.name.startswith(NOTEBOOK))
    set_values = {
        **notebooks.read(path),
        **values,
        "grid": trials.as_grid(chosen),
    }  # paths in it are whole now: the notebook runs elsewhere
    parameters.check_together(set_values)
    folder = sequence.new_folder()
    sequence.execute(path, folder, set_values, output=sys.stdout)
    dataset_name = str(set_values["dataset_name"])
    names = [trials.name_of(dataset_name, values) for values in trials.combinations(chosen)]
    done = [trial for name in names if (trial := trials.read(name))]
    failed = [f"{trials.told(trial.values)}: {trial.error}" for trial in done if trial.error]
    text = "\n".join(
        [
            trials.table(done).to_string(),
            "",
            trials.times(done).to_string(),
            "",
            f"the notebook        {folder / path.name}",
            f"each trial's files  {files.proc_dir(f'{dataset_name}@…')}",
        ]
    )
    if failed:
        print(text, flush=True)
        raise ImgclfError(
            f"{len(failed)} of {len(names)} trials failed (run it again to try those again; the others are kept): "
            + "; ".join(failed)
        )
    return text


def _trial(found: Dataset, values: dict[str, Value]) -> Trial:
    """The trial of these values: kept, or run now."""
    name, settings = trials.name_of(found.name, values), _settings(values)
    parts = split.split(
        found, train_fraction=settings["train_fraction"], split_by=settings["split_by"], seed=settings["seed"]
    )
    fingerprint = _fingerprint(settings, parts)
    with files.lock(files.proc_dir(name)):
        kept = trials.read(name)
        if kept and not kept.error and kept.fingerprint == fingerprint:
            return kept
        trial = Trial(name, values, fingerprint, {}, error=UNFINISHED)
        trials.write(trial)
        try:
            trial = _run(trial, found, parts)
        except ImgclfError as error:
            trial = replace(trial, error=str(error))
        trials.write(trial)
    return trial


def _settings(values: Mapping[str, Value]) -> dict[str, Value]:
    """All parameters of a trial: its own values, and for the rest what stands in the notebooks."""
    cells = [notebooks.read(path) for path in notebooks.paths() if path.name[:2] in trials.STAGES]
    return {
        name: value
        for cell in [*cells, values]
        for name, value in cell.items()
        if name not in trials.NOT_TRIED
    }


def _fingerprint(settings: Mapping[str, Value], parts: Split) -> str:
    """Of all that a trial depends on."""
    about = [__version__, settings, dataset.fingerprint(parts.train), dataset.fingerprint(parts.test)]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _run(trial: Trial, found: Dataset, parts: Split) -> Trial:
    own = replace(found, name=trial.name)
    dataset.write(own)
    split.write(own, parts)
    folder, seconds = sequence.new_folder(), {}
    given = {**trial.values, "dataset_name": trial.name, "images_dir": str(found.folder)}
    for path in notebooks.paths():
        if path.name[:2] in NOTEBOOKS:
            seconds[path.name[:2]] = sequence.execute(path, folder, given)
    return replace(trial, seconds=seconds, milliseconds=_milliseconds(trial, own, parts), error="")


def _milliseconds(trial: Trial, found: Dataset, parts: Split) -> float:
    """What the classifier takes for an image in use, from pixels to probabilities; the shortest of three rounds."""
    settings = _settings(trial.values)
    loaded = Classifier.load(
        files.proc_dir(trial.name) / files.CLASSIFIER,
        engine=settings["engine"],
        precision=settings["precision"],
        batch_size=settings["inference_batch_size"],
    )
    some = parts.test[:: max(1, len(parts.test) // TIMED_IMAGES)][:TIMED_IMAGES]
    pixels = load_all([found.file(image) for image in some], loaded.preprocessing)
    return min(_seconds(loaded, pixels) for _ in range(3)) / len(pixels) * 1000


def _seconds(loaded: Classifier, pixels: np.ndarray) -> float:
    start = time.perf_counter()
    loaded.scores(pixels)
    return time.perf_counter() - start
