"""What each stage was made with: its parameters and the hashes of its inputs and outputs.

Notebooks 00 to 05 call `begin` in their first code cell and `end` in their last one. `end` writes a record,
`proc/NAME/made_with/NN.json`; until then the stage counts as unfinished. `begin` checks the records of all
stages that the notebook builds on, so that results of other images, splits, networks or parameters are never
combined.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from imgclf import ImgclfError, __version__, files, parameters
from imgclf.collect import fetch, manifest
from imgclf.data import dataset, layout, scan, test_list
from imgclf.evaluation import comparison, report
from imgclf.experiments import notebooks
from imgclf.experiments.history import cost, old_runs
from imgclf.features import Cache, inference, is_whole
from imgclf.finetuning import record
from imgclf.networks import backbones
from imgclf.parameters import SVM, Value

FOLDER = "made_with"
NAMES = {
    "00": "00_get_images",
    "01": "01_prepare_data",
    "02": "02_refine_dnn",
    "03": "03_run_dnn",
    "04": "04_train_svm",
    "05": "05_evaluate",
}

# The files below proc/NAME that each stage writes. {features} is the folder of the feature vectors, and
# {results} that of an evaluation.
SCAN = "images.json"  # results depend on the other tables; this one also changes when a label is confirmed
DATASET = ("images.tsv", SCAN)
SPLIT = ("split.tsv", "split.json")
REFINED = (files.REFINED_NETWORK, files.DNN_HEAD, record.RECORD)
FEATURES, QUANTIZED, CHOICE = "{features}/*.npz", "{quantized}", "{choice}"
TO_EVALUATE = (files.CLASSIFIER, files.HELD_OUT, files.LABEL_SCORES, files.SVM_HEAD)
WRITES = {
    "00": (),  # the images; 01 writes the same tables again
    "01": (*DATASET, *SPLIT),
    "02": (files.FIXED_NETWORK, *REFINED, "dnn_training.png"),
    "03": (FEATURES, QUANTIZED, CHOICE, "feature_map.png"),
    "04": (
        *TO_EVALUATE,
        files.FAMILIARITY,
        *(f"{name}.png" for name in ("svm_c", "training_size", "training_size_of_labels")),
    ),
    "05": tuple(
        f"{{results}}/{name}"
        for name in (
            files.EVALUATION,
            files.SCORES,
            *(f"{name}.png" for name in ("confusion", "roc", "precision_recall", "rejection", "reliability")),
            *("mistakes.jpg", "suspects.jpg"),
        )
    ),
}
READS: dict[str, tuple[str, ...]] = {  # with classifier="svm" without those of the fine-tuned network
    "00": (),
    "01": (),
    "02": (*DATASET, *SPLIT),  # with classifier="svm" nothing
    "03": (*DATASET, files.FIXED_NETWORK, *REFINED),
    "04": (*DATASET, *SPLIT, files.FIXED_NETWORK, *REFINED, FEATURES, QUANTIZED, CHOICE),
    "05": (*DATASET, *SPLIT, files.FIXED_NETWORK, files.REFINED_NETWORK, QUANTIZED, *TO_EVALUATE),
}
BASELINE = "baseline"  # the record of 05 with classifier="svm", with which a fine-tuned network is compared
PRODUCER = {name: number for number, names in WRITES.items() for name in names}
EDITABLE = "split.tsv"  # a person may change it; what was made from it before is stale then
# What a stage uses again if it is there; the record of a fine-tuning has hashes of its own.
REUSED = {"01": ("images.tsv",), "03": (FEATURES, QUANTIZED, CHOICE)}

# Inputs that are no files below proc/NAME, by their names in a record.
IMAGES, TEST_LIST, MANIFEST, BACKBONE = "images", "list of test images", "manifest", "file of the backbone"
PROCESSOR, OTHER_THINGS = "processor and packages", "images of other things"
MEASURED = ("int8", "auto")  # precisions for which 03 needs training images
FETCHED, ALL, NONE = "images fetched", "all", "none"  # in the outputs of 00, and where there is no file
_begun: dict[Path, "Record"] = {}  # of this process; a run in another one may have replaced those on disk
WITHOUT_EFFECT = ("dataset_name", "images_dir", "inference_batch_size", "cluster")  # on the results
OF_PRETRAINED = ("classifier", "backbone", "input_size")  # what 02 needs with classifier="svm"
KINDS = {
    **dict.fromkeys(("notebook", "imgclf_version"), str),
    "parameters": dict[str, Any],
    **dict.fromkeys(("inputs", "outputs"), dict[str, str]),
    "is_finished": bool,
    **dict.fromkeys(("seconds", "peak_memory_mb"), float),
}


@dataclass(frozen=True)
class Record:
    """What a stage was made with; the names of the attributes are the keys of the file.

    Attributes
    ----------
    parameters : those that decide the results.
    inputs, outputs : sha256 of each file, by its path below `proc/NAME`. Other inputs have the names above.
    notebook : sha256 of the notebook's code cells, without the parameters cell; empty if other cells ran.
    is_finished : whether the notebook reached its last code cell.
    seconds, peak_memory_mb : what it took, see `cost.measured`; 0 if unknown.
    """

    parameters: dict[str, Value]
    inputs: dict[str, str]
    outputs: dict[str, str] = field(default_factory=dict)
    notebook: str = ""
    imgclf_version: str = __version__
    is_finished: bool = False
    seconds: float = 0.0
    peak_memory_mb: float = 0.0


class _Disk:
    """The files of a data set. Each is hashed once: a network may have 100 MB, and several checks need it."""

    def __init__(self, dataset_name: str) -> None:
        self.name, self.proc = dataset_name, files.proc_dir(dataset_name)
        self._sha256 = cache(files.sha256)

    def hashes(self, names: Iterable[str]) -> dict[str, str]:
        """Return the sha256 of the files that are there, by name; names may be patterns."""
        paths = (path for name in names for path in sorted(self.proc.glob(name)) if path.is_file())
        return {path.relative_to(self.proc).as_posix(): self._sha256(path) for path in paths}

    def outside(self, *paths: Path | None) -> str:
        """Return the sha256 of each of the other files that are there; empty if there are none."""
        return " ".join(self._sha256(path) for path in paths if path and path.is_file())


def begin(number: str, namespace: dict[str, Any]) -> None:
    """Announce the parameters of a notebook, check what it builds on, and mark its stage as unfinished.

    Parameters
    ----------
    number : of the notebook, such as "04". namespace : its `globals()`.

    Raises
    ------
    ImgclfError : see `check`, and `parameters.announce`.
    """
    cost.begin(number)
    parameters.announce(namespace)
    values = _values(number, namespace)
    disk = _Disk(str(values["dataset_name"]))
    _check(number, values, disk)
    old_runs.keep_evaluation(disk.name)
    earlier = read(disk.name, number)
    _remove_changed(number, values, disk)
    if number == "05":
        _remove_other_baseline(values, disk)
    made = Record(
        relevant_parameters(number, values), _inputs(number, values, disk), earlier.outputs if earlier else {}
    )
    _write(disk.name, number, made)
    _begun[_path(disk.name, number)] = made


def end(number: str, namespace: Mapping[str, Any]) -> None:
    """Write the record of a finished stage.

    Raises
    ------
    ImgclfError : a parameter or an input is not what it was at `begin`.
    """
    values = _values(number, namespace)
    disk = _Disk(str(values["dataset_name"]))
    begun, on_disk = _begun.get(_path(disk.name, number)), read(disk.name, number)
    now, wanted = _inputs(number, values, disk), relevant_parameters(number, values)
    if begun is None or on_disk is None or not begun.parameters == on_disk.parameters == wanted:
        raise ImgclfError(f"{NAMES[number]}: its parameters were changed after its first cell; run all cells")
    changed = [name for name in {**begun.inputs, **now} if begun.inputs.get(name) != now.get(name)]
    if IMAGES in changed:  # in the annotator, perhaps; which of the two states was scanned is unknown
        changed.remove(IMAGES)
        now[IMAGES] = ""
    if changed:
        raise ImgclfError(
            f"{NAMES[number]}: {', '.join(changed)} changed while it ran, as by Train again or a run in "
            "another window; run all cells again, to go on with the new results"
        )
    _finish(number, values, now, disk, code=_code_sha256(number, namespace))


def write(number: str, values: Mapping[str, Value]) -> None:
    """Write the record of a stage whose outputs are on disk; `values` has at least its parameters."""
    disk = _Disk(str(values["dataset_name"]))
    _finish(number, values, _inputs(number, values, disk), disk, code=_code_sha256(number, {}))


def _finish(
    number: str, values: Mapping[str, Value], inputs: dict[str, str], disk: _Disk, *, code: str
) -> None:
    outputs = disk.hashes(_expanded(WRITES[number], values, disk))
    if number == "00":
        outputs = {**disk.hashes(DATASET), FETCHED: _fetched(values)}
    if number == "03" and (earlier := read(disk.name, number)):  # of runs with another precision or engine
        kept = {name: sha256 for name, sha256 in earlier.outputs.items() if (disk.proc / name).is_file()}
        outputs = disk.hashes([inference.quantized_file(Path("*.onnx")).name]) | kept | outputs
    made = Record(relevant_parameters(number, values), inputs, outputs, code, is_finished=True)
    made = replace(made, **cost.measured(number))
    _write(disk.name, number, made)
    if number == "05" and values["classifier"] == SVM and values["evaluate_on"] == "test":
        scores = comparison.scores_file(disk.proc, SVM).name
        _write(disk.name, BASELINE, replace(made, outputs=disk.hashes([scores])))


def _values(number: str, namespace: Mapping[str, Any]) -> dict[str, Value]:
    defaults = {each.name: each.default for each in parameters.for_notebook(number)}
    return defaults | parameters.from_namespace(namespace)


def relevant_parameters(number: str, values: Mapping[str, Value]) -> dict[str, Value]:
    """Return the parameters that decide the results of a stage; input_size=0 as the backbone's."""
    names = [each.name for each in parameters.for_notebook(number) if each.name not in WITHOUT_EFFECT]
    if number == "02" and values["classifier"] == SVM:
        names = [name for name in names if name in OF_PRETRAINED]
    chosen = {name: values[name] for name in names}
    if "input_size" in chosen:
        chosen["input_size"] = backbones.known_side(str(chosen["backbone"]), chosen["input_size"])
    return chosen


