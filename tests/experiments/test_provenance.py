"""Records of what each stage was made with: results that do not belong together are refused."""

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from imgclf import ImgclfError, files, parameters
from imgclf.annotation.annotations import Annotations
from imgclf.annotation.suspects import out_of_sample_scores
from imgclf.data import dataset, layout
from imgclf.evaluation import report
from imgclf.experiments import notebooks, plan, provenance
from imgclf.experiments.history import recording
from imgclf.features import inference
from imgclf.images import decoding
from support import in_process
from support.networks import write_tiny_network
from support.pictures import picture
from support.project import ROOT


class TestParametersThatSeveralNotebooksTake:
    @pytest.mark.parametrize(
        ("name", "value", "first"),
        [
            ("classifier", "dnn", "02_refine_dnn"),
            ("engine", "onnxruntime", "03_run_dnn"),
            ("seed", 1, "01_prepare_data"),
        ],
    )
    def test_another_value_in_05_is_refused_with_the_notebook_to_start_from(self, folder, name, value, first):
        message = f"made it with {name}=.*, but 05_evaluate has {name}={value!r}; .* again from {first} on"
        with pytest.raises(ImgclfError, match=message):
            folder.run("05", **{name: value})

    def test_the_file_that_the_other_value_made_is_named(self, folder):
        with pytest.raises(ImgclfError, match=r"^dnn_fixed\.onnx of colours: 02_refine_dnn made it with"):
            folder.run("05", classifier="dnn")

    @pytest.mark.parametrize("precision", ["bf16", "int8", "auto"])
    def test_another_precision_is_refused(self, folder, precision):
        with pytest.raises(
            ImgclfError, match=r"features of colours: 03_run_dnn made it with precision='f32'"
        ):
            folder.run("05", precision=precision)

    def test_int8_in_03_alone_is_refused_by_04(self, folder):
        folder.run("03", precision="int8")
        with pytest.raises(ImgclfError, match=r"precision='int8', but 04_train_svm has precision='f32'"):
            folder.run("04")

    @pytest.mark.parametrize(("precision", "first"), [("f32", "04_train_svm"), ("int8", "03_run_dnn")])
    def test_another_split_is_another_calibration(self, folder, precision, first):
        folder.run("03", "05", precision=precision)
        folder.run("01", train_fraction=0.5)
        with pytest.raises(ImgclfError, match=f"another split.tsv than .* again from {first} on"):
            folder.run("05", precision=precision, train_fraction=0.5)

    def test_a_quantized_network_that_03_did_not_write_is_refused(self, folder):
        folder.run("03", precision="int8")
        path = folder.proc / "dnn_fixed.int8.onnx"
        path.write_bytes(path.read_bytes() + b"\x08\x0a")
        with pytest.raises(
            ImgclfError, match=r"dnn_fixed\.int8\.onnx of colours: not as 03_run_dnn wrote it"
        ):
            folder.run("04", precision="int8")

    def test_05_refuses_to_compare_an_altered_quantized_network(self, folder):
        folder.run("03", "05", precision="int8")
        path = folder.proc / "dnn_fixed.int8.onnx"
        path.write_bytes(path.read_bytes() + b"\x08\x0a")
        with pytest.raises(
            ImgclfError, match=r"dnn_fixed\.int8\.onnx of colours: not as 03_run_dnn wrote it"
        ):
            folder.run("05", precision="int8")

    @pytest.mark.parametrize(("classifier", "expected"), [("svm", False), ("dnn", True)])
    def test_05_reads_the_fine_tuned_network_only_with_a_classifier_of_it(self, classifier, expected):
        assert (files.REFINED_NETWORK in provenance._reads("05", {"classifier": classifier})) == expected

    @pytest.mark.parametrize("precision", ["int8", "auto"])
    def test_what_03_would_use_again_is_made_anew_if_it_was_altered(self, folder, precision):
        folder.run("03", precision=precision)
        name = "dnn_fixed.int8.onnx" if precision == "int8" else "dnn_fixed_precision.json"
        path = folder.proc / name
        before = path.read_bytes()
        path.write_bytes(before + (b"\x08\x0a" if precision == "int8" else b" "))
        assert f"{name}: not as 03_run_dnn wrote it; it is made anew" in folder.run("03", precision=precision)
        if precision == "int8":  # a choice has figures of new measurements
            assert path.read_bytes() == before

    @pytest.mark.parametrize(("first", "between"), [("int8", "f32"), ("int8", "auto"), ("auto", "f32")])
    def test_a_quantized_network_is_checked_also_after_a_run_that_did_not_use_it(
        self, folder, first, between, monkeypatch
    ):
        monkeypatch.setattr(inference, "_fastest", lambda *_: ("f32", "", {}))
        folder.run("03", precision=first)
        path = folder.proc / "dnn_fixed.int8.onnx"
        before = path.read_bytes()
        folder.run("03", precision=between)
        path.write_bytes(before + b"\x08\x0a")
        assert f"{path.name}: not as 03_run_dnn wrote it; it is made anew" in folder.run(
            "03", precision="int8"
        )
        assert path.read_bytes() == before

    def test_a_quantized_network_of_another_network_is_not_used(self, folder):
        folder.run("03", precision="int8")
        old = files.sha256(folder.proc / "dnn_fixed.int8.onnx")
        write_tiny_network(folder.proc / "other.onnx", seed=1)
        folder.run("02", backbone=str(folder.proc / "other.onnx"))
        folder.run("03", "05")
        said = folder.run("03", "05", precision="int8")
        assert "quantizing dnn_fixed.onnx" in said
        assert files.sha256(folder.proc / "dnn_fixed.int8.onnx") != old

    def test_f32_again_after_int8_computes_nothing_and_gives_the_same_classifier(self, folder):
        before = (folder.proc / "classifier.onnx").read_bytes()
        folder.run("03", "05", precision="int8")
        assert (folder.proc / "classifier.onnx").read_bytes() != before
        assert "the features of all 36 images are cached already" in folder.run("03", "05")
        assert (folder.proc / "classifier.onnx").read_bytes() == before

    def test_auto_on_another_processor_is_chosen_again(self, folder, monkeypatch):
        folder.run("03", "05", precision="auto")
        values = {"dataset_name": "colours", "classifier": "svm", "engine": "openvino", "precision": "auto"}
        assert provenance.outdated("03", values) == ""
        monkeypatch.setattr(inference, "processor", lambda engine: "another one")
        assert provenance.outdated("03", values) == "processor and packages was changed or is missing"
        with pytest.raises(
            ImgclfError, match="another processor and packages than there is now; .* 03_run_dnn on"
        ):
            folder.run("04", precision="auto")

    def test_another_engine_in_03_alone_is_refused_by_04(self, folder):
        folder.run("03", engine="onnxruntime")
        with pytest.raises(
            ImgclfError, match=r"engine='onnxruntime', but 04_train_svm has engine='openvino'"
        ):
            folder.run("04")

    def test_batches_of_another_size_are_no_other_results(self, folder):
        folder.run("05", inference_batch_size=7)

    def test_a_cluster_has_no_other_results(self, folder):
        folder.run("03", cluster="local:2")
        folder.run("04")


