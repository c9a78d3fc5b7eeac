"""What is recorded of an evaluation in the run history: its figures, what led to them, and its files."""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgclf import ImgclfError, files, parameters, svm
from imgclf.classifier.model import read_metadata
from imgclf.data import dataset, split
from imgclf.data.split_check import TEST, TRAIN
from imgclf.evaluation import report
from imgclf.experiments import html_report, notebooks, outputs, provenance
from imgclf.experiments.history import cost, environment, old_runs, runs, tracking
from imgclf.experiments.history.run import Run
from imgclf.experiments.notebooks import LAST, STAGES
from imgclf.finetuning import record as finetuning
from imgclf.parameters import DNN, SVM, Value

if TYPE_CHECKING:
    from nbformat import NotebookNode

REPORT = "report.html"
IDENTITY = ("evaluated_on", "classifier sha256", "scores sha256")  # what one evaluation is known by
FIGURES = {  # metrics, with their keys in evaluation.json
    "overall accuracy": "overall_accuracy",
    "class-averaged accuracy": "class_averaged_accuracy",
}
CLASS_FIGURES = {
    "accuracy of class": "accuracy",
    "ROC area of class": "roc_auc",
    "average precision of class": "average_precision",
}
EPOCH_CURVES = {  # by epoch, with the attribute of an epoch
    "training loss": "loss",
    "training error": "train_error",
    "validation loss": "validation_loss",
    "validation error": "validation_error",
}


def record(namespace: Mapping[str, Any]) -> None:
    """Record the evaluation that 05_evaluate has written, and write its report; print a line that says so.

    It belongs to the run that executes the notebook. In a notebook that a person runs it is a run of its own,
    once for each evaluation: a run with the same scores of the same classifier stays as it is. On a full
    disk, or without permission to write, the line says what was not done; the evaluation is as good.

    Parameters
    ----------
    namespace : of 05_evaluate, its `globals()`.
    """
    values = _with_defaults(namespace)
    executing, executed = runs.current(), _executed_notebook()
    report_line = _write_report(executed, report_path(values))
    try:
        if executing:
            write(executing, values)
        else:
            _record_by_hand(values, executed)
        line = "recorded in the run history"
    except (OSError, ImgclfError) as error:
        line = f"not recorded in the run history: {error}"
    print(f"{line}; {report_line}")
    if not executing and (sentence := tracking.hand_in_all()):
        print(sentence)


def _executed_notebook() -> "NotebookNode | None":
    """Return 05_evaluate with the outputs of its cells; None if its file is damaged or gone."""
    from imgclf.experiments.notebook_format import nbformat

    try:
        return outputs.notebook(notebooks.path(LAST))
    except (*old_runs.DAMAGED, nbformat.ValidationError):
        return None


def _write_report(executed: "NotebookNode | None", path: Path) -> str:
    """Write the report, and say where it is, or why there is none."""
    try:
        if executed is None:
            raise ImgclfError(
                "the file of notebook 05_evaluate is damaged or gone; save it, and run it again"
            )
        html_report.write(executed, path)
        return f"report: {files.display_path(path)}"
    except (OSError, ImgclfError) as error:
        with suppress(OSError):
            path.unlink(missing_ok=True)  # that of an earlier evaluation
        return f"no report: {error}"


def report_path(values: Mapping[str, Any]) -> Path:
    """Return the path of the report of an evaluation, from the parameters of 05_evaluate."""
    return _results(_with_defaults(values)) / REPORT


def finish(run: Run, values: Mapping[str, Any]) -> Run:
    """Finish a run whose notebooks were executed, with what each of them took.

    On a full disk, or without permission to write, a line says what was not recorded.

    Parameters
    ----------
    values : parameters of 05_evaluate. If it was up to date and did not run, its evaluation is recorded now.
    """
    values = _with_defaults(values)
    try:
        if not runs.reread(run).metrics:
            write(run, values)
        return runs.finish(run, **_costs(str(values["dataset_name"])))
    except (OSError, ImgclfError) as error:
        print(f"not recorded in the run history: {error}")
        with suppress(OSError, ImgclfError):
            return runs.fail(run, f"not recorded: {error}")
        return run


def write(run: Run, values: Mapping[str, Any]) -> Run:
    """Write the evaluation of 05_evaluate into a run: attributes, figures, pictures, report and classifier.

    Parameters
    ----------
    values : parameters of 05_evaluate.

    Raises
    ------
    ImgclfError : a file of the run cannot be written, or one of the evaluation not be read.
    """
    values = _with_defaults(values)
    attributes = described(values)
    for path in _artefacts(values):
        with path.open("rb") as source, files.replace_file(run.folder / path.name) as file:
            shutil.copyfileobj(source, file)
    runs.keep_classifier(run, files.proc_dir(str(values["dataset_name"])) / files.CLASSIFIER)
    parameters_of_run = {**run.parameters, **attributes.pop("parameters"), "dataset_name": run.dataset_name}
    return runs.update(run, parameters=parameters_of_run, **attributes)