def builds_on(number: str, values: Mapping[str, Value]) -> tuple[str, ...]:
    """Return the numbers of the stages whose results a stage uses, also through others."""
    if number == "02" and values["classifier"] == SVM:
        return ()
    return tuple(earlier for earlier in NAMES if "01" <= earlier < number)


def check(number: str, values: Mapping[str, Value]) -> None:
    """Refuse to run a notebook on results that do not belong together.

    Every stage that it builds on must have finished, with the same values of the parameters that both take,
    from the inputs that are there now; and each file that the notebook reads must be as it was written.

    Raises
    ------
    ImgclfError : names the file, the notebook that wrote it and with what, and where to start again.
    """
    _check(number, values, _Disk(str(values["dataset_name"])))


def _check(number: str, values: Mapping[str, Value], disk: _Disk) -> None:
    dataset_name, wanted = disk.name, relevant_parameters(number, values)
    for earlier in builds_on(number, values):
        made = read(dataset_name, earlier)
        main = main_output(earlier, made.parameters if made else values)
        again = f"run the notebooks again from {NAMES[earlier]} on"
        if made is None or not made.is_finished:
            raise ImgclfError(_unfinished(dataset_name, earlier, made, main))
        for name in sorted(made.parameters.keys() & wanted.keys()):
            if made.parameters[name] != wanted[name]:
                raise ImgclfError(
                    f"{main} of {dataset_name}: {NAMES[earlier]} made it with "
                    f"{name}={made.parameters[name]!r}, but {NAMES[number]} has {name}={wanted[name]!r}; "
                    f"{again} with {name}={wanted[name]!r}, or set {name}={made.parameters[name]!r} to use it"
                )
        if stale := next(_stale_inputs(made, disk), ""):
            raise ImgclfError(
                f"{main} of {dataset_name}: {NAMES[earlier]} made it from another {stale} than there is "
                f"now; {again}"
            )
        for name in _changed_outputs(number, values, earlier, made, disk):
            raise ImgclfError(f"{name} of {dataset_name}: not as {NAMES[earlier]} wrote it; {again}")


