"""`imgclf run` chooses by itself which notebooks run, says why, and refuses to leave out one that has to."""

import re
import shutil
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from imgclf import ImgclfError, cli, files
from imgclf.collect import fetch, manifest
from imgclf.downloads import TRANSIENT, DownloadError
from imgclf.evaluation import report
from imgclf.experiments import notebooks, plan, provenance, sequence
from imgclf.images import decoding
from support import cells, in_process
from support.networks import write_tiny_network
from support.pictures import picture, write_colours

pytestmark = pytest.mark.usefixtures("ran")

ALL = ["01_prepare_data", "02_refine_dnn", "03_run_dnn", "04_train_svm", "05_evaluate"]


def planned(capsys: pytest.CaptureFixture) -> dict[str, str]:
    """What the plan says about each notebook."""
    return dict(re.findall(r"^(0\d_\w+) +(runs.*|up to date.*)$", capsys.readouterr().out, re.MULTILINE))


class TestMadeWith:
    def test_parameters_that_are_not_default_are_named_if_they_decided_the_results(self, folder):
        text = plan.made_with("colours")
        assert text.startswith("Parameters that are not default: ") and "svm_c = [0.1, 1.0]" in text
        assert "\n" not in text and "dataset_name" not in text and "epochs" not in text

    def test_defaults_are_called_so(self, data_dir):
        assert plan.made_with("colours") == "All parameters have their defaults."

    def test_an_edited_split_is_named(self, folder):
        with (folder.proc / "split.tsv").open("a") as file:
            file.write("\n")
        assert plan.made_with("colours").endswith("\nThe split was edited by hand, in split.tsv.")


