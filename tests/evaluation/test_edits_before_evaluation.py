"""Files edited, deleted and swapped between 01 and 05 at random: the test is that of a fresh run, or refused."""

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from imgclf import ImgclfError, files, parameters
from imgclf.classifier.model import Classifier
from imgclf.data import dataset, split
from imgclf.evaluation import metrics
from imgclf.experiments import provenance
from support.classifiers import trained_as
from support.pictures import write_colours

TABLES, RECORDS = ("images.tsv", "split.tsv"), ("images.json", "split.json")
CELLS = ["", "train", "test", "Test", "left out", "red", "blue", "0", "0" * 64, "red/00.jpg", "no label yet"]
DEFAULTS = {name: each.default for name, each in parameters.PARAMETERS.items()} | {"dataset_name": "colours"}
VALUES = [None, [], {}, "", "group", "ignored", 0, 0.5, -1, True, [["red/00.jpg", "red/01.jpg"]]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, metrics.Evaluation]:
    """$IMGCLF_DATA after 04, with the images in it, and their evaluation."""
    data = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGCLF_DATA", str(data))
        trained_as("svm", write_colours(data / "images" / "colours"))
        for number in ("01", "02", "03", "04"):
            provenance.write(number, DEFAULTS)
        return data, evaluate()


def evaluate() -> metrics.Evaluation:
    """What 05 does."""
    provenance.check("05", DEFAULTS)
    found = dataset.read("colours")
    parts = split.read(found)
    with Classifier.load(files.proc_dir("colours") / files.CLASSIFIER) as loaded:
        return metrics.score(loaded, found, parts.test)[0]


@some.composite
def edits(draw: some.DrawFn) -> tuple[str, ...]:
    """What to do with which file; numbers choose rows, columns, keys and images by their remainder."""
    number = some.integers(0, 40).map(str)  # small ones, which are drawn most, are test images
    kind = draw(some.sampled_from(["cell", "row twice", "no row", "value", "gone", "swapped", "moved"]))
    match kind:
        case "cell":
            return (
                kind,
                draw(some.sampled_from(TABLES)),
                draw(number),
                draw(number),
                draw(some.sampled_from(CELLS)),
            )
        case "row twice" | "no row":
            return kind, draw(some.sampled_from(TABLES)), draw(number)
        case "value":
            return (
                kind,
                draw(some.sampled_from(RECORDS)),
                draw(number),
                json.dumps(draw(some.sampled_from(VALUES))),
            )
        case _:
            return kind, draw(number), draw(number)


def apply(data: Path, tests: tuple[str, ...], kind: str, *how: str) -> None:
    proc, images = (
        data / "proc" / "colours",
        sorted(
            (data / "images" / "colours").glob("*/*.jpg"),
            key=lambda path: not path.as_posix().endswith(tests),
        ),
    )
    if kind in ("cell", "row twice", "no row"):
        path = proc / how[0]
        header, *rows = path.read_text(encoding="utf-8").splitlines()
        rows.sort(key=lambda row: not row.startswith(tests))
        row = int(how[1]) % len(rows)
        cells = rows[row].split("\t")
        if kind == "cell":
            cells[int(how[2]) % len(cells)] = how[3]
        rows[row : row + 1] = {"cell": ["\t".join(cells)], "row twice": [rows[row]] * 2, "no row": []}[kind]
        path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    elif kind == "value":
        stored = json.loads((proc / how[0]).read_text(encoding="utf-8"))
        key = sorted(stored)[int(how[1]) % len(stored)]
        (proc / how[0]).write_text(json.dumps({**stored, key: json.loads(how[2])}), encoding="utf-8")
    else:
        one, other = (images[int(number) % len(images)] for number in how)
        if kind == "gone":
            one.unlink()
        elif kind == "swapped":
            content = one.read_bytes()
            shutil.copy(other, one) if one != other else None
            other.write_bytes(content)
        else:
            os.replace(one, one.with_name("moved.jpg"))


@pytest.mark.slow
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(some.lists(edits(), min_size=1, max_size=2))
def test_edited_files_give_the_test_of_a_fresh_run_or_a_reason(trained, tmp_path_factory, steps):
    before, fresh = trained
    data = shutil.copytree(before, tmp_path_factory.mktemp("edited") / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGCLF_DATA", str(data))
        for step in steps:
            apply(data, fresh.paths, *step)
        try:
            found = evaluate()
        except ImgclfError:
            return
        finally:
            shutil.rmtree(data)
    kept = [fresh.paths.index(path) for path in found.paths]
    assert sorted(found.paths + found.missing) == sorted(fresh.paths)
    assert (found.truth == fresh.truth[kept]).all() and abs(found.scores - fresh.scores[kept]).max() < 1e-4