def _unfinished(dataset_name: str, number: str, made: Record | None, main: str) -> str:
    exists = bool(list(files.proc_dir(dataset_name).glob(main)))
    if made is None and exists:  # of version 0.1.0
        return (
            f"{main} of {dataset_name}: no record of what {NAMES[number]} made it with, as in results of "
            f"version 0.1.0; run the notebooks again from {NAMES['01']} on: features and fine-tuned networks "
            "that fit are used again"
        )
    state = "has not run yet" if made is None else "was not run to its end"
    return f"{dataset_name}: {NAMES[number]} {state}; run the notebooks from {NAMES[number]} on"


def main_output(number: str, values: Mapping[str, Value]) -> str:
    """Return the file by which people know a stage."""
    if number == "02":
        return files.FIXED_NETWORK if values["classifier"] == SVM else files.REFINED_NETWORK
    return {"00": "images.tsv", "01": EDITABLE, "03": "features", "04": files.CLASSIFIER}.get(
        number, files.EVALUATION
    )


def outdated(number: str, values: Mapping[str, Value]) -> str:
    """Return why a stage would have to run to have the results of these parameters; empty if it has them."""
    disk, wanted = _Disk(str(values["dataset_name"])), relevant_parameters(number, values)
    made = read(disk.name, number)
    if made is None:
        return "it has not run yet"
    if not made.is_finished:
        return "it was not run to its end"
    differing = [name for name, value in wanted.items() if made.parameters.get(name) != value]
    if known := [name for name in differing if name in made.parameters]:
        return "; ".join(
            f"{name} = {parameters.code(wanted[name])}, was {parameters.code(made.parameters[name])}"
            for name in known
        )
    if differing:
        return f"it ran without {', '.join(differing)}"
    if made.imgclf_version != __version__:
        return f"it ran with imgclf {made.imgclf_version}"
    if made.notebook != _code_sha256(number, {}):
        return "its code was changed"
    folder = _images_folder(values)
    if number == "01" and dataset.scanned_folder(disk.name) != folder:
        return f"the images are in {dataset.location(folder)}"
    if number == "00" and not folder.is_dir():
        return f"{folder} is missing"
    if number == "00" and made.outputs.get(FETCHED) != ALL:
        return "not all images could be fetched"
    seen = made.inputs.get(IMAGES)
    if seen is not None and (not seen or seen != scan.images_state(folder)):
        return f"the images in {dataset.location(folder)} were changed"
    changed = next(_stale_inputs(made, disk), "") or next(
        _changed_outputs(number, values, number, made, disk), ""
    )
    if changed:
        return f"{changed} was changed or is missing"
    finetuned = record.read(disk.proc) if number == "02" else None
    if values.get("classifier") != SVM and finetuned and finetuned.was_interrupted:
        return "fine-tuning was interrupted"
    return ""


