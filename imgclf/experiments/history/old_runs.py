"""Runs of version 0.1.0, which kept only the executed notebooks, as in `runs/2026-11-25_17-04-02/`.

What it evaluated last is also in `proc/NAME`, until a later version evaluates there.
"""

import re
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

from imgclf import ImgclfError, files
from imgclf.experiments import notebooks
from imgclf.experiments.history.run import ACCURACY, CLASS_AVERAGED
from imgclf.parameters import PARAMETERS

FOLDER = re.compile(r"(20\d\d-\d\d-\d\d_\d\d-\d\d-\d\d)(_\d+)?")
TRIAL = re.compile(r"(.+)@\w+=.*")  # data set that a trial ran as
INJECTED = "injected-parameters"  # papermill's tag
ROW = re.compile(r"(.{32}) *(\d+) +(\d+)% +(\d+)% to +(\d+)%(?: +(\d\.\d\d))?")  # of the table in 05
AVERAGES = {
    "overall accuracy": ACCURACY,
    "overall class-averaged accuracy": CLASS_AVERAGED,
}
DAMAGED = (ImgclfError, OSError, ValueError, LookupError, TypeError, AttributeError)
AS_PRINTED = "as printed, in whole percent"


def read(folder: Path) -> dict[str, Any] | None:
    """Return what the executed notebooks of a run tell, as attributes of a `Run`; None without any."""
    name = FOLDER.fullmatch(folder.name)
    paths = sorted(folder.glob("0[0-5]_*.ipynb")) if name else []
    if name is None or not paths:
        return None
    # Here, since each list of runs asks, and it takes a moment to load.
    from imgclf.experiments.notebook_format import nbformat

    values: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    errors = []
    for path in paths:
        try:
            cells = nbformat.read(path, as_version=4).cells
            for cell in cells:
                if {notebooks.TAG, INJECTED} & set(cell.metadata.get("tags", ())):
                    values |= notebooks.read_cell(cell.source, path.name)
            outputs = [output for cell in cells for output in cell.get("outputs", ())]
            errors += [f"{each.ename}: {each.evalue}" for each in outputs if each.output_type == "error"]
            if path.name[:2] == "05":
                metrics = _printed("".join(each.get("text", "") for each in outputs))
        except (*DAMAGED, nbformat.ValidationError) as error:
            errors.append(f"{path.name}: cannot be read ({type(error).__name__})")
    if not errors and not metrics:
        errors = [f"ended after {paths[-1].stem}"]
    dataset_name = str(values.pop("dataset_name", ""))
    trial = TRIAL.fullmatch(dataset_name)
    return {
        "dataset_name": trial[1] if trial else dataset_name,
        "started": datetime.strptime(name[1], "%Y-%m-%d_%H-%M-%S").astimezone().isoformat(),
        "status": "failed" if errors else "finished",
        "error": errors[0] if errors else "",
        "parameters": values,
        "metrics": metrics,
        "about": {"figures": AS_PRINTED} if metrics else {},
    }


def keep_evaluation(dataset_name: str) -> None:
    """Make a run of what version 0.1.0 evaluated, if `proc/NAME` has it and the history has it not."""
    from imgclf.evaluation import report  # here, since each list of runs imports this module
    from imgclf.experiments.history import runs

    proc = files.proc_dir(dataset_name)
    try:
        figures = report.read(proc)
        if "classifier_sha256" in figures:  # a later version, which recorded it
            return
        scores = files.sha256(proc / files.SCORES)
        if all(run.about.get("scores sha256") != scores for run in runs.all_runs()):
            _keep(dataset_name, figures, scores)
    except DAMAGED:
        return


def _keep(dataset_name: str, figures: dict[str, Any], scores_sha256: str) -> None:
    """Make a run of an evaluation, with the classifier unless it is newer."""
    from imgclf.classifier.model import read_metadata
    from imgclf.data import dataset
    from imgclf.experiments.history import recording, runs

    proc = files.proc_dir(dataset_name)
    classifier, ended = proc / files.CLASSIFIER, (proc / files.EVALUATION).stat().st_mtime
    given = {"classifier": figures["classifier"], "evaluate_on": figures["evaluated_on"]}
    about = {"evaluated_on": figures["evaluated_on"], "scores sha256": scores_sha256}
    has_classifier = classifier.exists() and classifier.stat().st_mtime <= ended
    if has_classifier:
        metadata = read_metadata(classifier)
        given |= {name: value for name, value in metadata["parameters"].items() if name in PARAMETERS}
        about |= {
            "classifier sha256": files.sha256(classifier),
            "imgclf version": str(metadata["imgclf_version"]),
        }
    run = runs.start(runs.IMPORTED, dataset_name, given)
    with runs.attempt(run):
        for name in (files.EVALUATION, files.SCORES, *dataset.TABLES):
            if (proc / name).exists():
                shutil.copyfile(proc / name, run.folder / name)
        if has_classifier:
            runs.keep_classifier(run, classifier)
        started = datetime.fromtimestamp(int(ended)).astimezone().isoformat()
        runs.finish(run, started=started, metrics=recording.metrics(figures), about=about)


def _printed(text: str) -> dict[str, float]:
    """Return the metrics in the table that 05_evaluate printed."""
    metrics: dict[str, float] = {}
    for row in filter(None, map(ROW.fullmatch, text.splitlines())):
        label = row[1].strip()
        name = AVERAGES.get(label, f"accuracy of class {label}")
        metrics |= {f"{name}{end}": int(row[k]) / 100 for end, k in (("", 3), (" low", 4), (" high", 5))}
        if row[6]:
            metrics[f"ROC area of class {label}"] = float(row[6])
        if label == "overall accuracy":
            metrics["test images"] = float(row[2])
    return metrics if ACCURACY in metrics else {}
