"""Trials: what came of each choice of parameters that was tried on a data set.

A trial runs as a data set of its own, on the same images: its folder below `proc/` holds all that a run leaves, and `trial.json`.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from imgclf import ImgclfError, files, parameters
from imgclf.evaluation import comparison, report
from imgclf.evaluation.metrics import Evaluation
from imgclf.parameters import Value

if TYPE_CHECKING:
    import pandas as pd

STAGES = ("01", "02", "03", "04", "05")  # whose parameters can be tried
NOT_TRIED = ("dataset_name", "images_dir")  # given beside the grid
FLATTERS = "evaluate_on"  # a trial is always judged by its test images
LONGEST_NAME = 120  # letters; file systems take 255 bytes


@dataclass(frozen=True)
class Trial:
    """One choice of parameters, and what came of it.

    Attributes
    ----------
    name : the data set that it runs as, `DATASET@NAME=VALUE,…`. values : the parameters that were given.
    fingerprint : of all that it depends on: every parameter, the images, their labels and the split. seconds : that each notebook took.
    milliseconds : the classifier took for an image, from pixels to probabilities. error : why it failed; empty if it didn't.
    """

    name: str
    values: dict[str, Value]
    fingerprint: str
    seconds: dict[str, float]
    milliseconds: float = float("nan")
    error: str = ""

    @property
    def held_out(self) -> Evaluation:
        """The scores of training images that it had not learned from: what to choose by."""
        return report.read_scores(files.proc_dir(self.name) / files.HELD_OUT)

    @property
    def tested(self) -> Evaluation:
        """The scores of the test images."""
        return report.read_scores(files.proc_dir(self.name) / files.SCORES)

    def __str__(self) -> str:
        return f"failed: {self.error}" if self.error else f"held-out images {self.held_out.overall_accuracy}"


def choices(text: str) -> dict[str, list[Value]]:
    """The values of each parameter in `"NAME: VALUE, VALUE…; NAME: VALUE, VALUE…"`; "=" does as well as ":".

    A list of numbers stands in brackets: `learning_rate: 0.001, [0.001]*20 + [0.0001]*20` are two values.

    Raises
    ------
    ImgclfError : nothing to try; a name twice, unknown, or of no notebook between 01 and 05; a value that is not allowed.
    """
    found: dict[str, list[Value]] = {}
    for part in filter(str.strip, text.split(";")):
        name, separator, values = (
            piece.strip() for piece in re.match(r"([^:=]*)([:=]?)(.*)", part, re.DOTALL).groups()
        )
        if name in found:
            raise ImgclfError(
                f"grid: {name} stands there twice; give all its values at once, {name}: VALUE, VALUE"
            )
        if name in (*NOT_TRIED, FLATTERS) or (
            name in parameters.PARAMETERS and not set(STAGES) & set(parameters.PARAMETERS[name].notebooks)
        ):
            raise ImgclfError(f"grid: {name} cannot be tried, only parameters of notebooks 01 to 05")
        if not separator or not values:
            raise ImgclfError(f"grid: '{part.strip()}' names no values; write NAME: VALUE, VALUE")
        pieces = re.findall(r"(?:\[[^][]*\]|[^][,])+", values)
        if ",".join(pieces) != values:
            raise ImgclfError(
                f"grid: '{part.strip()}' has a bracket or a comma too many or too few; write {name}: VALUE, [NUMBER, NUMBER]"
            )
        parsed = [parameters.parse([f"{name}={value.strip()}"])[name] for value in pieces]
        found[name] = [value for k, value in enumerate(parsed) if value not in parsed[:k]]
    if not found:
        raise ImgclfError("grid: nothing to try; give NAME: VALUE, VALUE for at least one parameter")
    return found


def as_grid(of: Mapping[str, list[Value]]) -> str:
    """The text that `choices` reads as this."""
    return "; ".join(f"{name}: {', '.join(map(as_text, values))}" for name, values in of.items())


def combinations(of: Mapping[str, list[Value]]) -> list[dict[str, Value]]:
    """Every value of each parameter with every value of the others; the last parameter changes fastest."""
    return [dict(zip(of, chosen, strict=True)) for chosen in itertools.product(*of.values())]


def told(values: Mapping[str, Value]) -> str:
    """The values as `NAME=VALUE NAME=VALUE`."""
    return " ".join(f"{name}={as_text(value)}" for name, value in values.items())


def as_text(value: Value) -> str:
    """A value as it stands in a grid."""
    return f"[{','.join(map(str, value))}]" if isinstance(value, list) else str(value)


def name_of(dataset_name: str, values: Mapping[str, Value]) -> str:
    """The name of the data set that a trial runs as: the same for the same values in any order, and fit to be a folder's."""
    name = ",".join(f"{key}={as_text(values[key])}" for key in sorted(values)).replace("/", "-")
    if len(name) > LONGEST_NAME:
        name = f"{name[:LONGEST_NAME]}…{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return f"{dataset_name}@{name}"