class TestWithoutFrom:
    def test_a_run_that_is_up_to_date_runs_nothing_and_ends_with_the_results(self, folder, ran):
        before = (folder.proc / "evaluation.json").stat().st_mtime_ns
        values = [word for item in folder.values.items() for word in ("-p", "=".join(map(str, item)))]
        ended = CliRunner().invoke(cli.main, ["run", *values])
        assert ended.exit_code == 0 and ran == []
        assert "executed notebooks   none: all results are up to date; imgclf run --from 00" in ended.stdout
        assert "overall accuracy" in ended.stdout and "05_evaluate       up to date" in ended.stdout
        assert (folder.proc / "evaluation.json").stat().st_mtime_ns == before

    def test_a_changed_parameter_runs_its_notebook_and_what_follows(self, folder, ran, capsys):
        sequence.run(folder.values | {"svm_c": [0.5]})
        assert ran == ["04_train_svm", "05_evaluate"]
        assert planned(capsys) == {
            **dict.fromkeys(ALL[:3], "up to date"),
            "04_train_svm": "runs: svm_c = [0.5], was [0.1, 1.0]",
            "05_evaluate": "runs if the files of 04_train_svm change",
        }

    def test_notebooks_after_one_that_gives_the_same_do_not_run(self, folder, ran, capsys):
        for path in folder.images.glob("*/*"):
            path.touch()
        sequence.run(folder.values)
        assert ran == ["01_prepare_data"]
        assert planned(capsys)["01_prepare_data"] == f"runs: the images in {folder.images} were changed"

    def test_new_images_run_01_and_all_that_saw_the_others(self, folder, ran, capsys):
        (folder.images / "red/new.jpg").write_bytes(decoding.jpeg(picture((200, 40, 40), seed=999)))
        sequence.run(folder.values)
        assert ran == [ALL[0], *ALL[2:]]  # 02 reads no images with classifier=svm
        plan = planned(capsys)
        assert plan["02_refine_dnn"] == "up to date"
        assert plan["03_run_dnn"] == "runs if the files of 01_prepare_data change"
        assert sum(
            report.read(folder.proc)["classes"][name]["images"] for name in ("red", "blue", "green")
        ) in (
            9,
            10,
        )

    @pytest.mark.parametrize(
        ("name", "first"),
        [
            ("split.json", "01_prepare_data"),
            ("split.tsv", "01_prepare_data"),
            ("dnn_fixed.onnx", "02_refine_dnn"),
            ("classifier.onnx", "04_train_svm"),
            ("confusion.png", "05_evaluate"),
        ],
    )
    def test_a_missing_file_is_made_again(self, folder, ran, name, first, capsys):
        if name == "confusion.png":  # pictures are left out here
            (folder.proc / name).write_bytes(b"a picture")
            provenance.write("05", plan.wanted(notebooks.paths()[5], folder.values))
        (folder.proc / name).unlink()
        sequence.run(folder.values)
        assert planned(capsys)[first] == f"runs: {name} was changed or is missing"
        assert (folder.proc / name).exists() or name == "confusion.png"
        assert ran[0] == first

    def test_an_edited_split_stays_and_is_used(self, folder, ran, capsys):
        table = folder.proc / "split.tsv"
        table.write_text(edited := table.read_text().replace("\ttest\t", "\ttrain\t", 1))
        sequence.run(folder.values)
        assert ran == ALL[3:] and table.read_text() == edited
        assert planned(capsys)["01_prepare_data"] == "up to date, with your split.tsv"

    @pytest.mark.parametrize("cause", ["a parameter", "a file", "another version"])
    def test_an_edited_split_is_not_overwritten_unasked(self, folder, ran, cause, monkeypatch):
        table = folder.proc / "split.tsv"
        table.write_text(edited := table.read_text().replace("\ttest\t", "\ttrain\t", 1))
        values = folder.values | ({"train_fraction": 0.5} if cause == "a parameter" else {})
        if cause == "a file":
            (folder.images / "notes.txt").write_text("mine")
        if cause == "another version":
            monkeypatch.setattr(provenance, "__version__", "9.0.0")
        message = (
            r"^split\.tsv of colours: edited, and 01_prepare_data would overwrite it \(.*--from 02 to keep"
        )
        with pytest.raises(ImgclfError, match=message):
            sequence.run(values)
        assert ran == [] and table.read_text() == edited
        if cause != "a parameter":
            sequence.run(values, start_from="02")
            assert ran == ALL[1:] and table.read_text() == edited
        sequence.run(values, start_from="01")
        assert table.read_text() != edited

    def test_a_split_that_01_wrote_before_it_was_stopped_is_not_edited(self, folder, ran, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(provenance, "end", in_process.nothing)
            folder.run("01", train_fraction=0.5)
        sequence.run(folder.values)
        assert ran == ALL[:1]

    def test_deleted_test_images_are_counted_in_the_closing_lines_and_in_05(self, folder, ran):
        lost = report.read_test_scores(folder.proc).paths[:2]
        for path in lost:
            (folder.images / path).unlink()
        values = [word for item in folder.values.items() for word in ("-p", "=".join(map(str, item)))]
        ended = CliRunner().invoke(cli.main, ["run", *values])
        assert ended.exit_code == 0 and ran == [ALL[0], *ALL[2:]]
        for text in (ended.stdout, folder.run("05")):
            assert re.search(rf"CAREFUL: 2 .*test images .*{lost[0]}.*{lost[1]}", text), text

    def test_changed_code_runs_its_notebook(self, folder, ran, tmp_path, monkeypatch, capsys):
        own = shutil.copytree(notebooks.NOTEBOOKS, tmp_path / "own", ignore=shutil.ignore_patterns(".*"))
        path = own / "04_train_svm.ipynb"
        path.write_text(path.read_text().replace("training accuracy", "accuracy in training"))
        monkeypatch.setattr(notebooks, "NOTEBOOKS", own)
        sequence.run(folder.values)
        assert ran == ["04_train_svm"]  # the classifier is the same
        assert planned(capsys)["04_train_svm"] == "runs: its code was changed"

    def test_values_in_the_cells_count_as_those_that_are_given(self, folder, ran, tmp_path, monkeypatch):
        own = shutil.copytree(notebooks.NOTEBOOKS, tmp_path / "own", ignore=shutil.ignore_patterns(".*"))
        monkeypatch.setattr(notebooks, "NOTEBOOKS", own)
        cells.edit(**folder.values | {"l2_normalize": False})
        sequence.run({})
        assert ran == ["04_train_svm", "05_evaluate"]

    def test_a_failed_notebook_is_where_the_next_run_begins(self, folder, ran, monkeypatch):
        with monkeypatch.context() as patch, pytest.raises(ImgclfError, match="no room"):
            patch.setattr("imgclf.classifier.export.write", refuse)
            sequence.run(folder.values | {"svm_c": [0.5]})
        sequence.run(folder.values | {"svm_c": [0.5]})
        assert ran == ["04_train_svm", "04_train_svm", "05_evaluate"]

    def test_a_folder_of_ones_own_needs_no_00_and_is_known_from_then_on(
        self, data_dir, tmp_path, ran, monkeypatch
    ):
        in_process.leave_out_what_is_shown(monkeypatch)
        values = in_process.given(write_tiny_network(tmp_path / "tiny.onnx"))
        images = write_colours(tmp_path / "own")
        sequence.run(values | {"images_dir": str(images)})
        assert ran == ALL
        sequence.run(values)
        assert ran == ALL
        sequence.run(values | {"images_dir": f"{tmp_path}/served/../own"})  # another spelling
        assert ran == ALL
        sequence.run(values, start_from="05")
        assert ran == [*ALL, "05_evaluate"]

    def test_images_that_could_not_be_fetched_are_tried_again_and_deleted_ones_are_not(
        self, data_dir, ran, tmp_path, monkeypatch, capsys
    ):
        in_process.leave_out_what_is_shown(monkeypatch)
        monkeypatch.setattr(manifest, "MANIFESTS", tmp_path)
        served = write_colours(tmp_path / "served")
        rows = [f"{path.parent.name}\thttp://x/{path.name}" for path in sorted(served.glob("*/*.jpg"))]
        monkeypatch.setattr(fetch, "_fetch_one", partial(copied, served=served, without="03.jpg"))
        (tmp_path / "colours.tsv").write_text("\n".join(["label\tsource", *rows]))
        values = in_process.given(write_tiny_network(tmp_path / "tiny.onnx"))
        sequence.run(values)
        sequence.run(values)
        assert ran == ["00_get_images", *ALL, "00_get_images"]
        assert planned(capsys)["00_get_images"] == "runs: not all images could be fetched"
        monkeypatch.setattr(fetch, "_fetch_one", partial(copied, served=served))
        sequence.run(values)
        next((data_dir / "images/colours/red").iterdir()).unlink()
        ran.clear()
        sequence.run(values)
        assert "00_get_images" not in ran and planned(capsys)["00_get_images"] == "up to date"

    def test_what_another_run_did_while_this_one_waited_for_it_is_not_done_again(
        self, folder, ran, monkeypatch
    ):
        @contextmanager
        def waited(_):
            folder.run("04", "05", svm_c=[0.5])
            yield

        monkeypatch.setattr(files, "lock", waited)
        assert sequence.run(folder.values | {"svm_c": [0.5]}) == ("colours", None)
        assert ran == []

    def test_another_folder_runs_01(self, folder, ran, tmp_path, capsys):
        other = Path(shutil.copytree(folder.images, tmp_path / "other"))
        sequence.run(folder.values | {"images_dir": str(other)})
        assert planned(capsys)["01_prepare_data"] == f"runs: the images are in {other}"


def refuse(*_, **__):
    raise ImgclfError("no room")


def copied(run, entry, *, served: Path, without: str = ""):
    """Take the place of `fetch._fetch_one`: copy the image, unless it is the one of a server that is busy."""
    if entry.file_name == without:
        return DownloadError("the server is busy", TRANSIENT)
    (run.folder / entry.label).mkdir(parents=True, exist_ok=True)
    shutil.copy(served / entry.label / entry.file_name, run.folder / entry.label)
    return None


class TestWithFrom:
    def test_all_from_there_run_even_if_up_to_date(self, folder, ran):
        sequence.run(folder.values, start_from="04")
        assert ran == ["04_train_svm", "05_evaluate"]

    @pytest.mark.parametrize(
        ("start", "given", "message"),
        [
            ("05", {"input_size": 480}, "input_size = 480: 02_refine_dnn takes it, and ran with 32; .*--from 02"),
            ("05", {"train_fraction": 0.3}, "train_fraction = 0.3: 01_prepare_data .* ran with 0.75; .*--from 01"),
            ("03", {"seed": 4}, "seed = 4: 01_prepare_data takes it, and ran with 0; start there, with --from 01"),
            ("05", {"classifier": "dnn"}, 'classifier = "dnn": 02_refine_dnn takes it, and ran with "svm"'),
            ("05", {"engine": "onnxruntime"}, 'engine = "onnxruntime": 03_run_dnn takes it, and ran with "openvino"'),
            ("05", {"epochs": 9}, "epochs = 9: 02_refine_dnn takes it, and is left out"),
            ("01", {"max_images": 9}, "max_images = 9: 00_get_images takes it, and is left out"),
            ("05", {"reject_below": 0.5}, "reject_below: no notebook of this run takes it .only 06.; leave it out"),
            (None, {"reject_below": 0.5}, "reject_below: no notebook of this run takes it .only 06.; leave it out"),
            (None, {"max_images": 9}, "max_images: no notebook of this run takes it .only 00.; leave it out"),
        ],
    )  # fmt: skip
    def test_a_parameter_of_a_notebook_that_is_left_out_is_refused(self, folder, ran, start, given, message):
        with pytest.raises(ImgclfError, match=f"^{message}"):
            sequence.run(folder.values | given, start_from=start)
        assert ran == []

    def test_two_parameters_of_left_out_notebooks_are_refused_by_the_command(self, folder, ran):
        command = ["run", "--from", "05", "-p", "input_size=480", "-p", "train_fraction=0.3"]
        ended = CliRunner().invoke(cli.main, [*command, "-p", "dataset_name=colours"])
        assert ended.exit_code == 1 and ran == []
        assert ended.stderr == (
            "imgclf: train_fraction = 0.3: 01_prepare_data takes it, and ran with 0.75; start there, with --from 01, "
            "or leave out --from\n"
        )

    def test_values_with_which_the_left_out_notebooks_ran_are_accepted(self, folder, ran):
        sequence.run(folder.values | {"train_fraction": 0.75, "inference_batch_size": 3}, start_from="05")
        assert ran == ["05_evaluate"]

    def test_auto_is_the_precision_that_it_meant_in_the_notebooks_left_out(self, folder, ran):
        sequence.run(folder.values | {"precision": "auto"})
        ran.clear()
        sequence.run(folder.values | {"precision": "auto"}, start_from="05")
        assert ran == ["05_evaluate"]

    def test_stale_results_are_refused_before_a_kernel_starts(self, folder, ran):
        folder.run("01", train_fraction=0.5)
        with pytest.raises(ImgclfError, match="run the notebooks again from 04_train_svm on"):
            sequence.run(folder.values, start_from="05")
        assert ran == []


def test_cells_with_different_values_of_one_parameter_are_refused(folder, ran, tmp_path, monkeypatch):
    own = shutil.copytree(notebooks.NOTEBOOKS, tmp_path / "own", ignore=shutil.ignore_patterns(".*"))
    path = own / "05_evaluate.ipynb"
    path.write_text(path.read_text().replace('engine: str = \\"openvino', 'engine: str = \\"onnxruntime'))
    monkeypatch.setattr(notebooks, "NOTEBOOKS", own)
    with pytest.raises(
        ImgclfError, match='engine = "openvino" in 03_run_dnn, but "onnxruntime" in 05_evaluate'
    ):
        sequence.run(folder.values)
    sequence.run(folder.values | {"engine": "openvino"})
    assert ran == []


@pytest.mark.parametrize(
    ("name", "default", "others", "message"),
    [
        ("dataset_name", "fashion_texture", "colours", r'"fashion_texture" in 0\d\w+, but "colours" in 0'),
        ("images_dir", "", "/elsewhere", '"/elsewhere" in 02_refine_dnn, but "/pictures" in 03_run_dnn'),
    ],
)
def test_cells_that_name_different_data_are_refused(
    folder, ran, tmp_path, monkeypatch, name, default, others, message
):
    own = shutil.copytree(notebooks.NOTEBOOKS, tmp_path / "own", ignore=shutil.ignore_patterns(".*"))
    monkeypatch.setattr(notebooks, "NOTEBOOKS", own)
    for number, path in enumerate(notebooks.paths()[:-1]):  # 08 has a data set of its own
        value = default if number < 2 else "/pictures" if number > 2 and name == "images_dir" else others
        text = f'{name}: str = \\"{default}\\"'
        assert text in path.read_text()
        path.write_text(path.read_text().replace(text, f'{name}: str = \\"{value}\\"'))
    monkeypatch.setattr(plan, "check_folder", in_process.nothing)
    values = {key: value for key, value in folder.values.items() if key != name}
    with pytest.raises(ImgclfError, match=f"^{name} = {message}"):
        sequence.run(values)
    assert ran == []


class TestTheFolderOfImages:
    @pytest.mark.parametrize("start", [None, "01"])
    def test_that_does_not_exist_is_refused_before_a_kernel_starts(self, data_dir, ran, start):
        with pytest.raises(ImgclfError, match=r"^/no/such: no such folder; correct "):
            sequence.run({"dataset_name": "x", "images_dir": "/no/such"}, start_from=start)
        with pytest.raises(
            ImgclfError, match=r"images/x(; correct the name|: no such folder; correct images_)"
        ):
            sequence.run({"dataset_name": "x"}, start_from=start)
        assert ran == [] and not data_dir.exists()

    def test_without_label_folders_is_refused_before_a_kernel_starts(self, data_dir, ran, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(ImgclfError, match="no label folders in it"):
            sequence.run({"dataset_name": "x", "images_dir": str(tmp_path / "empty")})
        assert ran == []

    def test_that_was_not_scanned_is_refused_by_later_notebooks(self, folder, ran, tmp_path):
        with pytest.raises(
            ImgclfError, match=f"colours was scanned in {folder.images}; start with --from 01"
        ):
            sequence.run(folder.values | {"images_dir": str(tmp_path)}, start_from="03")
        assert ran == []

    def test_is_that_of_the_scan_where_none_is_given(self, data_dir, tmp_path, ran, monkeypatch, capsys):
        in_process.leave_out_what_is_shown(monkeypatch)
        values = in_process.given(write_tiny_network(tmp_path / "tiny.onnx"))
        images = write_colours(tmp_path / "own")
        sequence.run(values | {"images_dir": str(images)}, start_from="01")
        capsys.readouterr()
        sequence.run(values, start_from="04")
        assert capsys.readouterr().out.startswith(f"36 images in {images}\n")
