"""Parameter grids, and the tables of the trials run from them."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from imgclf import ImgclfError, files
from imgclf.classifier import predict
from imgclf.evaluation import report
from imgclf.experiments import trials
from imgclf.experiments.trials import Trial
from support.trials import write_scores, write_trial


def test_a_grid_is_parsed():
    grid = trials.parse_grid(
        "input_size: 224, 320; dropout=0.5,0,0.5; learning_rate: 0.01, [0.01, 0.001], [0.1]*2 + [0.01]; augment:true;classifier = svmDnnRefined;"
    )
    assert grid == {
        "input_size": [224, 320],
        "dropout": [0.5, 0.0],
        "learning_rate": [[0.01], [0.01, 0.001], [0.1, 0.1, 0.01]],
        "augment": [True],
        "classifier": ["svm_dnn_refined"],
    }
    assert trials.parse_grid(trials.grid_as_text(grid)) == grid


def test_models_of_the_hub_are_values_of_a_grid():
    grid = {"backbone": ["hf/facebook/dinov2-small", "hf/acme/net@v1#mean", "resnet18"]}
    assert trials.parse_grid("backbone=hf/facebook/dinov2-small,hf/acme/net@v1#mean,resnet18") == grid
    assert trials.parse_grid(trials.grid_as_text(grid)) == grid
    names = [trials.trial_name("fruit", values) for values in trials.combinations(grid)]
    assert len(set(names)) == 3 and not any("/" in name for name in names)


def test_a_path_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    grid = trials.parse_grid("backbone: my networks/a.onnx, resnet18")
    assert grid == {"backbone": [f"{tmp_path}/my networks/a.onnx", "resnet18"]}
    assert trials.parse_grid(trials.grid_as_text(grid)) == grid


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ("", "grid: empty; give NAME: VALUE, VALUE for at least one parameter"),
        (" ; ", "grid: empty"),
        ("dropout: 0.1; dropout: 0.2", "dropout is given twice"),
        ("dropout", "'dropout' has no values"),
        ("evaluate_on: train", "evaluate_on cannot be varied"),
        ("learning_rate: 0.1, [0.1, 0.2", "an unbalanced bracket or an extra comma"),
        ("dropout: 0.1,,0.2", "an unbalanced bracket or an extra comma"),
        ("dropout:", "'dropout:' has no values"),
        (": 3", "unknown parameter ''"),
        ("dropout: 0.1 0.2", "must be a number"),
        ("dropout=0.1,7", "dropout=7.0: must be a number at least 0 and at most 0.99"),
        ("dropuot=1", "unknown parameter 'dropuot'"),
        ("dataset_name=a,b", "dataset_name cannot be varied"),
        ("max_images=10,20", "max_images cannot be varied"),
        ("grid=a", "grid cannot be varied"),
    ],
)
def test_an_invalid_grid_is_refused(grid, message):
    with pytest.raises(ImgclfError, match=message):
        trials.parse_grid(grid)


def test_combinations_vary_the_last_parameter_fastest():
    assert trials.combinations({"epochs": [5, 10], "augment": [True, False]}) == [
        {"epochs": 5, "augment": True},
        {"epochs": 5, "augment": False},
        {"epochs": 10, "augment": True},
        {"epochs": 10, "augment": False},
    ]


def test_trial_names_do_not_depend_on_the_order_and_are_valid_folder_names():
    assert (
        trials.trial_name("fruit", {"epochs": 5, "dropout": 0.2})
        == trials.trial_name("fruit", {"dropout": 0.2, "epochs": 5})
        == "fruit@dropout=0.2,epochs=5"
    )
    paths = [trials.trial_name("fruit", {"backbone": f"/nets/{name}.onnx"}) for name in ("a-b", "a/b")]
    assert paths[0] != paths[1]
    long = [trials.trial_name("fruit", {"backbone": f"/home/{'deep/' * 60}{name}.onnx"}) for name in "ab"]
    assert long[0] != long[1] and all("/" not in name and len(name.encode()) < 255 for name in long)


def test_the_table_is_ranked_by_held_out_accuracy():
    low = write_trial(20, 90, held_out=40, epochs=5, seed=0)
    high = write_trial(60, 80, held_out=45, epochs=10, seed=0)
    failed = Trial("fruit@epochs=20", {"epochs": 20, "seed": 0}, "", {}, error="the disk is full")
    table = trials.table([low, failed, high])
    assert table.index.tolist() == [1, 2]
    assert table.to_dict("list") == {  # not the seed, which all share
        "epochs": ["10", "5"],
        "held-out accuracy": ["90.0% (78% to 97%) of 50", "80.0% (66% to 90%) of 50"],
        "test accuracy": ["80.0%", "90.0%"],
        "95 % interval": ["71% to 87%", "82% to 95%"],
        "p": ["", f"{2 * 0.5**10:.2f}"],  # ten images differ, all one way: ten equal coin tosses, either side
    }
    times = trials.times([low, failed, high])
    assert times["all, s"].tolist() == [66, 26]
    assert times["ms per image"].tolist() == [12.5, 12.5]


def test_trials_of_several_backbones_have_their_input_sizes_and_times():
    small = write_trial(1, 90, held_out=45, side=224, milliseconds=7.04, backbone="resnet18")
    large = write_trial(1, 80, held_out=40, side=384, milliseconds=92, backbone="efficientnet_v2_s")
    table = trials.table([large, small])
    assert table["backbone"].tolist() == ["resnet18", "efficientnet_v2_s"]
    assert table["input_size"].tolist() == ["224", "384"]
    assert table["95 % interval"].tolist() == ["82% to 95%", "71% to 87%"]
    assert table["ms per image"].tolist() == [7.0, 92.0]
    assert trials.times([small, large])["input_size"].tolist() == ["224", "384"]


def test_an_input_size_of_0_is_shown_as_what_it_stands_for():
    own = write_trial(1, 90, held_out=45, side=240, input_size=0)
    large = write_trial(1, 80, held_out=40, side=320, input_size=320)
    assert trials.table([own, large])["input_size"].tolist() == ["240", "320"]


def test_trials_of_several_precisions_have_their_times():
    written = [
        write_trial(1, 90, held_out=45, milliseconds=milliseconds, precision=precision)
        for milliseconds, precision in ((7.0, "int8"), (12.0, "f32"))
    ]
    assert trials.table(written)["ms per image"].tolist() == [7.0, 12.0]


def test_trials_of_several_input_sizes_leave_their_times_to_the_other_table():
    written = [write_trial(1, 90, held_out=45, input_size=side) for side in (240, 320)]
    assert "ms per image" not in trials.table(written) and "ms per image" in trials.times(written)


def test_records_without_an_input_size_as_earlier_versions_wrote_them_are_read():
    trial = write_trial(3, 70, held_out=25, backbone="resnet18")
    path = files.proc_dir(trial.name) / files.TRIAL_RECORD
    record = json.loads(path.read_text())
    del record["input_size"]
    path.write_text(json.dumps(record))
    assert trials.read(trial.name) == trial


def test_a_trial_is_printed_with_its_held_out_accuracy_or_its_error():
    assert str(write_trial(1, 90, held_out=40)) == "held-out accuracy 80% (66% to 90%, 50 images)"
    assert str(Trial("fruit@epochs=20", {}, "", {}, error="the disk is full")) == "failed: the disk is full"


def test_trials_are_ranked_by_the_lower_bound_and_not_by_the_accuracy():
    few, many = write_trial(1, 90, held_out=12, epochs=5), write_trial(1, 90, held_out=49, epochs=10)
    write_scores(files.proc_dir(few.name) / files.HELD_OUT, 12, 12)
    assert list(trials.table([few, many])["held-out accuracy"]) == [
        "98.0% (89% to 100%) of 50",
        "100.0% (74% to 100%) of 12",
    ]


def test_trials_on_other_test_images_have_no_p_value():
    table = trials.table(
        [write_trial(1, 90, held_out=45, seed=0), write_trial(1, 80, held_out=40, others=True, seed=1)]
    )
    assert list(table["p"]) == ["", ""]


def test_without_a_finished_trial_the_tables_say_so():
    failed = Trial("a@b", {}, "", {}, error="x")
    assert trials.table([]).squeeze() == trials.times([failed]).squeeze() == "none has finished"


def test_coordinates_have_the_trials_by_rank_with_what_varies_and_their_results():
    found = trials.coordinates(
        [
            write_trial(4.0, 90, held_out=30, input_size=120, epochs=5),
            write_trial(6.0, 80, held_out=40, input_size=240, epochs=5),
        ]
    )
    assert (found.names, found.parameters) == (["trial 1", "trial 2"], {"input_size": [240, 120]})
    assert {name: values for name, (values, _) in found.results.items()} == {
        "held-out accuracy": [0.8, 0.6],
        "test accuracy": [0.8, 0.9],
        "seconds": [12.0, 10.0],
        "ms per image": [12.5, 12.5],
    }


def test_a_record_round_trips():
    trial = write_trial(3, 70, held_out=25, learning_rate=[0.1, 0.01])
    assert trials.read(trial.name) == trial
    failed = replace(trial, error="no", milliseconds=math.nan)
    trials.write(failed)
    assert trials.read(trial.name).error == "no" and math.isnan(trials.read(trial.name).milliseconds)


def replace_value(path, key, value):
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))


def test_scores_of_training_images_are_no_test_accuracy_of_a_trial():
    trial = write_trial(3, 70, held_out=25, epochs=5)
    folder = files.proc_dir(trial.name)
    report.write(trial.test_evaluation, folder, evaluated_on="train")  # as earlier versions wrote it
    with pytest.raises(ImgclfError, match="its images are not test images"):
        trials.table([trial])
    assert trials.read(trial.name) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / files.TRIAL_RECORD).write_text("{"),
        lambda folder: (folder / files.TRIAL_RECORD).write_text("[]"),
        lambda folder: (folder / files.TRIAL_RECORD).write_text('{"name": 3}'),
        lambda folder: replace_value(folder / files.TRIAL_RECORD, "seconds", {"02": "1"}),
        lambda folder: replace_value(folder / files.TRIAL_RECORD, "values", []),
        lambda folder: (folder / files.SCORES).unlink(),
        lambda folder: (folder / files.EVALUATION).unlink(),
        lambda folder: (folder / files.HELD_OUT).write_bytes(b"PK"),
    ],
)
def test_a_damaged_trial_is_read_as_none(damage):
    trial = write_trial(3, 70, held_out=25, epochs=5)
    damage(files.proc_dir(trial.name))
    assert trials.read(trial.name) is None


def test_predict_ignores_the_classifiers_of_trials(data_dir):
    trial = write_trial(1, 60, held_out=30, epochs=5)
    (files.proc_dir(trial.name) / "classifier.onnx").touch()
    with pytest.raises(ImgclfError, match=r"no classifier\.onnx yet"):
        predict.newest_classifier()
    own: Path = data_dir / "proc" / "fruit" / "classifier.onnx"
    own.parent.mkdir()
    own.touch()
    assert predict.newest_classifier() == own