def write(trial: Trial) -> None:
    """Write `trial.json` into the trial's folder."""
    about = asdict(trial)
    files.write_json(
        files.proc_dir(trial.name) / files.TRIAL_RECORD,
        {**about, "milliseconds": None if trial.error else trial.milliseconds},
    )  # JSON has no NaN


def read(name: str) -> Trial | None:
    """The trial that ran as the data set `name`; None if there was none, or its files are damaged."""
    try:
        stored = json.loads((files.proc_dir(name) / files.TRIAL_RECORD).read_text(encoding="utf-8"))
        trial = Trial(
            **{
                **stored,
                "milliseconds": float("nan") if stored["milliseconds"] is None else stored["milliseconds"],
            }
        )
        return trial if trial.error or (trial.held_out and trial.tested) else None
    except (OSError, ValueError, KeyError, TypeError, ImgclfError):
        return None


def ranked(of: Iterable[Trial]) -> list[Trial]:
    """The trials that did not fail, first the one whose accuracy on held-out images is surely high; those where none was held out last.

    By the lower end of its 95 % interval, since they may have held out differently many: 12 right of 12 is less sure than 134 of 135.
    """
    return sorted(
        (trial for trial in of if not trial.error),
        key=lambda trial: -np.nan_to_num(trial.held_out.overall_accuracy.interval[0]),
    )


def varied(of: Sequence[Trial]) -> list[str]:
    """The parameters that differ between the trials."""
    names = dict.fromkeys(name for trial in of for name in trial.values)
    return [name for name in names if len({json.dumps(trial.values.get(name)) for trial in of}) > 1]


def table(of: Sequence[Trial]) -> "pd.DataFrame":
    """The trials that did not fail, the best on held-out images first, numbered from 1.

    `p`: how likely the first and this one, equally good, would differ on the test images as they do (McNemar's exact test); empty where they
    were tested on different images.
    """
    import pandas as pd

    done = ranked(of)
    rows = [
        {**{name: as_text(trial.values[name]) for name in varied(of)}, **_figures(trial, done[0])}
        for trial in done
    ]
    return pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="trial"))


def _figures(trial: Trial, best: Trial) -> dict[str, float | str]:
    held_out, tested = trial.held_out.overall_accuracy, trial.tested.overall_accuracy
    try:
        p_value = f"{comparison.compare(best.tested, trial.tested).p_value:.2f}" if trial is not best else ""
    except ImgclfError:  # another split: different test images
        p_value = ""
    return {
        "held-out accuracy": f"{held_out.value:.1%} of {held_out.images}",
        "test accuracy": f"{tested.value:.1%}",
        "95 % interval": f"{tested.interval[0]:.0%} to {tested.interval[1]:.0%}",
        "p": p_value,
    }


def times(of: Sequence[Trial]) -> "pd.DataFrame":
    """What the trials that did not fail took, in the order of `table`: seconds of notebooks 02 to 05, and milliseconds for an image in use."""
    import pandas as pd

    done = ranked(of)
    rows = [
        {
            **{name: as_text(trial.values[name]) for name in varied(of)},
            **{f"{number}, s": round(seconds) for number, seconds in trial.seconds.items()},
            "all, s": round(sum(trial.seconds.values())),
            "ms an image": round(trial.milliseconds, 1),
        }
        for trial in done
    ]
    return pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="trial"))
