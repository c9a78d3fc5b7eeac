"""The history of runs as a table, and what differs between some of them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgclf import ImgclfError
from imgclf.data import dataset
from imgclf.data.confinement import is_plain
from imgclf.data.split_check import TRAIN
from imgclf.evaluation import comparison, curves
from imgclf.evaluation.metrics import Evaluation
from imgclf.experiments import plan
from imgclf.experiments.history import runs as history
from imgclf.experiments.history.run import (
    ACCURACY,
    CLASS_AVERAGED,
    ENDS,
    Run,
    in_percent,
    interval,
    is_end,
)
from imgclf.experiments.trials import Coordinates, as_text, values_as_text
from imgclf.parameters import PARAMETERS, Value

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "when",
    "name",
    "data set",
    "classifier",
    ACCURACY,
    CLASS_AVERAGED,
    "parameters",
    "seconds",
    "status",
    "note",
    "tags",
    "kind",
    "id",
)
WITH_COLUMNS = ("dataset_name", "classifier", "evaluate_on")  # the table shows them elsewhere
CAREFUL = "CAREFUL: training images"
IMAGES, SECONDS, HELD_OUT = "test images", "seconds", "held-out accuracy"
COUNTS = (IMAGES, "training images")
MOST_PARAMETERS = 8  # of parallel coordinates
NOT_RECORDED = "not recorded"  # a parameter, by a version that did not have it
MACRO_AVERAGE = ""  # in place of a label


@dataclass(frozen=True)
class Cell:
    """A cell of the table of runs: its text, and the value by which rows are sorted."""

    text: str
    order: str | float


@dataclass(frozen=True)
class Disagreement:
    """A test image for which some runs predict different labels.

    Attributes
    ----------
    path, sha256, label : of the image, as the first of the runs recorded them.
    predictions : of each run, the predicted label and its probability, 0 to 1.
    """

    path: str
    sha256: str
    label: str
    predictions: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class RocLine:
    """ROC curve of one run.

    Attributes
    ----------
    false_positive_rate, true_positive_rate : (m,), 0 to 1, rising.
    area : below the curve, 0 to 1; of the macro average, the mean of the labels' areas.
    """

    name: str
    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray
    area: float


def cells(run: Run) -> dict[str, Cell]:
    """Return the cells of a run, by the names in `COLUMNS`."""
    texts = {
        "name": run.name,
        "data set": run.dataset_name,
        "classifier": str(run.parameters.get("classifier", "")),
        "parameters": values_as_text(_chosen(run)),
        "status": f"{run.status}: {run.error}" if run.error else run.status,
        "note": run.note,
        "tags": ", ".join(run.tags),
        "kind": run.kind,
        "id": run.short_id,
    }
    seconds = metric(run, SECONDS)
    found = {name: Cell(text, text.casefold()) for name, text in texts.items()} | {
        "when": Cell(f"{run.time:%Y-%m-%d %H:%M}", run.time.timestamp()),
        ACCURACY: _accuracy(run, ACCURACY),
        CLASS_AVERAGED: _accuracy(run, CLASS_AVERAGED),
        "seconds": Cell("" if math.isnan(seconds) else f"{seconds:.0f}", _order(seconds)),
    }
    return {name: found[name] for name in COLUMNS}


def texts(run: Run, columns: Iterable[str]) -> list[str]:
    """Return the texts of some of the `cells` of a run."""
    found = cells(run)
    return [found[name].text for name in columns]


def ordered(runs: Iterable[Run], column: str, *, descending: bool = False) -> list[Run]:
    """Return the runs sorted by a column of the table; equal ones keep their order."""
    return sorted(runs, key=lambda run: cells(run)[column].order, reverse=descending)


def table(runs: Sequence[Run], columns: Sequence[str] = COLUMNS) -> "pd.DataFrame":
    """Return the texts of the `cells` of runs, numbered from 1; without any, how to make one."""
    import pandas as pd

    if not runs:
        return pd.DataFrame({"run": ["no runs yet: 05_evaluate and imgclf run record one each"]})
    index = pd.RangeIndex(1, len(runs) + 1, name="run")
    return pd.DataFrame([texts(run, columns) for run in runs], columns=list(columns), index=index)


def best(runs: Iterable[Run], *, most: int) -> list[Run]:
    """Return the runs with the highest accuracy on held-out images, one of each combination of parameters.

    As in `trials.ranked`, the lower end of the 95 % interval counts.
    Runs that failed, are still going on, or were evaluated on training images are left out.
    """
    done = [run for run in runs if run.status == history.FINISHED and not is_on_training_images(run)]
    found: list[Run] = []
    for run in sorted(done, key=_held_out, reverse=True):
        if len(found) < most and all(_parameters(run) != _parameters(each) for each in found):
            found.append(run)
    return found


def coordinates(runs: Iterable[Run]) -> Coordinates:
    """Return the runs with test accuracy, the highest held-out accuracy first, with what differs and results.

    Of the parameters that differ, at most `MOST_PARAMETERS` that all of them recorded are among it.
    """
    measured = (run for run in runs if ACCURACY in run.metrics and not is_on_training_images(run))
    done = sorted(measured, key=_held_out, reverse=True)
    results = {
        name: ([metric(run, name) for run in done], "{:.0f}" if name == SECONDS else "{:.1%}")
        for name in (HELD_OUT, ACCURACY, SECONDS)
    }
    recorded = [name for name in varied(done) if all(value(run, name) != NOT_RECORDED for run in done)]
    return Coordinates(
        [run.name for run in done],
        {name: [value(run, name) for run in done] for name in recorded[:MOST_PARAMETERS]},
        {name: given for name, given in results.items() if not any(map(math.isnan, given[0]))},
    )


def is_on_training_images(run: Run) -> bool:
    """Whether the run was evaluated on its training images, which overestimates its accuracy."""
    return run.about.get("evaluated_on") == TRAIN


def metric(run: Run, name: str) -> float:
    """Return a metric of `metric_names`; NaN if the run has none."""
    if name == SECONDS:
        return sum(run.seconds.values()) if run.seconds else math.nan
    return run.metrics.get(name, math.nan)


def metric_names(runs: Iterable[Run]) -> list[str]:
    """Return the names of the metrics that a run has, and `SECONDS`; without the ends of intervals."""
    names = dict.fromkeys(name for run in runs for name in run.metrics if not is_end(run.metrics, name))
    first = [name for name in (ACCURACY, CLASS_AVERAGED, HELD_OUT, IMAGES) if name in names]
    return [*first, *(name for name in names if name not in first), SECONDS]


def varied(runs: Iterable[Run]) -> list[str]:
    """Return the names of the parameters of which the runs recorded different values."""
    values: dict[str, list[Value]] = {}
    for run in runs:
        for name, recorded in _parameters(run).items():
            values.setdefault(name, []).append(recorded)
    return [name for name, recorded in values.items() if any(each != recorded[0] for each in recorded)]


def value(run: Run, name: str) -> Value:
    """Return the value of a parameter; "not recorded" by a version that did not have it."""
    return _parameters(run).get(name, NOT_RECORDED)


@dataclass(frozen=True)
class Compared:
    """Some runs side by side, numbered from 1: "run 1" is the first of them.

    Attributes
    ----------
    runs : in the order of their numbers. `oldest_first` gives the usual one.
    """

    runs: tuple[Run, ...]

    @property
    def heads(self) -> list[str]:
        """The headings of the runs: "run 1", "run 2" and so on."""
        return [f"run {number}" for number in range(1, len(self.runs) + 1)]

    @cached_property
    def evaluations(self) -> dict[str, Evaluation | str]:
        """The scores of the test images by heading, or why there are none."""
        return {head: _scores(run) for head, run in zip(self.heads, self.runs, strict=True)}

    @property
    def scored(self) -> dict[str, Evaluation]:
        """The scores of the runs that have scores of test images, by heading."""
        return {head: each for head, each in self.evaluations.items() if not isinstance(each, str)}

    @property
    def labels(self) -> list[str]:
        """The labels that all the scored runs know."""
        known = [each.labels for each in self.scored.values()]
        return [label for label in known[0] if all(label in labels for labels in known)] if known else []

    def names(self) -> str:
        """Return a line for each run: its heading, name and id."""
        return "\n".join(
            f"{head}: {run.name} (id {run.short_id})" for head, run in zip(self.heads, self.runs, strict=True)
        )

    def parameters(self) -> "pd.DataFrame":
        """Return the parameters that differ, a row each, a column for each run."""
        import pandas as pd

        names = dict.fromkeys(name for run in self.runs for name in _parameters(run))
        values = {name: [value(run, name) for run in self.runs] for name in names}
        rows = {
            name: [as_text(each) for each in row]
            for name, row in values.items()
            if any(each != row[0] for each in row)
        }
        return pd.DataFrame.from_dict(
            rows or {"none": [""] * len(self.runs)}, orient="index", columns=self.heads
        ).rename_axis("parameter")

    def metrics(self) -> "pd.DataFrame":
        """Return the metrics of each run with 95 % intervals, and the differences from the first run."""
        import pandas as pd

        rows = {
            name: [_shown(run, name) for run in self.runs]
            + [_difference(self.runs[0], run, name) for run in self.runs[1:]]
            for name in metric_names(self.runs)
            if name != SECONDS
        }
        differences = [f"{head} - {self.heads[0]}" for head in self.heads[1:]]
        found = pd.DataFrame.from_dict(rows, orient="index", columns=[*self.heads, *differences])
        return found.rename_axis("metric")

    def verdict(self) -> str:
        """Return a sentence for each run after the first: whether chance explains the difference from it."""
        if len(self.runs) < 2:
            return "nothing to compare: one run" if self.runs else "nothing to compare: no run"
        return "\n".join(self._verdict(head) for head in self.heads[1:])

    def _verdict(self, head: str) -> str:
        first, second = (self.evaluations[name] for name in (self.heads[0], head))
        for name, each in ((self.heads[0], first), (head, second)):
            if isinstance(each, str):
                return f"{head} is not compared with {self.heads[0]}: {name}, {each}"
        assert isinstance(first, Evaluation) and isinstance(second, Evaluation)
        common = comparison.on_common_images([first, second])
        count, counts = len(common[0].truth), [len(first.truth), len(second.truth)]
        if not count:
            return (
                f"{head} is not compared with {self.heads[0]}: they were tested on different images or "
                f"labels ({counts[0]} and {counts[1]} images, none in common)"
            )
        only = ""
        if counts != [count, count]:
            only = f" On the {count} test images that both have scored (of {counts[0]} and {counts[1]}):"
        return f"Is {head} better than {self.heads[0]}?{only} {comparison.compare(*common)}"

    def disagreements(self) -> list[Disagreement]:
        """Return the test images that all scored runs have, and for which they predict different labels.

        The image with the largest probability of a wrong label is the first.
        """
        common = comparison.on_common_images(list(self.scored.values()))
        found = [_image(common, row) for row in range(len(common[0].truth))] if len(common) > 1 else []
        return sorted(
            (image for image in found if len({label for label, _ in image.predictions}) > 1),
            key=lambda image: (
                -max(probability for label, probability in image.predictions if label != image.label)
            ),
        )

    def disagreement_table(self) -> "pd.DataFrame":
        """Return the `disagreements` with what each run predicts, numbered from 1."""
        import pandas as pd

        rows = [
            {"path": image.path, "label": image.label, **self.predicted(image)}
            for image in self.disagreements()
        ]
        columns = ["path", "label", *self.scored]
        return pd.DataFrame(rows, columns=columns, index=pd.RangeIndex(1, len(rows) + 1, name="image"))

    def predicted(self, image: Disagreement) -> dict[str, str]:
        """Return the predicted label of an image and its probability as text, by the run's heading."""
        return {
            head: f"{label} {probability:.2f}"
            for head, (label, probability) in zip(self.scored, image.predictions, strict=True)
        }

    def roc(self, label: str = MACRO_AVERAGE) -> list[RocLine]:
        """Return the ROC curve of each scored run: of one label against the rest, or the mean of all labels.

        A run whose test images all have the label, or none, has no curve.
        """
        return [
            line for head, evaluation in self.scored.items() if (line := _roc_line(head, evaluation, label))
        ]

    def image_files(self) -> dict[str, Path]:
        """Return the present path of each of the `disagreements` by `Disagreement.path`.

        An image that was moved before the latest scan of 01_prepare_data is found by its content. One whose
        recorded path leads out of the data set's folder is left out.
        """
        first = next(run for head, run in zip(self.heads, self.runs, strict=True) if head in self.scored)
        name = first.dataset_name
        folder = dataset.scanned_folder(name) or dataset.images_folder(
            name, str(first.parameters.get("images_dir", ""))
        )
        try:
            scanned = {image.sha256: image for image in dataset.scanned_images(name)}
        except ImgclfError:  # a damaged list: the images are probably where they were
            scanned = {}
        return {
            image.path: folder / (scanned[image.sha256].path if image.sha256 in scanned else image.path)
            for image in self.disagreements()
            if is_plain(image.path)
        }