def is_edited(dataset_name: str) -> bool:
    """Whether a person changed `split.tsv` after 01_prepare_data wrote it."""
    made, now = read(dataset_name, "01"), _Disk(dataset_name).hashes([EDITABLE]).get(EDITABLE)
    return made is not None and made.is_finished and now not in (None, made.outputs.get(EDITABLE))


def read(dataset_name: str, number: str) -> Record | None:
    """Return the record of a stage; None if there is none, or it is damaged."""
    try:
        return Record(**files.read_json(_path(dataset_name, number), KINDS, defaults=cost.UNKNOWN))
    except (OSError, ValueError, TypeError):  # TypeError: an unknown key
        return None


def _write(dataset_name: str, number: str, made: Record) -> None:
    files.write_json(_path(dataset_name, number), asdict(made))


def _path(dataset_name: str, number: str) -> Path:
    return files.proc_dir(dataset_name) / FOLDER / f"{number}.json"


def _images_folder(values: Mapping[str, Value]) -> Path:
    return dataset.images_folder(str(values["dataset_name"]), str(values.get("images_dir", "")))


def _inputs(number: str, values: Mapping[str, Value], disk: _Disk) -> dict[str, str]:
    """Return the hashes of all inputs of a stage, as they are now."""
    names = [name for name in _reads(number, values) if name != SCAN]
    found = disk.hashes(_expanded(names, values, disk))
    if number == "00" and (path := _manifest(values)):
        found[MANIFEST] = disk.outside(path)
    if number == "01":
        folder = _images_folder(values)
        found |= {IMAGES: scan.images_state(folder), TEST_LIST: test_list.sha256(folder)}
    if number == "05":
        found[OTHER_THINGS] = layout.other_things_state(_images_folder(values))
    if number == "02" and (network := backbones.files_of(str(values["backbone"]))):
        found[BACKBONE] = disk.outside(*network)
    if number == "03" and values["precision"] == "auto":
        found[PROCESSOR] = inference.processor(str(values["engine"]))
    return found