def described(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a `Run` that tell of an evaluation and what led to it.

    Parameters
    ----------
    values : parameters of 05_evaluate.

    Raises
    ------
    ImgclfError : a file of the evaluation is missing or damaged.
    """
    name, evaluated_on = str(values["dataset_name"]), str(values["evaluate_on"])
    proc, results = files.proc_dir(name), _results(values)
    figures = report.read(results)
    found = dataset.read(name, str(values["images_dir"]))
    parts = split.read(found)
    earlier = [made.parameters for each in STAGES[:-1] if (made := provenance.read(name, each))]
    return {
        "parameters": {key: value for each in [*earlier, values] for key, value in each.items()},
        "metrics": {**metrics(figures), **_held_out(proc / files.HELD_OUT)},
        "curves": _curves(proc, str(values["classifier"])),
        "counts": {
            side: dict(Counter(image.label for image in parts.subset(side))) for side in (TRAIN, TEST)
        },
        "about": {
            "evaluated_on": evaluated_on,
            "classifier sha256": str(figures.get("classifier_sha256", "")),
            "scores sha256": files.sha256(results / files.SCORES),
            "fingerprint of the images": dataset.fingerprint(found.images),
            "fingerprint of the training images": dataset.fingerprint(parts.train),
            "fingerprint of the test images": dataset.fingerprint(parts.test),
            "split sha256": files.sha256(proc / provenance.EDITABLE),
            **environment.described(),
        },
        **_costs(name),
    }


def _record_by_hand(values: Mapping[str, Any], executed: "NotebookNode | None") -> None:
    """Write a run of its own, unless a finished run has the same evaluation."""
    from imgclf.experiments.notebook_format import nbformat

    attributes = described(values)
    if _is_recorded(str(values["dataset_name"]), attributes["about"]):
        return
    run = runs.start(runs.BY_HAND, str(values["dataset_name"]), attributes["parameters"])
    with runs.attempt(run):
        write(run, values)
        if executed is not None:
            files.write_text(run.folder / notebooks.path(LAST).name, nbformat.writes(executed) + "\n")
        runs.finish(run)


def _is_recorded(dataset_name: str, about: Mapping[str, str]) -> bool:
    """Whether a finished run has the same scores of the same classifier."""
    return any(
        run.status == runs.FINISHED
        and run.kind in (runs.BY_RUN, runs.BY_HAND)
        and all(run.about.get(key) == about[key] for key in IDENTITY)
        for run in runs.all_runs(dataset_name)
    )


def _with_defaults(values: Mapping[str, Any]) -> dict[str, Value]:
    """Return the parameters of 05_evaluate."""
    defaults = {each.name: each.default for each in parameters.for_notebook(LAST)}
    given = parameters.from_namespace(values)
    return {name: given.get(name, default) for name, default in defaults.items()}


def _results(values: Mapping[str, Any]) -> Path:
    return report.results_folder(files.proc_dir(str(values["dataset_name"])), str(values["evaluate_on"]))


def _artefacts(values: Mapping[str, Any]) -> Iterator[Path]:
    """Yield the files of an evaluation and its data set that a run gets, without old pictures of others."""
    proc, results = files.proc_dir(str(values["dataset_name"])), _results(values)
    written = [results / Path(name).name for name in provenance.WRITES[LAST]]
    written += [results / REPORT, *(proc / name for name in dataset.TABLES)]
    written += [proc / f"{name}.png" for name in ("feature_map", "training_size", "training_size_of_labels")]
    if values["classifier"] != DNN:
        written.append(proc / "svm_c.png")
    if values["classifier"] != SVM:
        written.append(proc / "dnn_training.png")
    yield from (path for path in written if path.is_file())


def metrics(figures: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of an `evaluation.json` under names for people; those that are None are left out."""
    images = "test images" if figures["evaluated_on"] == TEST else "training images"
    calibration_error = figures["calibration"]["expected_calibration_error"]
    found = {images: figures["images"], "expected calibration error": calibration_error}
    for name, key in FIGURES.items():
        found |= _with_interval(name, figures, key)
    if familiarity := figures.get("familiarity"):
        found |= _with_interval("share unfamiliar", familiarity, "unfamiliar")
    for label, row in figures["classes"].items():
        for name, key in CLASS_FIGURES.items():
            found |= _with_interval(f"{name} {label}", row, key)
    return {name: float(value) for name, value in found.items() if value is not None}


def _with_interval(name: str, figures: Mapping[str, Any], key: str) -> dict[str, Any]:
    low, high = figures.get(f"{key}_interval") or (None, None)
    return {name: figures.get(key), f"{name} low": low, f"{name} high": high}


def _held_out(path: Path) -> dict[str, float]:
    """Return the accuracy on the training images by which C was chosen, out of fold."""
    accuracy = report.read_scores(path).overall_accuracy
    low, high = accuracy.interval
    return {"held-out accuracy": accuracy.value, "held-out accuracy low": low, "held-out accuracy high": high}


def _curves(proc: Path, classifier: str) -> dict[str, list[list[float]]]:
    """Return accuracy over C as 04 stored it in the classifier, and the learning curve of fine-tuning."""
    curves: dict[str, list[list[float]]] = {}
    searched: Any = read_metadata(proc / files.CLASSIFIER).get(svm.BY_C)
    if files.is_of(searched, dict[str, list[float | None]]):
        candidates = searched.pop("C", [])
        curves |= {f"{name} over C": _points(candidates, values) for name, values in searched.items()}
    if classifier != SVM and (done := finetuning.read(proc)):
        numbers = [epoch.number for epoch in done.epochs]
        for name, attribute in EPOCH_CURVES.items():
            curves[name] = _points(numbers, [getattr(epoch, attribute) for epoch in done.epochs])
    return curves


def _points(x: Iterable[float | None], y: Iterable[float | None]) -> list[list[float]]:
    pairs = zip(x, y, strict=False)
    return [[float(a), float(b)] for a, b in pairs if a is not None and b is not None]


def _costs(dataset_name: str) -> dict[str, dict[str, float]]:
    """Return run time and peak memory of each notebook, from its record; of 05 in this kernel."""
    made = {number: provenance.read(dataset_name, number) for number in STAGES}
    known = {number: asdict(each) for number, each in made.items() if each}
    if (measured := cost.measured(LAST))["seconds"]:
        known[LAST] = measured
    return {
        name: {number: each[name] for number, each in known.items() if each[name]} for name in cost.UNKNOWN
    }
