"""One run of the history: the object, and its `run.json`."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from imgclf import ImgclfError, files, parameters
from imgclf.data.split_check import TRAIN

RUNNING, FINISHED, FAILED = "running", "finished", "failed"  # status
BY_RUN, BY_HAND, TRIAL, IMPORTED = "imgclf run", "by hand", "trial", "imported"  # kind
RECORD = "run.json"
ID = re.compile("[0-9a-f]{32}")
ACCURACY = "overall accuracy"  # a metric; the folder's name has it
CLASS_AVERAGED = "class-averaged accuracy"
ENDS = (" low", " high")  # of the name of a metric: the ends of its 95 % interval

SCALAR = str | int | float | bool | None
KINDS = {
    **dict.fromkeys(("id", "name", "kind", "dataset_name", "started", "status", "error", "note"), str),
    **dict.fromkeys(("parameters", "values"), dict[str, SCALAR | list[SCALAR]]),
    **dict.fromkeys(("metrics", "seconds", "peak_memory_mb"), dict[str, float]),
    "curves": dict[str, list[list[float]]],
    "counts": dict[str, dict[str, float]],
    **dict.fromkeys(("about", "handed_in", "handed_in_edits"), dict[str, str]),
    "tags": list[str],
}
MAX_BYTES = 2**24  # of run.json: a class accuracy of 10,000 labels has 1 MB
MOST = 1e15  # of a metric, seconds or memory; more is nonsense, and is not shown as a percentage
FIRST_YEAR, LAST_YEAR = 1971, 9998  # in any time zone, times are positive and can be computed with
SHORT_ID = 8  # digits that people see


@dataclass(frozen=True)
class Run:
    """One run; the names of the attributes, but for `folder`, are the keys of `run.json`.

    Attributes
    ----------
    folder : of its files.
    id : 32 hexadecimal digits.
    name : at first that of the folder; a person may change it, and the folder keeps its name.
    kind : `BY_RUN`, `BY_HAND`, `TRIAL` or `IMPORTED`.
    dataset_name : name of the data set; of a trial that of its sweep.
    started : ISO 8601 with offset from UTC, in seconds.
    status : `RUNNING`, `FINISHED` or `FAILED`. error : why it failed.
    parameters : of notebooks 01 to 05.
    metrics : accuracies and areas, 0 to 1, with the bounds of their 95 % intervals; by names for people, as
        "overall accuracy", "overall accuracy low", "ROC area of class LABEL". NaN is left out.
    curves : points [x, y] by name: "out-of-fold accuracy over C"; "training error" and "validation error" by
        epoch.
    counts : images of each label, in "train" and in "test".
    about : fingerprints of split and data, sha256 of the classifier, versions, commit, `evaluated_on`,
        processor.
    seconds, peak_memory_mb : of each notebook, by its number.
    values : of a trial, its own values of the sweep.
    note, tags : of a person.
    handed_in : id of the copy in MLflow, by the URI of its server or database.
    handed_in_edits : hashes of name, note and tags as they are there, by that URI.
    """

    folder: Path
    id: str
    name: str
    kind: str
    dataset_name: str
    started: str
    status: str = RUNNING
    error: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, list[list[float]]] = field(default_factory=dict)
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    about: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_memory_mb: Mapping[str, float] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    tags: tuple[str, ...] = ()
    handed_in: Mapping[str, str] = field(default_factory=dict)
    handed_in_edits: Mapping[str, str] = field(default_factory=dict)

    @property
    def short_id(self) -> str:
        """The first digits of the id."""
        return self.id[:SHORT_ID]

    @property
    def time(self) -> datetime:
        """When it started."""
        return datetime.fromisoformat(self.started)


def read(folder: Path) -> Run:
    """Return the run in a folder.

    Raises
    ------
    ValueError : its `run.json` is damaged.
    """
    try:
        stored = json.loads(files.read_bytes(folder / RECORD, max_bytes=MAX_BYTES))
        known = {each.name: stored[each.name] for each in fields(Run) if each.name in stored}
        run = Run(folder=folder, **{key: value for key, value in known.items() if key != "folder"})
        wrong = [key for key, kind in KINDS.items() if not _is_of(getattr(run, key), kind)]
        if wrong or not ID.fullmatch(run.id) or run.time.tzinfo is None:
            raise ValueError(f"{', '.join(wrong) or 'id or time'} of another type")
        if run.dataset_name:  # untrusted: it may name another folder
            parameters.check("dataset_name", run.dataset_name)
        if not FIRST_YEAR <= run.time.year <= LAST_YEAR:
            raise ValueError("no time of a run")
        numbers = [*run.metrics.values(), *run.seconds.values(), *run.peak_memory_mb.values()]
        if any(abs(number) > MOST for number in numbers):
            raise ValueError("a number is too large")
        if not all(len(point) == 2 for curve in run.curves.values() for point in curve):
            raise ValueError("a point of a curve has two numbers")
        return replace(run, tags=tuple(run.tags))
    except (ImgclfError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{folder / RECORD}: damaged") from error


def _is_of(value: Any, kind: Any) -> bool:
    return files.is_of(list(value) if isinstance(value, tuple) else value, kind)


def write(run: Run) -> Run:
    """Write `run.json`; numbers that JSON lacks are left out."""
    metrics = {name: value for name, value in run.metrics.items() if math.isfinite(value)}
    curves = {
        name: [list(point) for point in points if all(map(math.isfinite, point))]
        for name, points in run.curves.items()
    }
    run = replace(run, metrics=metrics, curves=curves)
    files.write_json(run.folder / RECORD, {key: value for key, value in vars(run).items() if key != "folder"})
    return run


def interval(metrics: Mapping[str, float], name: str) -> tuple[float, float] | None:
    """Return the 95 % interval of a metric; None without one."""
    low, high = (metrics.get(name + end) for end in ENDS)
    return None if low is None or high is None else (low, high)


def is_end(metrics: Mapping[str, float], name: str) -> bool:
    """Whether it is an end of the interval of another metric; the label of a class may end so too."""
    return any(name.endswith(end) and name.removesuffix(end) in metrics for end in ENDS)


def in_percent(metrics: Mapping[str, float], name: str) -> str:
    """Return an accuracy with its 95 % interval as text; "" if there is none."""
    if name not in metrics:
        return ""
    ends = interval(metrics, name)
    return f"{metrics[name]:.1%}" + (f" ({ends[0]:.0%} to {ends[1]:.0%})" if ends else "")


def folder_name(run: Run) -> str:
    """Return what the folder of a run is called: time, data set, classifier and the like."""
    words = [f"{run.time:%Y-%m-%d %H%M}", run.dataset_name, str(run.parameters.get("classifier", ""))]
    return " ".join(filter(None, [*words, circumstances(run)]))


def circumstances(run: Run) -> str:
    """Return what a person must know beside the accuracy: training images, and the values of a trial."""
    words = ["on training images"] if run.about.get("evaluated_on") == TRAIN else []
    values = {
        name: value.rpartition("/")[2] if isinstance(value, str) else value  # of a path, the file
        for name, value in run.values.items()
        if name != "classifier"
    }
    if values:
        from imgclf.experiments import trials  # here, since it loads all that evaluates

        words.append(trials.values_as_text(values))
    return " ".join(words)