def _reads(number: str, values: Mapping[str, Value]) -> tuple[str, ...]:
    if values.get("classifier") == SVM:
        names = () if number == "02" else tuple(name for name in READS[number] if name not in REFINED)
    else:
        names = READS[number]
    return (*names, *SPLIT) if number == "03" and values["precision"] in MEASURED else names


def _expanded(names: Iterable[str], values: Mapping[str, Value], disk: _Disk) -> list[str]:
    """Return names with the files and folders in place of what is in braces."""
    features = quantized = choice = NONE
    if {"classifier", "precision"} <= values.keys():
        network, precision = disk.proc / main_output("02", values), str(values["precision"])
        if precision == "auto":
            choice = inference.choice_file(network).name
        if used := inference.known(network, str(values["engine"]), precision):
            quantized = used[0].name if used[1] == "int8" else NONE
            if sha256 := disk.hashes([used[0].name]).get(used[0].name):
                features = Cache.name(used[0], sha256, used[1], engine=str(values["engine"]))
    results = report.results_folder(Path(), str(values.get("evaluate_on"))).as_posix()
    found = {"features": f"features/{features}", "results": results, "quantized": quantized, "choice": choice}
    return [Path(name.format(**found)).as_posix() for name in names]


def _stale_inputs(made: Record, disk: _Disk) -> Iterator[str]:
    """Yield the inputs of a stage that are not those that it read, but for the images themselves.

    An input that another stage wrote is compared with the record of that stage; a file that is not there, as
    a backbone on another machine, with nothing.
    """
    outputs = {each: by.outputs for each in NAMES if (by := read(disk.name, each))}
    for name, sha256 in made.inputs.items():
        if name == IMAGES:
            continue
        if name in (TEST_LIST, MANIFEST, BACKBONE, PROCESSOR, OTHER_THINGS):
            now = _outside(name, made, disk)
        elif name == EDITABLE:
            now = disk.hashes([name]).get(name, NONE)
        else:
            producer = PRODUCER.get(name, PRODUCER[FEATURES])
            now = outputs.get(producer, {}).get(name, NONE)
        if now and now != sha256:
            yield name