def oldest_first(runs: Sequence[Run]) -> Compared:
    """Return the runs side by side, the oldest as run 1, so that differences are later minus earlier.

    Of runs of the same second, the last is the oldest, as in the history.
    """
    return Compared(tuple(ordered(reversed(runs), "when")))


def _parameters(run: Run) -> dict[str, Value]:
    """The parameters that tell runs apart; the data set of a trial is that of its sweep.

    The folder of the images is left out: a trial has it as an absolute path, and it may have moved since.
    """
    others = {name: value for name, value in run.parameters.items() if name != "images_dir"}
    return {**others, "dataset_name": run.dataset_name}


def _chosen(run: Run) -> dict[str, Value]:
    """The parameters that differ from their defaults; without those that have columns of their own."""
    values = _parameters(run)
    return {
        name: value
        for name, value in values.items()
        if name in PARAMETERS and name not in WITH_COLUMNS and not plan.is_default(name, values)
    }


def _order(value: float) -> float:
    """The number by which a value is sorted: NaN below all others."""
    return -math.inf if math.isnan(value) else value


def _held_out(run: Run) -> float:
    """The lower end of the interval of the held-out accuracy, by which runs are ranked."""
    return _order(metric(run, HELD_OUT + ENDS[0]))


def _accuracy(run: Run, name: str) -> Cell:
    text = ", ".join(filter(None, [_shown(run, name), CAREFUL if is_on_training_images(run) else ""]))
    return Cell(text, _order(metric(run, name)))


