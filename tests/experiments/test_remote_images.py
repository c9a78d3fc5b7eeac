"""All notebooks on images at a URL, in a real S3 server: the results of the same folder on disk, and what is downloaded."""

import numpy as np
import pytest
from click.testing import CliRunner

from imgclf import ImgclfError, cli, files
from imgclf.data import dataset, remote
from imgclf.evaluation import report
from imgclf.experiments import projects, sequence
from imgclf.parameters import values
from support import in_process, s3
from support.networks import write_tiny_network
from support.pictures import jpeg, write_colours

URL = "s3://bucket/fruit"


@pytest.fixture(scope="module")
def store():
    with pytest.MonkeyPatch.context() as patch, s3.serving(patch) as served:
        yield served


@pytest.fixture
def given(store, with_copy_descriptor, tmp_path, monkeypatch):
    """Parameters of a run on the colours in a bucket, which takes seconds."""
    store.clear()
    store.upload(write_colours(tmp_path / "fruit"), "fruit")
    store.requests.clear()
    in_process.leave_out_what_is_shown(monkeypatch)
    monkeypatch.setattr(sequence, "execute", in_process.execute)
    return {
        **in_process.given(write_tiny_network(tmp_path / "tiny.onnx")),
        "dataset_name": "fruit",
        "images_dir": URL,
    }


def results(name: str) -> dict[str, bytes]:
    """The contents of the files that decide what a run computes, and of what it learned."""
    proc = files.proc_dir(name)
    shards = {path.name: path.read_bytes() for path in (proc / "features").rglob("*.npz")}
    return {each: (proc / each).read_bytes() for each in ("images.tsv", "split.tsv", files.SVM_HEAD)} | shards


def test_results_are_those_of_the_folder_on_disk_bit_for_bit(given, store, tmp_path):
    sequence.run(given)
    sequence.run({**given, "dataset_name": "local", "images_dir": str(tmp_path / "fruit")})
    assert results("fruit") == results("local")
    one, other = (report.read_test_scores(files.proc_dir(name)) for name in ("fruit", "local"))
    assert np.array_equal(one.scores, other.scores)
    assert one.overall_accuracy == other.overall_accuracy


def test_run_that_is_up_to_date_downloads_no_image_and_one_new_image_is_seen(given, store, capsys):
    store.put("fruit/red/IMG_1", jpeg("red", seed=76))
    store.put("fruit/red/LICENSE", b"a text")
    sequence.run(given)
    store.requests.clear()
    assert sequence.run(given)[1] is None
    assert {*store.requests} == {"GET /bucket"}
    store.put("fruit/red/new.jpg", jpeg("red", seed=77))
    sequence.run(given)
    assert f"the images in {URL} were changed" in capsys.readouterr().out
    assert "red/new.jpg" in {image.path for image in dataset.read("fruit").images}


def test_imported_labels_are_written_to_the_url_and_used_by_the_next_run(given, store, tmp_path, capsys):
    sequence.run(given)
    table = tmp_path / "labels.csv"
    table.write_text("path,label\nred/00.jpg,blue\n")
    ended = CliRunner().invoke(cli.main, ["labels", "import", str(table), "-p", f"images_dir={URL}"])
    assert ended.exit_code == 0, ended.output
    assert "red/00.jpg\tblue\t\t" in store.get(f"fruit/{remote.MANIFEST}").decode()
    sequence.run(given)
    assert (
        next(image.label for image in dataset.read("fruit").images if image.path == "blue/00-2.jpg") == "blue"
    )
    assert "fruit/red/00.jpg" in store.objects()


def test_project_of_a_url_keeps_the_url(given, store, tmp_path):
    ended = CliRunner().invoke(cli.main, ["new", str(tmp_path / "project"), "--images", f"{URL}/"])
    assert ended.exit_code == 0, ended.output
    text = (tmp_path / "project" / "imgclf.toml").read_text()
    assert f'images_dir = "{URL}"' in text and 'dataset_name = "fruit"' in text
    assert not (tmp_path / "project" / "remote").exists()


def test_new_project_of_a_url_with_nothing_at_it_is_refused(given, store, tmp_path):
    with pytest.raises(ImgclfError, match="s3://bucket/none: no such bucket or folder"):
        projects.create(tmp_path / "project", images=dataset.images_folder("", "s3://bucket/none"))


def test_url_on_the_command_line_stays_a_url_and_one_with_a_password_is_refused():
    assert values.parse([f"images_dir={URL}"]) == {"images_dir": URL}
    with pytest.raises(ImgclfError, match="holds a user name, a password or a query") as caught:
        values.parse(["images_dir=s3://key:secret@bucket/fruit"])
    assert "secret" not in str(caught.value)
