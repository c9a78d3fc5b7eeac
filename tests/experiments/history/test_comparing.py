"""The table of runs, and runs side by side: numbers that can be checked by eye."""

import math

import pytest

from imgclf.experiments.history import comparing, runs
from imgclf.experiments.history.comparing import oldest_first
from support.runs import run, scored

EARLIER = {"apple/1": 0.1, "apple/2": 0.6, "apple/3": 0.2, "pear/4": 0.9, "pear/5": 0.3, "pear/6": 0.8}
LATER = {"apple/1": 0.2, "apple/2": 0.4, "apple/3": 0.95, "pear/4": 0.7, "pear/5": 0.9, "pear/6": 0.8}
SWEPT = {
    "dataset_name": "fruit@input_size=320",
    "images_dir": "/home/images/fruit",
    "classifier": "svm",
    "input_size": 320,
}


@pytest.fixture
def two():
    """Two runs on the same six images: the earlier with 4 correct, the later with 5; they disagree on three."""
    earlier = run(1, scored=scored(EARLIER))
    return oldest_first([run(2, scored=scored(LATER), parameters=SWEPT, kind=runs.TRIAL), earlier])


def test_the_input_size_of_the_training_is_not_among_the_parameters_of_a_run():
    sizes = {"efficientnet_lite1": 240, "resnet18": 224, "efficientnet_v2_s": 240}
    runs = [
        run(k, parameters={"backbone": name, "input_size": size})
        for k, (name, size) in enumerate(sizes.items(), 1)
    ]
    assert comparing.table(runs)["parameters"].tolist() == [
        "",
        "backbone=resnet18",
        "backbone=efficientnet_v2_s input_size=240",
    ]


def test_a_row_has_what_a_person_looks_for():
    given = {"classifier": "dnn", "epochs": 7, "learning_rate": [0.001, 0.0001], "dataset_name": "fruit"}
    one = run(7, scored=scored(EARLIER), parameters=given, note="more epochs", tags=("good", "new"))
    assert {name: cell.text for name, cell in comparing.cells(one).items()} == {
        "when": "2026-11-25 07:04",
        "name": "2026-11-25 0704 fruit svm",
        "data set": "fruit",
        "classifier": "dnn",
        "overall accuracy": "66.7% (22% to 96%)",
        "class-averaged accuracy": "66.7% (22% to 96%)",
        "parameters": "epochs=7 learning_rate=[0.001,0.0001]",
        "seconds": "6",
        "status": "finished",
        "note": "more epochs",
        "tags": "good, new",
        "kind": "by hand",
        "id": one.id[:8],
    }


def test_an_evaluation_of_training_images_is_marked_and_never_the_best():
    careful = run(1, scored=scored(EARLIER), about={"evaluated_on": "train"})
    assert comparing.table([careful]).loc[1, "overall accuracy"].endswith(", CAREFUL: training images")
    assert comparing.best([careful], most=2) == []


def test_failed_and_imported_runs_have_a_row_without_accuracy():
    failed = run(1, status=runs.FAILED, error="no images", seconds={}, parameters={})
    row = comparing.table([failed]).loc[1]
    assert (row["overall accuracy"], row["seconds"], row["status"]) == ("", "", "failed: no images")


def test_without_a_run_the_table_says_how_to_make_one():
    assert "05_evaluate and imgclf run" in comparing.table([]).to_string()


def test_runs_are_sorted_by_numbers_and_times_and_by_text_without_case():
    slow = run(1, seconds={"02": 100.0}, name="b", started="2026-11-25T12:00:00+02:00")
    fast = run(2, seconds={"02": 20.0}, name="A", started="2026-11-25T11:00:00+00:00")
    unknown = run(3, seconds={}, name="C", started="2026-11-25T12:30:00+00:00")
    given = [slow, unknown, fast]
    assert comparing.ordered(given, "seconds") == [unknown, fast, slow]
    assert comparing.ordered(given, "name", descending=True) == [unknown, slow, fast]
    assert comparing.ordered(given, "when") == [slow, fast, unknown]  # 10, 11 and 12:30 in UTC


