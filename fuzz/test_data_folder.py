"""A data folder from somebody else: whatever its files hold, each command reads them or raises an ImgclfError."""

import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import strategies as st

from imgclf import ImgclfError, features, files, svm
from imgclf.annotation.annotations import Annotations
from imgclf.classifier.model import Classifier
from imgclf.collect import manifest
from imgclf.data import dataset, previous_split, scan, scan_cache, split
from imgclf.evaluation import report
from imgclf.experiments import sequence, trials
from imgclf.finetuning import checkpoint, record
from imgclf.parameters import PARAMETERS, project_file
from imgclf.service.scoring import Model
from support.mutations import JSON_VALUES, TEXT, TEXTS, damaged
from support.project import ROOT

SAMPLE = ROOT / "tests" / "samples" / "data_folder_0.1.0"
PROC = SAMPLE / "proc" / "colours"
TABLES = ("images.tsv", "images.json", "split.tsv", "split.json", "evaluation.json", "dnn_refined.json")
ARRAYS = sorted(path.relative_to(PROC).as_posix() for path in PROC.rglob("*.npz"))


@pytest.fixture
def proc(data_dir: Path) -> Path:
    """The folder of the data set in a copy of the sample."""
    shutil.copytree(SAMPLE, data_dir)
    return data_dir / "proc" / "colours"


def one_of(contents: dict[str, st.SearchStrategy[bytes]]) -> st.SearchStrategy[dict[str, bytes]]:
    """One file with its content."""
    return st.sampled_from(sorted(contents)).flatmap(
        lambda name: contents[name].map(lambda content: {"name": name.encode(), "content": content})
    )


def write(proc: Path, inputs: dict[str, bytes]) -> str:
    """Replace one file of the sample; return its name."""
    name = inputs["name"].decode()
    (proc / name).write_bytes(inputs["content"])
    return name


def refused(work, *arguments) -> bool:
    """Whether the work raises an ImgclfError."""
    try:
        work(*arguments)
    except ImgclfError:
        return True
    return False


def test_tables_of_a_data_set(fuzz, proc):
    texts = {name: (PROC / name).read_bytes() for name in TABLES}
    trial = trials.Trial("colours", {"svm_c": [1.0]}, "x", {"02": 1.0}, 1.0)
    trials.write(trial)
    texts["trial.json"] = (proc / "trial.json").read_bytes()
    whole = {name: (proc / name).read_bytes() for name in texts}

    def is_read(inputs: dict[str, bytes]) -> None:
        for name, content in whole.items():
            (proc / name).write_bytes(content)
        match write(proc, inputs):
            case record.RECORD:
                record.read(proc)
            case files.TRIAL_RECORD:
                if done := trials.read("colours"):
                    trials.table([done]), trials.times([done])
            case files.EVALUATION:
                report.table(report.read(proc))
            case _:
                previous_split.read("colours")
                refused(scan_cache.read, "colours")
                found = dataset.read("colours")
                Annotations(found)
                split.split(found).caution()
                split.overlap(split.read(found))
                sequence.closing_report("colours", proc)

    fuzz(
        one_of({name: damaged([content], TEXT) | grown(name, content) for name, content in texts.items()}),
        is_read,
    )


def grown(name: str, content: bytes) -> st.SearchStrategy[bytes]:
    """A JSON file with other values under its keys, or a table with other cells."""
    if name.endswith(".json"):
        whole = json.loads(content)
        keys = st.dictionaries(st.sampled_from(sorted(whole)), JSON_VALUES, max_size=2)
        values = keys.map(lambda other: whole | other) | JSON_VALUES
        return values.map(lambda value: json.dumps(value).encode())
    rows = [line.split("\t") for line in content.decode().splitlines()]

    def replaced(row: int, column: int, cell: str) -> bytes:
        table = [list(cells) for cells in rows]
        table[row % len(rows)][column % len(rows[0])] = cell
        return "".join("\t".join(cells) + "\n" for cells in table).encode(errors="surrogatepass")

    return st.builds(replaced, st.integers(0, 99), st.integers(0, 9), TEXTS)


def npz(arrays: dict[str, np.ndarray], *, compressed: bool = True) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return file.getvalue()


SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 8, 17, 23, 10_000]), max_size=3).filter(
    lambda shape: np.prod(shape, dtype=float) < 1e6
)
DTYPES = st.sampled_from(["f4", "f8", "f2", "i4", "i8", "u1", "?", "U5", "S3", "c8", "M8[s]"])
ANY_ARRAY = st.builds(lambda shape, dtype: np.zeros(shape, dtype), SHAPES, DTYPES)


def other_arrays(content: bytes) -> st.SearchStrategy[bytes]:
    """The arrays of a file, one of them replaced, lacking, or of other numbers."""
    with np.load(io.BytesIO(content)) as stored:
        arrays = dict(stored)
    name = st.sampled_from(sorted(arrays))
    number = st.sampled_from([np.nan, np.inf, -1, 0, 2**31, 1e30])

    def filled(name: str, number: float) -> bytes:
        array = arrays[name]
        with np.errstate(all="ignore"):
            other = np.full(array.shape, number).astype(array.dtype)
        return npz({**arrays, name: other})

    return st.one_of(
        st.builds(lambda name, array: npz({**arrays, name: array}), name, ANY_ARRAY),
        st.builds(lambda name: npz({key: array for key, array in arrays.items() if key != name}), name),
        st.builds(filled, name, number),
        damaged([raw_npy(arrays[key]) for key in arrays]).flatmap(
            lambda damaged_npy: name.map(
                lambda name: zipped(
                    {**{key: raw_npy(array) for key, array in arrays.items()}, name: damaged_npy}
                )
            )
        ),
    )


