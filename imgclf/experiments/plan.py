"""The plan of a run: which notebooks have to run for the wanted parameters, and why."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imgclf import ImgclfError, parameters
from imgclf.collect import manifest
from imgclf.data import dataset, layout, remote
from imgclf.experiments import notebooks, provenance
from imgclf.networks import backbones
from imgclf.parameters import Setting, Value

Wanted = dict[str, Value]
EVERYWHERE = ("dataset_name", "images_dir")  # the notebooks of a run take them


@dataclass(frozen=True)
class Step:
    """One notebook of a plan.

    Attributes
    ----------
    wanted : the parameters of the notebook. reason : why it has to run; empty if its results are up to date.
    """

    path: Path
    wanted: Wanted
    reason: str

    @property
    def number(self) -> str:
        """Number of the notebook."""
        return self.path.name[:2]


def settings(path: Path, values: Mapping[str, Value]) -> dict[str, Setting]:
    """Return the parameters of a notebook with their sources; see `parameters.resolve`.

    Raises
    ------
    ImgclfError : a value is not allowed.
    """
    number = path.name[:2]
    names = [each.name for each in parameters.for_notebook(number)]
    return parameters.resolve(values, notebooks.read(path), names, number=number)


def wanted(path: Path, values: Mapping[str, Value]) -> Wanted:
    """Return the values of `settings`."""
    return {name: setting.value for name, setting in settings(path, values).items()}


def made_with(dataset_name: str) -> str:
    """Return what decided the results on disk: parameters that are not default, and an edited split."""
    records = [made for number in provenance.NAMES if (made := provenance.read(dataset_name, number))]
    changed = {
        name: f"{name} = {parameters.code(value)}"
        for made in records
        for name, value in made.parameters.items()
        if name in parameters.PARAMETERS and not is_default(name, made.parameters)
    }
    text = "All parameters have their defaults."
    if changed:
        text = f"Parameters that are not default: {', '.join(changed.values())}."
    if provenance.is_edited(dataset_name):
        text += "\nThe split was edited by hand, in split.tsv."
    return text


def is_default(name: str, values: Mapping[str, Value]) -> bool:
    """Whether a parameter among those of a record has its default, or what its default stands for."""
    default = parameters.PARAMETERS[name].default
    if name == "input_size" and "backbone" in values:
        return values[name] in (default, backbones.known_side(str(values["backbone"]), default))
    return values[name] == default


def make(paths: Iterable[Path], values: Mapping[str, Value]) -> list[Step]:
    """Return a step for each notebook; 00_get_images has none if the images come from no manifest.

    Raises
    ------
    ImgclfError : 01_prepare_data has to run, and would overwrite a `split.tsv` that a person edited.
    """
    steps = []
    for path in paths:
        own = wanted(path, values)
        if path.name[:2] == "00" and (own["images_dir"] or not manifest.find(str(own["dataset_name"]))):
            continue
        reason, dataset_name = provenance.outdated(path.name[:2], own), str(own["dataset_name"])
        if path.name[:2] == "01" and reason and provenance.is_edited(dataset_name):
            raise ImgclfError(
                f"split.tsv of {dataset_name}: edited, and {path.stem} would overwrite it ({reason}); start "
                "with --from 01 for a new split, or with --from 02 to keep yours, of the images scanned then"
            )
        steps.append(Step(path, own, reason))
    return steps


def text(steps: Sequence[Step]) -> str:
    """Return a line for each notebook: that it is up to date, or why it runs."""
    lines = []
    first = ""  # that has to run
    may_run: set[str] = set()
    for step in steps:
        said = "up to date"
        sources = ("00",) if step.number == "01" else provenance.builds_on(step.number, step.wanted)
        if step.reason:
            said = f"runs: {step.reason}"
            first = first or step.path.stem
        elif may_run.intersection(sources):
            said = f"runs if the files of {first} change"
        elif step.number == "01" and provenance.is_edited(str(step.wanted["dataset_name"])):
            said += ", with your split.tsv"
        if said.startswith("runs"):
            may_run.add(step.number)
        lines.append(f"{step.path.stem:<18}{said}")
    return "\n".join(lines)


def check_used(paths: Iterable[Path], values: Mapping[str, Value]) -> None:
    """Refuse a given parameter that none of the notebooks takes.

    Raises
    ------
    ImgclfError : names it.
    """
    numbers = {path.name[:2] for path in paths}
    for name in values.keys() & parameters.PARAMETERS.keys() - set(EVERYWHERE):
        takers = parameters.PARAMETERS[name].notebooks
        if not numbers & set(takers):
            raise ImgclfError(
                f"{name}: no notebook of this run takes it (only {', '.join(takers)}); leave it out"
            )


def check_start(chosen: Sequence[Path], left_out: Sequence[Path], values: Mapping[str, Value]) -> None:
    """Refuse a run that leaves out a notebook which has to run for the wanted parameters.

    Raises
    ------
    ImgclfError : a given parameter is one of a notebook that is left out and ran with another value; or the
        first of the `chosen` notebooks would refuse what earlier ones left. Names the notebook to start from.
    """
    first = wanted(chosen[0], values)
    for path in left_out:
        own = provenance.relevant_parameters(path.name[:2], wanted(path, values))
        made = provenance.read(str(first["dataset_name"]), path.name[:2])
        for name in [each.name for each in parameters.for_notebook(path.name[:2]) if each.name in values]:
            before = made.parameters.get(name) if made else None
            is_used = any(each.name[:2] in parameters.PARAMETERS[name].notebooks for each in chosen)
            if name in EVERYWHERE or before == own.get(name, values[name]) or (is_used and before is None):
                continue
            ran = f"ran with {parameters.code(before)}" if before is not None else "is left out"
            raise ImgclfError(
                f"{name} = {parameters.code(values[name])}: {path.stem} takes it, and {ran}; start there, "
                f"with --from {path.name[:2]}, or leave out --from"
            )
    check_used([*left_out, *chosen], values)
    provenance.check(chosen[0].name[:2], first)


def check_agreement(chosen: Iterable[Path], values: Mapping[str, Value]) -> None:
    """Refuse notebooks whose cells have different values of a parameter that must be the same in all.

    Raises
    ------
    ImgclfError : names the parameter, its values and their notebooks.
    """
    seen: dict[str, tuple[Value, str]] = {}
    for path in chosen:
        own = wanted(path, values)
        everywhere = {name: own[name] for name in EVERYWHERE if own[name]}  # "": the folder of the scan
        for name, value in {**everywhere, **provenance.relevant_parameters(path.name[:2], own)}.items():
            before, stem = seen.setdefault(name, (value, path.stem))
            if before != value:
                raise ImgclfError(
                    f"{name} = {parameters.code(before)} in {stem}, but {parameters.code(value)} in "
                    f"{path.stem}; give -p {name}=VALUE, or edit the cell of one"
                )


def with_known_folder(values: Mapping[str, Value], dataset_name: str, images_dir: str) -> dict[str, Value]:
    """Return the values, with the folder that was scanned last if there is no other one."""
    scanned = dataset.scanned_folder(dataset_name)
    if images_dir or not scanned or dataset.images_folder(dataset_name).is_dir():
        return dict(values)
    return {**values, "images_dir": dataset.location(scanned)}


def check_folder(dataset_name: str, images_dir: str, start: str) -> None:
    """Refuse a folder of images that the first notebook of a run, `start`, could not use.

    Raises
    ------
    ImgclfError : there is no such folder, it has no label folders, or another one was scanned.
    """
    folder, scanned = dataset.images_folder(dataset_name, images_dir), dataset.scanned_folder(dataset_name)
    if start >= "02":
        if images_dir and scanned and folder != scanned:
            raise ImgclfError(
                f"images_dir={images_dir}: {dataset_name} was scanned in {dataset.location(scanned)}; "
                "start with --from 01"
            )
    elif start != "00" or images_dir or not manifest.entries_of(dataset_name):
        remote.follow(folder, seconds=0)
        layout.find(folder)
