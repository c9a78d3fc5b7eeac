"""Training again after labels or images were changed, with the parameters of the last results."""

import shlex

import numpy as np

from imgclf import ImgclfError, files, parameters
from imgclf.data import dataset
from imgclf.data.split_check import TEST
from imgclf.evaluation import comparison, report
from imgclf.evaluation.metrics import Evaluation
from imgclf.experiments import notebooks, plan, provenance, sequence
from imgclf.parameters import Value, project_file

NOTHING_CHANGED = "Nothing changed"


@project_file.fixed()
def run(dataset_name: str = "") -> str:
    """Run the notebooks from 01 on whose results are not up to date, and compare with the last results.

    Parameters
    ----------
    dataset_name : by default, that of the notebooks.

    Returns
    -------
    The closing report of the run, if any notebook ran, and the comparison; see `compared`.

    Raises
    ------
    ImgclfError : there are no results yet; see also `sequence.run`.
    KeyboardInterrupt : as of `sequence.run`.
    """
    given: dict[str, Value] = {"dataset_name": dataset_name} if dataset_name else {}
    dataset_name = str(plan.wanted(notebooks.stages()[0], given)["dataset_name"])
    before, values = earlier(dataset_name), _overriding(last_parameters(dataset_name))
    try:
        _, folder = sequence.run(values, fetches=False)
    except KeyboardInterrupt as stop:
        again = shlex.join(["imgclf", "run", "--changed", "-p", f"dataset_name={dataset_name}"])
        raise KeyboardInterrupt(f"{str(stop).partition(';')[0] or 'stopped'}; to go on: {again}") from None
    text = compared(dataset_name, before)
    return f"{sequence.closing_report(dataset_name, folder, values)}\n\n{text}" if folder else text


def earlier(dataset_name: str) -> Evaluation:
    """Return the last evaluation of the test images, before another run replaces it.

    Raises
    ------
    ImgclfError : there is none.
    """
    try:
        return report.read_last_test_scores(files.proc_dir(dataset_name))
    except ImgclfError as error:
        raise _no_results(dataset_name, str(error)) from error


def compared(dataset_name: str, before: Evaluation) -> str:
    """Return the accuracy of now beside the one before, and whether chance explains the difference."""
    after = report.read_test_scores(files.proc_dir(dataset_name))
    if (after.paths, after.labels) == (before.paths, before.labels) and all(
        np.array_equal(getattr(before, name), getattr(after, name)) for name in ("truth", "scores")
    ):
        return (
            f"{NOTHING_CHANGED}: the test images, their labels and their scores are those of the last run; "
            f"overall accuracy {after.overall_accuracy}"
        )
    return str(comparison.compare_after_changes(before, after))


def last_parameters(dataset_name: str) -> dict[str, Value]:
    """Return the parameters that the results of a data set were made with last.

    Those without an effect on the results are not among them, but for the data set and its folder.

    Raises
    ------
    ImgclfError : a notebook has not run yet, or two ran last with different values of a parameter.
    """
    values: dict[str, Value] = {}
    source: dict[str, str] = {}
    for path in notebooks.stages():
        made = provenance.read(dataset_name, path.name[:2])
        if made is None:
            raise _no_results(dataset_name, f"no record of {path.stem}")
        for name, value in made.parameters.items():
            if name in parameters.PARAMETERS and values.setdefault(name, value) != value:
                raise ImgclfError(
                    f"{name} = {parameters.code(values[name])} in the last {source[name]}, but "
                    f"{parameters.code(value)} in the last {path.stem}; choose one: "
                    f"imgclf run -p dataset_name={dataset_name} -p {name}=VALUE"
                )
            source.setdefault(name, path.stem)
    folder = dataset.scanned_folder(dataset_name)
    if folder is None:
        raise _no_results(dataset_name, "no list of its images")
    images_dir = "" if folder == dataset.images_folder(dataset_name) else dataset.location(folder)
    return {**values, "dataset_name": dataset_name, "images_dir": images_dir, "evaluate_on": TEST}


def _no_results(dataset_name: str, reason: str) -> ImgclfError:
    return ImgclfError(f"{dataset_name}: no earlier results to compare with ({reason}); run imgclf run first")


def _overriding(values: dict[str, Value]) -> dict[str, Value]:
    """Return those values that the notebooks would not take anyway."""
    name = {"dataset_name": values["dataset_name"]}
    given: dict[str, Value] = {**name}
    for path in notebooks.stages():
        own = plan.wanted(path, name)
        given |= {each: values[each] for each in own if each in values and own[each] != values[each]}
    return given
