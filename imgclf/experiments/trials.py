"""Trials: the results of each combination of parameters that was tried on a data set.

A trial runs as a data set of its own, on the same images: its folder below `proc/` holds all files of a run,
and `trial.json`.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from imgclf import ImgclfError, files, parameters
from imgclf.data.split_check import TEST
from imgclf.evaluation import comparison, report
from imgclf.evaluation.metrics import Accuracy, Evaluation
from imgclf.experiments.notebooks import STAGES
from imgclf.parameters import Value

if TYPE_CHECKING:
    import pandas as pd

FIXED_PARAMETERS = ("dataset_name", "images_dir", "cluster")  # the same for all trials
FIXED_VALUES = {"evaluate_on": TEST}  # of every trial, whatever the cells say
KINDS = {
    **dict.fromkeys(("name", "fingerprint", "error"), str),
    "values": dict[str, str | bool | float | list[float]],
    "seconds": dict[str, float],
    "milliseconds": float | None,
    "input_size": int,
}
LONGEST_NAME = 120  # letters; file systems take 255 bytes


@dataclass(frozen=True)
class Trial:
    """One combination of parameters, and the files it left.

    Attributes
    ----------
    name : the data set that it runs as, `DATASET@NAME=VALUE,…`.
    values : the parameters of the combination.
    fingerprint : hash of all that it depends on: every parameter, the images, their labels and the split.
    seconds : of each notebook, by its number.
    milliseconds : inference time per image, from pixels to probabilities; NaN if it failed.
    error : why it failed; empty if it did not. input_size : of its network, pixels; 0 : unknown.
    """

    name: str
    values: dict[str, Value]
    fingerprint: str
    seconds: dict[str, float]
    milliseconds: float = float("nan")
    error: str = ""
    input_size: int = 0

    @property
    def held_out_evaluation(self) -> Evaluation:
        """Out-of-fold scores of the training images, by which trials are ranked."""
        return report.read_scores(files.proc_dir(self.name) / files.HELD_OUT)

    @property
    def test_evaluation(self) -> Evaluation:
        """Scores of the test images."""
        return report.read_test_scores(files.proc_dir(self.name))

    def __str__(self) -> str:
        if self.error:
            return f"failed: {self.error}"
        return f"held-out accuracy {self.held_out_evaluation.overall_accuracy}"


@dataclass(frozen=True)
class Coordinates:
    """What parallel coordinates show: parameters and results of trials or runs, the best one first.

    Attributes
    ----------
    names : of the lines.
    parameters : the value of each line, by the name of the parameter.
    results : the number of each line, by its name; and how it is formatted.
    """

    names: list[str]
    parameters: dict[str, list[str | Value]]
    results: dict[str, tuple[list[float], str]]


def parse_grid(text: str) -> dict[str, list[Value]]:
    """Parse `"NAME: VALUE, VALUE…; NAME: VALUE, VALUE…"`; "=" is accepted in place of ":".

    A list of numbers stands in brackets: `learning_rate: 0.001, [0.001]*20 + [0.0001]*20` are two values.

    Raises
    ------
    ImgclfError : the grid is empty; a name is given twice, unknown, or of no notebook between 01 and 05; a
        value is not allowed.
    """
    grid: dict[str, list[Value]] = {}
    for part in filter(str.strip, text.split(";")):
        name, *rest = (piece.strip() for piece in re.split("[:=]", part, maxsplit=1))
        values = "".join(rest)
        if name in grid:
            raise ImgclfError(
                f"grid: {name} is given twice; give all its values at once, {name}: VALUE, VALUE"
            )
        if name in (*FIXED_PARAMETERS, *FIXED_VALUES) or (
            name in parameters.PARAMETERS and not set(STAGES) & set(parameters.PARAMETERS[name].notebooks)
        ):
            raise ImgclfError(f"grid: {name} cannot be varied; give only parameters of notebooks 01 to 05")
        if not values:
            raise ImgclfError(f"grid: '{part.strip()}' has no values; write NAME: VALUE, VALUE")
        pieces = re.findall(r"(?:\[[^][]*\]|[^][,])+", values)
        if ",".join(pieces) != values:
            raise ImgclfError(
                f"grid: '{part.strip()}' has an unbalanced bracket or an extra comma; "
                f"write {name}: VALUE, [NUMBER, NUMBER]"
            )
        parsed = [parameters.parse([f"{name}={value.strip()}"])[name] for value in pieces]
        grid[name] = [value for k, value in enumerate(parsed) if value not in parsed[:k]]
    if not grid:
        raise ImgclfError("grid: empty; give NAME: VALUE, VALUE for at least one parameter")
    return grid


def grid_as_text(grid: Mapping[str, Sequence[Value]]) -> str:
    """Return the text that `parse_grid` reads as this grid."""
    return "; ".join(f"{name}: {', '.join(map(as_text, values))}" for name, values in grid.items())


def combinations(grid: Mapping[str, Sequence[Value]]) -> list[dict[str, Value]]:
    """Return every combination of the values; the last parameter changes fastest."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def values_as_text(values: Mapping[str, Value]) -> str:
    """Return the values as `NAME=VALUE NAME=VALUE`."""
    return " ".join(f"{name}={as_text(value)}" for name, value in values.items())


def as_text(value: Value) -> str:
    """Return a value as it is written in a grid."""
    return f"[{','.join(map(str, value))}]" if isinstance(value, list) else str(value)


def trial_name(dataset_name: str, values: Mapping[str, Value]) -> str:
    """Return the name of the data set that a trial runs as.

    It is the same for the same values in any order, and a valid name of a folder.
    """
    whole = ",".join(f"{key}={as_text(values[key])}" for key in sorted(values))
    name = whole.replace("/", "-")
    if len(name) > LONGEST_NAME or name != whole:  # a/b and a-b are two networks
        name = f"{name[:LONGEST_NAME]}…{hashlib.sha256(whole.encode()).hexdigest()[:8]}"
    return f"{dataset_name}@{name}"