def test_the_best_runs_have_the_highest_held_out_accuracy_and_differ_in_parameters():
    small, again, large = (
        run(k, metrics={"held-out accuracy low": accuracy}, parameters={"input_size": size})
        for k, accuracy, size in ((1, 0.8, 240), (2, 0.8, 240), (3, 0.9, 320))
    )
    unknown = run(4, parameters={"input_size": 120})
    assert comparing.best([large, again, small, unknown], most=3) == [large, again, unknown]


def test_only_parameters_that_differ_are_listed_and_a_trial_has_the_data_set_of_its_sweep(two):
    assert two.parameters().to_dict("index") == {
        "input_size": {"run 1": "240", "run 2": "320"},
    }
    same = oldest_first([run(1), run(2, parameters={**run(1).parameters, "images_dir": "/moved"})])
    assert same.parameters().index.tolist() == ["none"]


def test_metrics_stand_side_by_side_with_their_difference(two):
    table = two.metrics()
    assert table.loc["overall accuracy"].tolist() == [
        "66.7% (22% to 96%)",
        "83.3% (36% to 100%)",
        "+16.7 points",
    ]
    assert table.loc["test images"].tolist() == ["6", "6", "+0"]
    assert table.columns.tolist() == ["run 1", "run 2", "run 2 - run 1"]


def test_training_images_are_counted_too():
    pair = [run(k, metrics={"training images": 12.0 * k}) for k in (1, 2)]
    assert comparing.oldest_first(pair).metrics().loc["training images"].tolist() == ["12", "24", "+12"]


def test_areas_and_errors_are_shown_as_numbers_and_a_label_may_be_named_low():
    values = {
        "ROC area of class low": 0.98,
        "ROC area of class low low": 0.9,
        "ROC area of class low high": 1.0,
    }
    table = oldest_first(
        [run(1, metrics=values), run(2, metrics={"expected calibration error": 0.0312})]
    ).metrics()
    assert table.loc["ROC area of class low"].tolist() == ["0.980 (0.90 to 1.00)", "", ""]
    assert table.loc["expected calibration error"].tolist() == ["", "0.031", ""]
    assert len(table) == 2


def test_the_verdict_is_that_of_mcnemars_test_from_the_older_to_the_newer_run(two):
    assert two.verdict() == (
        "Is run 2 better than run 1? Not significant: +16.7 points: of 6 test images, 2 are correct only after the "
        "change, 1 only before. McNemar's exact test: p = 1: chance alone often makes such a difference. If it is "
        "real, detecting it takes about 139 test images."
    )


def test_of_partly_common_test_images_the_common_ones_are_compared():
    later = {path: LATER[path] for path in ("pear/6", "apple/2", "apple/1")} | {"pear/7": 0.9}
    verdict = oldest_first([run(1, scored=scored(EARLIER)), run(2, scored=scored(later))]).verdict()
    assert verdict.startswith(
        "Is run 2 better than run 1? On the 3 test images that both have scored (of 6 and 4): Not significant: "
        "+33.3 points: of 3 test images, 1 are correct only after the change, 0 only before."
    )


def test_an_image_under_another_label_is_another_image():
    relabelled = {"pear/1": 0.1, "apple/9": 0.2}
    compared = oldest_first([run(1, scored=scored(EARLIER)), run(2, scored=scored(relabelled))])
    assert compared.verdict() == (
        "run 2 is not compared with run 1: they were tested on different images or labels (6 and 2 images, none in common)"
    )
    assert compared.disagreements() == []


def test_runs_without_scores_of_test_images_are_not_compared():
    good = run(1, scored=scored(EARLIER))
    careful = run(2, scored=scored(LATER), about={"evaluated_on": "train"})
    imported = run(3, kind=runs.IMPORTED)
    first, second = oldest_first([good, careful, imported]).verdict().splitlines()
    assert first == (
        f"run 2 is not compared with run 1: run 2, {careful.name}: was evaluated on its training images, which overestimates the accuracy"
    )
    assert second.startswith(f"run 3 is not compared with run 1: run 3, {imported.name}: has no scores")