def raw_npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def zipped(contents: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


@pytest.mark.filterwarnings("ignore")  # of numpy, about numbers
def test_arrays_of_a_data_set(fuzz, proc):
    whole = {name: (PROC / name).read_bytes() for name in ARRAYS}
    found = dataset.read("colours")
    cache = features.Cache.for_network("colours", proc / files.FIXED_NETWORK)

    def is_read(inputs: dict[str, bytes]) -> None:
        for name, content in whole.items():
            (proc / name).write_bytes(content)
        name = write(proc, inputs)
        checkpoint.read(proc / name, fingerprint="x")
        if name in (files.SVM_HEAD, files.DNN_HEAD):
            head = svm.read(proc / name)
            assert head.scores(np.ones((2, head.weights.shape[1]), np.float32)).shape == (2, len(head.labels))
        elif name.startswith(("scores", "held_out")):
            evaluation = report.read_scores(proc / name)
            str(evaluation.class_averaged_accuracy)
        else:
            described = cache.features(found.images)
            assert (
                described.matrix.shape == (len(described.images), 8) and described.matrix.dtype == np.float32
            )
            list(features.missing(found.images, cache))

    fuzz(
        one_of({name: damaged([content]) | other_arrays(content) for name, content in whole.items()}), is_read
    )


@pytest.mark.filterwarnings("ignore")  # of numpy, about numbers
def test_metadata_of_a_classifier(fuzz, proc):
    path = proc / files.CLASSIFIER
    content = path.read_bytes()
    stored = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    texts = [value.encode() for value in stored.values()]
    value = JSON_VALUES.map(json.dumps) | damaged(texts, TEXT).map(lambda text: text.decode(errors="replace"))
    inner = st.builds(
        lambda key, value: json.dumps({**json.loads(stored["self_test"]), key: value}),
        st.sampled_from(["images", "scores", "precision"]), JSON_VALUES,
    )  # fmt: skip
    other = st.dictionaries(st.sampled_from(sorted(stored)), value, max_size=2) | inner.map(
        lambda text: {"self_test": text}
    )

    def with_metadata(other: dict[str, str]) -> bytes:
        model = onnx.load_from_string(content)
        del model.metadata_props[:]
        for key, text in (stored | other).items():
            model.metadata_props.add(key=key, value=text)
        return model.SerializeToString()

    def is_loaded(inputs: dict[str, bytes]) -> None:
        path.write_bytes(inputs[files.CLASSIFIER])
        loaded = Classifier.load(path, engine="onnxruntime")
        scores, _ = loaded.scores(np.zeros((1, 32, 32, 3), np.uint8))
        assert scores.shape == (1, len(loaded.labels)) and all(
            isinstance(label, str) for label in loaded.labels
        )
        json.dumps(Model.load(path).about())

    fuzz(other.map(lambda other: {files.CLASSIFIER: with_metadata(other)}), is_loaded)


LABELS, NAMES = (
    ("blue", "green", "red", "none", "CON"),
    ("r01.jpg", "shop/r02.jpg", "R03.JPG", "größe.jpg", "a b.jpg"),
)


def test_list_of_test_images(fuzz, proc):
    found = scan.scan_folder("colours", dataset.read("colours").folder)
    paths = [image.path for image in found.files]
    line = (
        st.builds(
            lambda path, sign: path.replace("/", sign),
            st.sampled_from(paths) | TEXTS,
            st.sampled_from("\t/\\ "),
        )
        | TEXTS
    )
    text = st.builds(
        lambda lines, end: end.join(lines).encode(errors="surrogatepass"),
        st.lists(line, max_size=12),
        st.sampled_from(["\n", "\r\n", "\r"]),
    )
    real = "".join(path.replace("/", "\t", 1) + "\n" for path in paths[::4]).encode()
    name = "dedicatedTestImages.tsv"

    def is_split(inputs: dict[str, bytes]) -> None:
        (found.folder / name).write_bytes(inputs[name])
        parts = split.split(found)
        assert split.overlap(parts) == 0 and len(parts.train) + len(parts.test) + len(parts.excluded) == len(
            found.images
        )

    fuzz((text | damaged([real], TEXT)).map(lambda content: {name: content}), is_split)


def test_manifests(fuzz, tmp_path):
    real = [
        b"\n".join(path.read_bytes().split(b"\n")[:9]) for path in sorted(manifest.MANIFESTS.glob("*.tsv"))
    ]
    header = st.lists(
        st.sampled_from(
            ["label", "source", "url", "sha256", "bytes", "split", "file_name", "other", *manifest.ORIGIN]
        ),
        max_size=6,
    )
    cell = (
        st.sampled_from(
            [
                *LABELS,
                *NAMES,
                "http://a/b.jpg",
                "demo:x",
                "folder:a/b.jpg",
                "https://[::1",
                "12",
                "0" * 64,
                "train",
                "",
            ]
        )
        | TEXTS
    )
    table = st.tuples(header, st.lists(st.lists(cell, min_size=2, max_size=6), max_size=6)).map(
        lambda parts: "\n".join("\t".join(row) for row in [parts[0], *parts[1]]).encode(
            errors="surrogatepass"
        )
    )

    def survives_a_round_trip(inputs: dict[str, bytes]) -> None:
        path = tmp_path / "x.tsv"
        path.write_bytes(inputs["x.tsv"])
        entries = manifest.read(path)
        stems = [(entry.label.casefold(), entry.stem.casefold()) for entry in entries]
        assert len(set(stems)) == len(entries)
        manifest.write(path, entries)
        assert manifest.read(path) == entries

    fuzz((damaged(real, TEXT) | table).map(lambda content: {"x.tsv": content}), survives_a_round_trip)


def test_project_file(fuzz, data_dir):
    data_dir.mkdir()
    path = data_dir / files.PROJECT_FILE
    real = [project_file.new({}).encode(), project_file.new({"epochs": 9, "svm_c": [0.1, 1.0]}).encode()]
    name = st.sampled_from([*PARAMETERS, "[epochs]", "a.b", "'seed'"])
    value = st.sampled_from(["1", "0.5", "'x'", "true", "[1, 0.5]", "[\n1, # one\n2\n]", "{a = 1}", "inf"])
    value |= st.sampled_from(['"""a\n"""', "1979-05-27", "0,1", "0xffffffffffffffffff", "[[]]", "-1"]) | TEXTS
    line = st.builds(
        lambda sign, name, value: f"{sign}{name} = {value}", st.sampled_from(["", "# ", "#"]), name, value
    )
    text = st.lists(line, max_size=6).map(lambda lines: "\n".join(lines).encode(errors="surrogatepass"))

    def values_are_kept(inputs: dict[str, bytes]) -> None:
        path.write_bytes(inputs[path.name])
        before = project_file.read()
        changes = {"dataset_name": "fruit", "epochs": 7}
        project_file.change(changes)
        assert project_file.read() == before | changes
        project_file.add_missing(data_dir)
        assert project_file.read() == before | changes
        project_file.change(None)
        assert project_file.read().keys() <= set(project_file.IMAGES)

    fuzz((text | damaged(real, TEXT)).map(lambda content: {path.name: content}), values_are_kept)
