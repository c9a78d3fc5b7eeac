"""`docs/evaluation.schema.json` describes the evaluation.json that `report.write` writes."""

import json
import re
from dataclasses import replace

import pytest
from jsonschema import Draft202012Validator

from imgclf.evaluation import report
from imgclf.parameters import PARAMETERS
from support.evaluations import by_hand, drawn
from support.project import ROOT

SCHEMA = json.loads((ROOT / "docs" / "evaluation.schema.json").read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)
ABOUT = {
    "dataset_name": "fruit",
    "classifier": "svm",
    "classifier_sha256": "0" * 64,
    "evaluated_on": "test",
    "familiarity": {
        "threshold": 0.5,
        "unfamiliar_rate": 0.05,
        "held_out_images": 340,
        "expected_interval": [0.0, 0.2],
        "unfamiliar": 0.1,
        "unfamiliar_interval": [0.0, 0.4],
    },
}
OPTIONAL = {*ABOUT, "held_out_images", "expected_interval"}
OLD = ROOT / "tests" / "samples" / "data_folder_0.1.0" / "proc" / "colours"
SUBSCHEMAS = ("properties", "$defs")


def errors(figures: dict) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(figures)]


def described(schema: dict, path: str = "") -> dict[str, dict]:
    """Each key of the schema's objects, and its own schema."""
    found = {}
    for keyword in SUBSCHEMAS:
        for name, part in schema.get(keyword, {}).items():
            found[f"{path}/{name}"] = part
            found |= described(part, f"{path}/{name}")
    return found


@pytest.fixture
def figures(tmp_path) -> dict:
    report.write(by_hand(), tmp_path, **ABOUT)
    return report.read(tmp_path)


def test_the_schema_is_valid():
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    "about",
    [ABOUT, ABOUT | {"familiarity": None}, {}],
    ids=["by 05_evaluate", "nothing unfamiliar", "by report.write alone"],
)
@pytest.mark.parametrize(
    "evaluation",
    [
        by_hand(),
        drawn(0),
        by_hand(truth=list("aabb"), predicted=list("aabc")),  # label c has no test images
        by_hand(truth=list("aaa"), predicted=list("aab")),  # all images have label a: no curves
        by_hand(truth=["a"], predicted=["b"]),
        replace(by_hand(), missing=("a/1.jpg", "b/2.jpg"), missing_labels=("a", "b")),
    ],
    ids=["by hand", "drawn", "a label without images", "one label", "one image", "two images missing"],
)
def test_what_is_written_is_valid(tmp_path, evaluation, about):
    report.write(evaluation, tmp_path, **about)
    assert errors(report.read(tmp_path)) == []


def test_every_written_key_is_in_the_schema_and_every_key_of_the_schema_is_written(figures):
    def keys(values: dict, schema: dict) -> None:
        assert set(values) == set(schema["properties"])
        assert set(schema["required"]) == set(schema["properties"]) - OPTIONAL
        assert schema["additionalProperties"] is False

    definitions = SCHEMA["$defs"]
    keys(figures, SCHEMA)
    keys(figures["missing"], definitions["missing"])
    keys(figures["classes"]["a"], definitions["class"])
    keys(figures["calibration"], definitions["calibration"])
    keys(figures["familiarity"], definitions["familiarity"])
    keys(figures["calibration"]["bins"][0], definitions["bin"])


def test_every_key_has_a_description_and_every_number_a_range():
    parts = described(SCHEMA)
    assert len(parts) > 30
    assert [path for path, part in parts.items() if not part["description"].endswith(".")] == []
    numbers = [part for part in parts.values() if part.get("type") in ("number", "integer")]
    assert all("minimum" in part and ("maximum" in part or part["type"] == "integer") for part in numbers)


def test_the_schema_knows_the_values_of_the_parameters():
    for name, parameter in (("classifier", "classifier"), ("evaluated_on", "evaluate_on")):
        assert tuple(SCHEMA["properties"][name]["enum"]) == PARAMETERS[parameter].allowed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda figures: figures.update(version=2), r"\$.version: 1 was expected"),
        (lambda figures: figures.pop("images"), "'images' is a required property"),
        (lambda figures: figures.update(new=1), "Additional properties are not allowed"),
        (lambda figures: figures.update(overall_accuracy=1.1), "1.1 is greater than the maximum of 1"),
        (lambda figures: figures.update(overall_accuracy=None), "None is not of type 'number'"),
        (lambda figures: figures["overall_accuracy_interval"].append(1), "but found 1"),
        (lambda figures: figures["overall_accuracy_interval"].pop(), "is too short"),
        (lambda figures: figures["classes"]["a"].update(images=-1), "-1 is less than the minimum of 0"),
        (lambda figures: figures["calibration"]["bins"][0].pop("to"), "'to' is a required property"),
    ],
)
def test_an_invalid_file_is_refused(figures, change, message):
    change(figures)
    (error,) = errors(figures)
    assert re.search(message, error)


def test_a_file_of_version_0_1_0_is_still_read():
    old = report.read(OLD)
    assert "version" not in old and "average_precision" not in old["classes"]["red"]
    lines = report.table(old).splitlines()
    assert lines[1].split() == ["blue", "2", "100%", "34%", "to", "100%", "1.00"]
    assert lines[-1].split() == ["majority-class", "baseline,", "overall", "33%"]
    missing = {"version", "clusters", "missing", "average_precision", "average_precision_interval"}
    assert {error.split("'")[1] for error in errors(old)} == missing  # and nothing else differs