@pytest.mark.parametrize(("chosen", "sentence"), [([], "no run"), ([run], "one run")])
def test_less_than_two_runs_are_nothing_to_compare(chosen, sentence):
    compared = oldest_first([make() for make in chosen])
    assert compared.verdict() == f"nothing to compare: {sentence}"
    assert compared.disagreements() == [] and len(compared.parameters()) == 1 and len(compared.metrics()) == 0


def test_disagreements_have_both_predictions_the_most_confident_mistake_first(two):
    assert [
        (image.path, image.label, [(label, round(p, 2)) for label, p in image.predictions])
        for image in two.disagreements()
    ] == [
        ("apple/3", "apple", [("apple", 0.8), ("pear", 0.95)]),
        ("pear/5", "pear", [("apple", 0.7), ("pear", 0.9)]),
        ("apple/2", "apple", [("pear", 0.6), ("apple", 0.6)]),
    ]
    assert two.disagreement_table().iloc[0].tolist() == ["apple/3", "apple", "apple 0.80", "pear 0.95"]


def test_a_third_run_without_scores_leaves_the_disagreements_of_the_others():
    chosen = [run(1, scored=scored(EARLIER)), run(2), run(3, scored=scored(LATER))]
    table = oldest_first(chosen).disagreement_table()
    assert table.columns.tolist() == ["path", "label", "run 1", "run 3"] and len(table) == 3


def test_roc_curves_of_one_label_and_of_their_mean(two):
    first, second = two.roc("pear")
    assert (first.name, first.area) == ("run 1", pytest.approx(8 / 9))  # one pair of 9 is in the wrong order
    assert second.area == pytest.approx(6 / 9)  # apple/3 scores above all three pears
    assert [first.false_positive_rate[-1], first.true_positive_rate[-1]] == [1, 1]
    assert [line.area for line in two.roc()] == [pytest.approx(8 / 9), pytest.approx(6 / 9)]
    assert two.labels == ["apple", "pear"]


def test_images_are_found_where_they_were_recorded_if_there_is_no_scan(two, data_dir):
    assert two.image_files()["pear/5"] == data_dir / "images" / "fruit" / "pear" / "5"


def test_names_of_runs_stand_beside_their_numbers(two):
    first, second = two.names().splitlines()
    assert first == f"run 1: 2026-11-25 0104 fruit svm (id {two.runs[0].id[:8]})" and second.startswith(
        "run 2: "
    )


def test_a_metric_that_a_run_lacks_is_nan():
    assert math.isnan(comparing.metric(run(1), "held-out accuracy"))


def test_coordinates_have_the_runs_with_test_accuracy_the_best_on_held_out_images_first(two):
    better = run(5, scored=scored(LATER), metrics={"held-out accuracy": 0.9, "held-out accuracy low": 0.7})
    worse = run(
        4,
        scored=scored(EARLIER),
        metrics={"held-out accuracy": 0.8, "held-out accuracy low": 0.6},
        parameters={"input_size": 320},
    )
    found = comparing.coordinates([worse, run(6, status=runs.FAILED), better])
    assert found.names == [better.name, worse.name]
    assert found.parameters == {"input_size": [240, 320]}  # what all have recorded
    assert found.results["held-out accuracy"] == ([0.9, 0.8], "{:.1%}") and found.results["seconds"][0] == [
        5.5,
        5.5,
    ]


def test_parameters_vary_if_different_values_were_recorded():
    old, new = run(1, parameters={"input_size": 240}), run(2, parameters={"input_size": 320, "epochs": 5})
    assert comparing.varied([old, new]) == ["input_size"]
    assert comparing.varied([run(1, parameters={"svm_c": [1]}), run(2, parameters={"svm_c": [1.0]})]) == []
