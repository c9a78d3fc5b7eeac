"""Runs of version 0.1.0, which kept only the executed notebooks, as in `runs/2026-11-25_17-04-02/`."""

import re
from datetime import datetime
from pathlib import Path
from typing import Any

from imgclf import ImgclfError
from imgclf.experiments import notebooks

FOLDER = re.compile(r"(20\d\d-\d\d-\d\d_\d\d-\d\d-\d\d)(_\d+)?")
TRIAL = re.compile(r"(.+)@\w+=.*")  # data set that a trial ran as
INJECTED = "injected-parameters"  # papermill's tag
ROW = re.compile(r"(.{32}) *(\d+) +(\d+)% +(\d+)% to +(\d+)%(?: +(\d\.\d\d))?")  # of the table in 05
AVERAGES = {
    "overall accuracy": "overall accuracy",
    "overall class-averaged accuracy": "class-averaged accuracy",
}
DAMAGED = (ImgclfError, OSError, ValueError, LookupError, TypeError, AttributeError)
AS_PRINTED = "as printed, in whole percent"


def read(folder: Path) -> dict[str, Any] | None:
    """Return what the executed notebooks of a run tell, as attributes of a `Run`; None without any."""
    name = FOLDER.fullmatch(folder.name)
    paths = sorted(folder.glob("0[0-5]_*.ipynb")) if name else []
    if name is None or not paths:
        return None
    import nbformat  # here, since each list of runs asks, and it takes a second to load

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
    return metrics if "overall accuracy" in metrics else {}