def _outside(name: str, made: Record, disk: _Disk) -> str:
    """Return the hash of an input that no stage writes; empty if it cannot be read here."""
    values = {"dataset_name": disk.name, **made.parameters}
    if name in (TEST_LIST, OTHER_THINGS):
        folder = dataset.scanned_folder(disk.name)
        state = test_list.sha256 if name == TEST_LIST else layout.other_things_state
        return state(folder) if folder and folder.is_dir() else ""
    if name == PROCESSOR:
        return inference.processor(str(values["engine"]))
    backbone = backbones.files_of(str(values.get("backbone")))
    return disk.outside(*([_manifest(values)] if name == MANIFEST else backbone))


def _fetched(values: Mapping[str, Value]) -> str:
    entries = manifest.entries_of(str(values["dataset_name"]), str(values["images_dir"]))
    folder, most = _images_folder(values), int(str(values["max_images"]))
    return "some" if fetch.is_incomplete(entries, folder, max_images=most) else ALL


def _manifest(values: Mapping[str, Value]) -> Path | None:
    return None if values.get("images_dir") else manifest.find(str(values["dataset_name"]))


def _changed_outputs(
    number: str, values: Mapping[str, Value], producer: str, made: Record, disk: _Disk
) -> Iterator[str]:
    """Yield the files that a stage reads of another one, or all of its own, if not as they were written."""
    names = WRITES[producer] if number == producer else _reads(number, values)
    patterns = _expanded((name for name in names if PRODUCER[name] == producer), values, disk)
    now = disk.hashes(patterns)
    written = {
        name: sha256
        for name, sha256 in made.outputs.items()
        if any(fnmatchcase(name, pattern) for pattern in patterns)
    }
    for name in sorted(now.keys() | written.keys()):
        is_edited_by_hand = name == EDITABLE and name in now
        if now.get(name) != written.get(name) and not is_edited_by_hand:
            yield name


def _remove_changed(number: str, values: Mapping[str, Value], disk: _Disk) -> None:
    """Remove what a stage would use again but did not write so itself, and say so.

    After a run that was stopped, what it wrote is in no record, and stays; 03 never writes a shard twice.
    """
    records = [made for each in (number, "00") if (made := read(disk.name, each))]
    if number not in REUSED or (number != "03" and not all(made.is_finished for made in records)):
        return
    for name, sha256 in disk.hashes(_expanded(REUSED[number], values, disk)).items():
        known = {made.outputs[name] for made in records if name in made.outputs}
        path = disk.proc / name
        if (known and sha256 not in known) or (path.suffix == ".npz" and not is_whole(path)):
            path.unlink()
            print(f"{name}: not as {NAMES[number]} wrote it; it is made anew")


def _remove_other_baseline(values: Mapping[str, Value], disk: _Disk) -> None:
    """Remove the scores of the baseline if they are of other images, another split or network; say so."""
    path = comparison.scores_file(disk.proc, SVM)
    if values["classifier"] == SVM or not path.exists():
        return
    made, now = read(disk.name, BASELINE), _inputs("05", values, disk)
    names = ("images.tsv", *SPLIT, files.FIXED_NETWORK)
    is_comparable = made is not None and all(made.inputs.get(name) == now[name] for name in names)
    if made is None or not is_comparable or made.outputs != disk.hashes([path.name]):
        path.unlink()
        print(f"{path.name}: of other images or another network than there are now; removed")


def _code_sha256(number: str, namespace: Mapping[str, Any]) -> str:
    """Return the hash of a notebook's code; empty if IPython executed other cells since the last `begin`."""
    ran = namespace.get("In")
    starts = [k for k, cell in enumerate(ran or []) if f'provenance.begin("{number}"' in cell]
    return notebooks.code_sha256(notebooks.path(number), ran[starts[-1] :] if ran and starts else ran)