class TestInputSizeOfTheTraining:
    def made(self, **given) -> None:
        """Write the record of 02 with these parameters."""
        usual = {parameter.name: parameter.default for parameter in parameters.for_notebook("02")}
        provenance.write("02", {**usual, "dataset_name": "fruit", **given})

    def reason(self, **given) -> str:
        """Return why 02 would have to run with these parameters."""
        usual = {parameter.name: parameter.default for parameter in parameters.for_notebook("02")}
        return provenance.outdated("02", {**usual, "dataset_name": "fruit", **given})

    def test_runs_nothing_again_where_it_was_given_as_a_number_before(self, data_dir):
        self.made(input_size=240)
        assert self.reason() == self.reason(input_size=240) == ""
        assert self.reason(input_size=224) == "input_size = 224, was 240"

    def test_is_that_of_the_backbone_wanted_now(self, data_dir):
        self.made(input_size=240)
        assert self.reason(backbone="efficientnet_v2_s") == (
            'backbone = "efficientnet_v2_s", was "efficientnet_lite1"; input_size = 384, was 240'
        )

    def test_is_called_the_default_of_its_backbone(self, data_dir):
        self.made()
        assert provenance.read("fruit", "02").parameters["input_size"] == 240
        assert plan.made_with("fruit") == "All parameters have their defaults."
        self.made(backbone="efficientnet_v2_s", input_size=240)
        assert plan.made_with("fruit") == (
            'Parameters that are not default: backbone = "efficientnet_v2_s", input_size = 240.'
        )