def write(trial: Trial) -> None:
    """Write `trial.json` into the trial's folder."""
    files.write_json(files.proc_dir(trial.name) / files.TRIAL_RECORD, asdict(trial))


def read(name: str) -> Trial | None:
    """Return the trial that ran as the data set `name`; None if there was none, or its files are damaged."""
    try:
        stored = files.read_json(files.proc_dir(name) / files.TRIAL_RECORD, KINDS, defaults={"input_size": 0})
        if stored["milliseconds"] is None:
            stored["milliseconds"] = float("nan")
        trial = Trial(**stored)
        return trial if trial.error or (trial.held_out_evaluation and trial.test_evaluation) else None
    except (OSError, ValueError, TypeError, ImgclfError):  # TypeError: an unknown key
        return None


def ranked(trials: Iterable[Trial]) -> list[Trial]:
    """Return the trials that did not fail, ranked by the lower 95 % bound of their held-out accuracy.

    The bound, not the accuracy, since trials may hold out different numbers of images: 12 correct of 12 is
    less certain than 134 of 135. Trials without held-out images come last.
    """
    return sorted(
        (trial for trial in trials if not trial.error),
        key=lambda trial: -np.nan_to_num(trial.held_out_evaluation.overall_accuracy.interval[0]),
    )


def varied(trials: Sequence[Trial]) -> list[str]:
    """Return the names of the parameters that differ between the trials."""
    names = dict.fromkeys(name for trial in trials for name in trial.values)
    return [name for name in names if len({json.dumps(trial.values.get(name)) for trial in trials}) > 1]


def table(trials: Sequence[Trial]) -> "pd.DataFrame":
    """Return the accuracies of the `ranked` trials, numbered from 1, with their 95 % intervals.

    Trials of several backbones or input sizes also have the input size of each, and those of several
    backbones or precisions the inference time per image (`times` has it for all). Column `p` is the p-value
    of McNemar's exact test against the first trial, on the test images; empty if the two were tested on
    different images.
    """
    done = ranked(trials)
    with_times = not {"backbone", "precision"}.isdisjoint(varied(trials))
    return _numbered(
        [
            {
                **_varied_values(trial, trials),
                **_accuracies(trial, done[0]),
                **({"ms per image": round(trial.milliseconds, 1)} if with_times else {}),
            }
            for trial in done
        ]
    )


def times(trials: Sequence[Trial]) -> "pd.DataFrame":
    """Return what the `ranked` trials took, numbered from 1.

    The columns are the seconds of notebooks 02 to 05, and the milliseconds per image at inference.
    """
    rows = [
        {
            **_varied_values(trial, trials),
            **{f"{number}, s": round(seconds) for number, seconds in trial.seconds.items()},
            "all, s": round(sum(trial.seconds.values())),
            "ms per image": round(trial.milliseconds, 1),
        }
        for trial in ranked(trials)
    ]
    return _numbered(rows)


def _numbered(rows: list[dict[str, Any]]) -> "pd.DataFrame":
    """Return the rows numbered from 1; without any, a row that says so."""
    import pandas as pd

    if not rows:
        return pd.DataFrame({"trial": ["none has finished"]})
    return pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="trial"))


def coordinates(trials: Sequence[Trial]) -> Coordinates:
    """Return the `ranked` trials with the parameters that vary, their accuracies and their times."""
    done = ranked(trials)
    return Coordinates(
        [f"trial {number}" for number in range(1, len(done) + 1)],
        {name: [trial.values[name] for trial in done] for name in varied(done)},
        {
            "held-out accuracy": ([t.held_out_evaluation.overall_accuracy.value for t in done], "{:.1%}"),
            "test accuracy": ([t.test_evaluation.overall_accuracy.value for t in done], "{:.1%}"),
            "seconds": ([sum(trial.seconds.values()) for trial in done], "{:.0f}"),
            "ms per image": ([trial.milliseconds for trial in done], "{:.1f}"),
        },
    )


def _varied_values(trial: Trial, trials: Sequence[Trial]) -> dict[str, str]:
    """The values that vary, as text; with the input size that 0 stands for, and that of each backbone."""
    values: dict[str, Value] = {name: trial.values[name] for name in varied(trials)}
    if "backbone" in values or "input_size" in values:
        values["input_size"] = trial.input_size or values.get("input_size", "")
    return {name: as_text(value) for name, value in values.items()}


def _accuracies(trial: Trial, best: Trial) -> dict[str, str]:
    held_out, test = trial.held_out_evaluation.overall_accuracy, trial.test_evaluation.overall_accuracy
    return {
        "held-out accuracy": f"{held_out.value:.1%} ({_interval(held_out)}) of {held_out.images}",
        "test accuracy": f"{test.value:.1%}{_without(trial.test_evaluation)}",
        "95 % interval": _interval(test),
        "p": "" if trial is best else _p_value(best, trial),
    }


def _interval(accuracy: Accuracy) -> str:
    return f"{accuracy.interval[0]:.0%} to {accuracy.interval[1]:.0%}"


def _without(evaluation: Evaluation) -> str:
    """Say how many test images could not be evaluated; "" if all could."""
    return f", {len(evaluation.missing)} missing" if evaluation.missing else ""


def _p_value(best: Trial, trial: Trial) -> str:
    """p-value of McNemar's exact test; empty if another split gave the two different test images."""
    try:
        return f"{comparison.compare(best.test_evaluation, trial.test_evaluation).p_value:.2f}"
    except ImgclfError:
        return ""