def _is_share(name: str) -> bool:
    return "accuracy" in name.partition(" of class ")[0]


def _shown(run: Run, name: str) -> str:
    """A metric with its 95 % interval as text; "" if the run has none."""
    if name not in run.metrics:
        return ""
    if name in COUNTS:
        return f"{run.metrics[name]:.0f}"
    if _is_share(name):
        return in_percent(run.metrics, name)
    ends = interval(run.metrics, name)
    return f"{run.metrics[name]:.3f}" + (f" ({ends[0]:.2f} to {ends[1]:.2f})" if ends else "")


def _difference(first: Run, second: Run, name: str) -> str:
    change = metric(second, name) - metric(first, name)
    if math.isnan(change):
        return ""
    if name in COUNTS:
        return f"{change:+.0f}"
    return f"{100 * change:+.1f} points" if _is_share(name) else f"{change:+.3f}"


def _scores(run: Run) -> Evaluation | str:
    """The scores of the test images, or why there are none."""
    if is_on_training_images(run):
        return f"{run.name}: was evaluated on its training images, which overestimates the accuracy"
    try:
        return history.evaluation(run)
    except ImgclfError as error:
        return str(error)


def _image(common: Sequence[Evaluation], row: int) -> Disagreement:
    """One image of several evaluations of the same images."""
    first = common[0]
    predictions = tuple(
        (each.labels[each.predicted[row]], float(each.probabilities[row, each.predicted[row]]))
        for each in common
    )
    sha256 = first.sha256[row] if first.sha256 else ""
    return Disagreement(first.paths[row], sha256, first.labels[first.truth[row]], predictions)


def _roc_line(head: str, evaluation: Evaluation, label: str) -> RocLine | None:
    if label == MACRO_AVERAGE:
        if average := curves.average_roc(evaluation):
            return RocLine(head, average.x, average.mean, float(np.mean([*average.areas.values()])))
    elif found := curves.roc(evaluation, label):
        return RocLine(head, found.false_positive_rate, found.true_positive_rate, found.auc)
    return None