def other_scores(path: Path) -> None:
    shutil.copy(files.proc_dir("colours") / files.SCORES, path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize("change", [cut, Path.unlink, other_scores])
@pytest.mark.parametrize(
    ("name", "reader", "writer"),
    [
        ("images.tsv", "03", "01"),
        ("images.json", "05", "01"),
        ("split.json", "05", "01"),
        ("dnn_fixed.onnx", "04", "02"),
        ("features/*/*.npz", "04", "03"),
        ("classifier.onnx", "05", "04"),
        ("held_out.npz", "05", "04"),
        ("label_scores.npz", "05", "04"),
        ("svm.npz", "05", "04"),
    ],
)
def test_a_file_that_is_not_as_its_notebook_wrote_it_is_refused(folder, name, reader, writer, change):
    path = next(folder.proc.glob(name))
    change(path)
    again = f"wrote it; run the notebooks again from {provenance.NAMES[writer]} on"
    name = path.relative_to(folder.proc).as_posix()
    with pytest.raises(ImgclfError, match=f"^{name} of colours: not as {provenance.NAMES[writer]} {again}"):
        folder.run(reader)


class TestStaleResults:
    def test_a_classifier_from_before_another_split_is_refused(self, folder):
        folder.run("01", train_fraction=0.5)
        with pytest.raises(
            ImgclfError, match=r"04_train_svm made it from another split\.tsv .* 04_train_svm on"
        ):
            folder.run("05")
        folder.run("04", "05")

    def test_an_edited_split_is_used_by_what_runs_after_the_edit_alone(self, folder):
        table = folder.proc / "split.tsv"
        table.write_text(table.read_text().replace("\ttest\t", "\ttrain\t", 1))
        with pytest.raises(
            ImgclfError, match=r"04_train_svm made it from another split\.tsv than there is now"
        ):
            folder.run("05")
        folder.run("04", "05")
        assert report.read(folder.proc)["images"] == 8

    def test_an_evaluation_on_training_images_renews_no_test_scores(self, folder):
        folder.run("04", svm_c=[1e-4])
        folder.run("05", evaluate_on="train")
        with pytest.raises(ImgclfError, match=r"is of another classifier\.onnx than there is now"):
            report.read_test_scores(folder.proc)
        note = out_of_sample_scores(folder.proc).note
        assert note.startswith("scores.npz: is of another classifier.onnx") and note.endswith(
            "evaluate_on=test"
        )
        folder.run("05")
        report.read_test_scores(folder.proc)

    def test_the_same_split_again_makes_nothing_stale(self, folder):
        folder.run("01")
        folder.run("05")

    def test_a_classifier_of_another_network_is_refused(self, folder):
        other = write_tiny_network(folder.data / "other.onnx", size=64)
        folder.run("02", backbone=str(other), input_size=64)
        with pytest.raises(
            ImgclfError, match=r"features of colours: 03_run_dnn made it from another dnn_fixed"
        ):
            folder.run("05")

    def test_a_list_of_test_images_that_came_after_01_is_refused(self, folder):
        (folder.images / "dedicatedTestImages.tsv").write_text("red/00.jpg\n")
        with pytest.raises(ImgclfError, match=r"from another list of test images .* 01_prepare_data on"):
            folder.run("04")

    def test_a_backbone_whose_file_changed_is_refused_and_one_that_is_gone_is_not(self, folder):
        backbone = Path(shutil.copy(folder.values["backbone"], folder.data / "own.onnx"))
        folder.run("02", backbone=str(backbone))
        backbone.write_bytes(b"another network")
        with pytest.raises(ImgclfError, match=r"02_refine_dnn made it from another file of the backbone"):
            folder.run("03")
        backbone.unlink()
        folder.run("03", "05")

    @pytest.mark.parametrize("changed", ["own.onnx.data", "preprocessor_config.json"])
    def test_a_backbone_with_a_changed_file_beside_it_is_refused(self, folder, changed):
        model = onnx.load(folder.values["backbone"])
        backbone = folder.data / "own" / "own.onnx"
        backbone.parent.mkdir()
        onnx.save(model, backbone, save_as_external_data=True, location="own.onnx.data", size_threshold=0)
        backbone.with_name("preprocessor_config.json").write_text('{"do_normalize": false}')
        folder.run("02", backbone=str(backbone))
        folder.run("03", backbone=str(backbone))
        backbone.with_name(changed).write_bytes(b"{}")
        with pytest.raises(ImgclfError, match=r"02_refine_dnn made it from another file of the backbone"):
            folder.run("03", backbone=str(backbone))

    def test_the_hash_of_a_backbone_in_one_file_is_that_of_the_file(self, folder):
        backbone = Path(folder.values["backbone"])
        made = provenance.read("colours", "02")
        assert made.inputs[provenance.BACKBONE] == files.sha256(backbone)

    def test_images_that_came_after_01_are_a_matter_of_the_plan_alone(self, folder):
        (folder.images / "red/new.jpg").write_bytes(decoding.jpeg(picture((200, 40, 40), seed=999)))
        folder.run("05")

    def test_a_copy_of_the_data_folder_on_another_machine_is_complete(self, folder, monkeypatch):
        moved = folder.data.rename(folder.data.with_name("elsewhere"))
        monkeypatch.setenv("IMGCLF_DATA", str(moved))
        for path in moved.rglob("*"):
            os.utime(path, (1e9, 1e9))
        folder.run("05")


@pytest.mark.parametrize("edit", ["", "edited", "edited later"])
def test_cells_that_differ_from_the_notebook_are_other_code(folder, edit):
    path = next(path for path in notebooks.paths() if path.name.startswith("04"))
    values = plan.wanted(path, folder.values)
    cells = [cell.source for cell in in_process.code_cells(path)]
    ran = ["", *cells, "parts"]  # as IPython's `In`, with a look at a variable
    if edit:
        changed = [*cells[:-1], cells[-1].replace("provenance.end", "print(); provenance.end")]
        ran = ["", *(cells if edit == "edited later" else []), *changed]
    provenance.begin("04", dict(values))
    provenance.end("04", values | {"In": ran})
    assert provenance.outdated("04", values) == ("its code was changed" if edit else "")


def confirm(folder: in_process.Folder) -> None:
    """Confirm a label in the annotator, and run 01 again."""
    before = (folder.proc / "images.json").read_text()
    Annotations(dataset.read("colours")).confirm([0])
    folder.run("01")
    assert (folder.proc / "images.json").read_text() != before


def test_a_confirmed_label_makes_nothing_stale(folder):
    confirm(folder)
    folder.run("05")
    for path in notebooks.paths()[1:6]:
        assert provenance.outdated(path.name[:2], plan.wanted(path, folder.values)) == ""


class TestAnUnfinishedStage:
    def test_is_refused_by_the_next_one(self, folder, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(provenance, "end", in_process.nothing)  # as if it had been interrupted
            folder.run("04")
        with pytest.raises(
            ImgclfError, match="colours: 04_train_svm was not run to its end; run the notebooks from 04"
        ):
            folder.run("05")

    def test_is_one_whose_inputs_changed_while_it_ran(self, folder):
        namespace = folder.values | dict.fromkeys(["classifier"], "svm")
        values = plan.wanted(next(p for p in notebooks.paths() if p.name.startswith("04")), namespace)
        provenance.begin("04", dict(values))
        cut(folder.proc / "split.tsv")
        with pytest.raises(ImgclfError, match=r"04_train_svm: split\.tsv changed while it ran"):
            provenance.end("04", values)
        with pytest.raises(ImgclfError, match="its parameters were changed after its first cell; run all"):
            provenance.end("04", values | {"seed": 7})

    def test_is_one_whose_results_another_process_made_anew_meanwhile(self, folder, monkeypatch):
        values = plan.wanted(notebooks.paths()[5], folder.values)
        provenance.begin("05", dict(values))
        with monkeypatch.context() as another_process:
            another_process.setattr(provenance, "_begun", {})
            Annotations(dataset.read("colours")).relabel([0], "green")
            folder.run("01", "05")
        with pytest.raises(
            ImgclfError,
            match=r"^05_evaluate: .*images\.tsv.* changed while it ran, as by Train again or a run in another "
            "window; run all cells again, to go on with the new results$",
        ):
            provenance.end("05", values)
        assert provenance.outdated("05", values) == ""  # the record is that of the other run

    def test_is_not_01_whose_annotator_trained_again_before_its_last_cells_ran(self, folder, monkeypatch):
        path = notebooks.paths()[1]
        cells = [cell.source for cell in in_process.code_cells(path)]
        begin = next(k for k, cell in enumerate(cells) if "Annotator(" in cell) + 1
        namespace = dict(folder.values)
        exec("\n".join([*cells[:1], "dataset_name = 'colours'", *cells[1:begin]]), namespace)
        with monkeypatch.context() as another_process:
            another_process.setattr(provenance, "_begun", {})
            Annotations(dataset.read("colours")).relabel([0], "green")
            folder.run("01", "05")
        exec("\n".join(cells[begin:]), namespace)
        assert [
            provenance.outdated(each.name[:2], plan.wanted(each, folder.values))
            for each in notebooks.paths()[2:6]
        ] == [""] * 4

    def test_a_notebook_that_has_not_run_is_named(self, data_dir):
        with pytest.raises(
            ImgclfError, match="colours: 01_prepare_data has not run yet; run the notebooks from 01"
        ):
            in_process.run_all("05", "05", {"dataset_name": "colours"})


def test_results_of_version_0_1_0_are_refused_in_one_sentence(data_dir):
    shutil.copytree(ROOT / "tests" / "samples" / "data_folder_0.1.0", data_dir)
    with pytest.raises(ImgclfError) as refused:
        in_process.run_all("05", "05", {"dataset_name": "colours"})
    assert str(refused.value) == (
        "split.tsv of colours: no record of what 01_prepare_data made it with, as in results of version 0.1.0; "
        "run the notebooks again from 01_prepare_data on: features and fine-tuned networks that fit are used "
        "again"
    )


def test_results_without_records_are_used_again_where_they_fit(folder):
    shutil.rmtree(folder.proc / provenance.FOLDER)
    before = {path: path.stat().st_mtime_ns for path in folder.proc.glob("features/*/*")}
    assert "the features of all 36 images are cached already" in folder.run("01", "05")
    assert {path: path.stat().st_mtime_ns for path in folder.proc.glob("features/*/*")} == before


class TestWhatIsUsedAgainButWasChanged:
    """A fresh run would not have it, so that it is made anew."""

    def test_features_of_another_network_are_computed_again(self, folder):
        shard = next(folder.proc.glob("features/*/*.npz"))
        arrays = files.read_npz(shard)
        files.write_npz(shard, arrays | {"features": arrays["features"][::-1]})
        with pytest.raises(ImgclfError, match="not as 03_run_dnn wrote it"):
            folder.run("04")
        assert f"{shard.name}: not as 03_run_dnn wrote it; it is made anew" in folder.run("03")
        assert (files.read_npz(shard)["features"] == arrays["features"]).all()
        folder.run("04", "05")

    def test_features_of_the_network_before_the_last_one_are_computed_again_too(self, folder):
        before = report.read_test_scores(folder.proc).scores
        shard = next(folder.proc.glob("features/dnn_fixed-*/*.npz"))
        other = write_tiny_network(folder.data / "other.onnx", size=64)
        folder.run("02", "03", backbone=str(other), input_size=64)
        arrays = files.read_npz(shard)
        files.write_npz(shard, arrays | {"features": arrays["features"][::-1]})
        assert f"{shard.name}: not as 03_run_dnn wrote it; it is made anew" in folder.run("02", "03")
        folder.run("04", "05")
        np.testing.assert_allclose(report.read_test_scores(folder.proc).scores, before, atol=1e-4)

    def test_but_not_the_scan_of_a_run_that_was_stopped(self, folder, monkeypatch):
        (folder.images / "red/new.jpg").write_bytes(decoding.jpeg(picture((200, 40, 40), seed=999)))
        with monkeypatch.context() as patch:
            patch.setattr(provenance, "end", in_process.nothing)
            folder.run("01")
        assert "made anew" not in folder.run("01")

    def test_a_changed_table_of_images_is_no_cache_of_the_next_scan(self, folder):
        table = folder.proc / "images.tsv"
        whole = table.read_text()
        table.write_text(whole.replace("\t64\t48\t", "\t640\t480\t"))
        folder.run("01")
        assert table.read_text() == whole


@pytest.mark.parametrize("change", ["nothing", "confirmed", "network", "split", "scores"])
def test_a_fine_tuned_network_is_compared_with_a_baseline_of_the_same_images_and_network_alone(
    folder, monkeypatch, capsys, change
):
    if change == "network":
        folder.run("02", backbone=str(write_tiny_network(folder.data / "other.onnx", size=64)), input_size=64)
    if change == "split":
        folder.run("01", seed=1)
    if change == "confirmed":
        confirm(folder)
    if change == "scores":
        cut(folder.proc / "scores_svm.npz")
    monkeypatch.setattr(provenance, "_check", in_process.nothing)  # that there is a fine-tuned network
    provenance.begin("05", plan.wanted(notebooks.paths()[5], folder.values | {"classifier": "dnn"}))
    is_kept = change in ("nothing", "confirmed")
    assert (folder.proc / "scores_svm.npz").exists() == is_kept
    assert ("scores_svm.npz: of other images or another" in capsys.readouterr().out) != is_kept


class TestTheStateOfAFolderOfImages:
    @pytest.mark.parametrize(
        "change",
        [
            lambda folder: (folder / "red/00.jpg").unlink(),
            lambda folder: (folder / "red/00.jpg").rename(folder / "blue/x.jpg"),
            lambda folder: (folder / "red/00.jpg").write_bytes((folder / "red/01.jpg").read_bytes()),
            lambda folder: os.utime(folder / "red/00.jpg", (1, 1)),  # a clock that jumps
            lambda folder: (folder / "new").mkdir(),
            lambda folder: (folder / "annotations.jsonl").write_text(""),
            lambda folder: (folder / "loose.jpg").write_text(""),
        ],
    )
    def test_differs_after_any_change(self, colour_folder, change):
        before = layout.images_state(colour_folder)
        change(colour_folder)
        assert layout.images_state(colour_folder) != before

    def test_is_the_same_under_another_name_and_with_links_that_lead_nowhere_or_back(self, colour_folder):
        (colour_folder / "red/gone.jpg").symlink_to("nothing")
        (colour_folder / "red/back").symlink_to(colour_folder.parent)
        before = layout.images_state(colour_folder)
        moved = colour_folder.rename(colour_folder.with_name("fruit"))
        assert layout.images_state(moved) == before


class TestTheTableOfFiles:
    def test_has_each_file_that_the_notebooks_write(self, finished):
        paths = (path.relative_to(finished.proc) for path in finished.proc.rglob("*") if path.is_file())
        # Copies are kept under the contents that they belong to, and need no record; nor does the report, which no
        # stage reads and which says when it was made.
        without = (provenance.FOLDER, "copies", recording.REPORT)
        written = {path.as_posix() for path in paths if path.parts[0] not in without}
        stored = [json.loads(path.read_text()) for path in (finished.proc / provenance.FOLDER).iterdir()]
        assert written == {name for each in stored for name in each["outputs"]}

    def test_has_each_picture_that_the_notebooks_save(self):
        for path in notebooks.paths()[:6]:
            saved = re.findall(r'plots\.save\([^"]*\\"(\w+\.(?:png|jpg))', path.read_text())
            in_table = {
                name.removeprefix("{results}/")
                for name in provenance.WRITES[path.name[:2]]
                if name.endswith((".png", ".jpg"))
            }
            assert set(saved) == in_table


def test_a_record_has_the_run_time_and_the_peak_memory_and_earlier_ones_without_them_are_read(folder):
    folder.run("05")
    made = provenance.read("colours", "05")
    assert 0 < made.seconds < 60 and 50 < made.peak_memory_mb < 100_000
    path = folder.proc / "made_with" / "05.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in stored.items() if k not in ("seconds", "peak_memory_mb")}))
    assert provenance.read("colours", "05") == replace(made, seconds=0.0, peak_memory_mb=0.0)
