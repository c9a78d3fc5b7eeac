"""Images at a URL, in a real S3 server: the same results as from a folder, nothing read twice, labels written there."""

import os
import sys
import threading
from dataclasses import replace

import fsspec
import pytest

from imgclf import ImgclfError, files
from imgclf.annotation.annotations import Annotations
from imgclf.data import dataset, remote, scan, split
from imgclf.images import decoding, pointers, stores
from support import s3
from support.pictures import jpeg

URL = "s3://bucket/fruit"
MANIFEST = f"fruit/{remote.MANIFEST}"


@pytest.fixture(scope="module")
def server():
    with pytest.MonkeyPatch.context() as patch, s3.serving(patch) as served:
        yield served


@pytest.fixture
def store(server, distinct_folder):
    """The colours in a bucket."""
    server.clear()
    server.upload(distinct_folder, "fruit")
    server.requests.clear()
    return server


@pytest.fixture
def new_client(monkeypatch):
    """The next client is made by the environment variables of this test, and does not try again for long."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    stores._opened_by.cache_clear()
    yield
    stores._opened_by.cache_clear()


@pytest.fixture
def folder(data_dir):
    return dataset.images_folder("fruit", URL)


def scanned(folder):
    found = scan.scan_folder("fruit", folder)
    dataset.write(found)
    return found


def labels(folder):
    return {image.path: image.label for image in scanned(folder).images}


def test_scan_and_split_are_those_of_the_same_folder(store, folder, distinct_folder):
    at_url, local = scanned(folder), scan.scan_folder("fruit", distinct_folder)
    assert at_url == replace(local, folder=folder)
    assert split.split(at_url, seed=3).test == split.split(local, seed=3).test


def test_second_scan_downloads_nothing_and_lists_once(store, folder):
    first = scanned(folder)
    assert len(store.downloads()) == len(first.files) == 36
    assert scanned(folder) == first
    assert store.requests == ["GET /bucket"]


def test_objects_without_a_suffix_are_read_when_they_are_new_or_changed_and_in_no_other_scan(store, folder):
    store.put("fruit/red/IMG_1", jpeg("red", seed=99))
    store.put("fruit/red/LICENSE", b"a text")
    store.put("fruit/unfamiliar/IMG_2", jpeg("blue", seed=99))
    store.requests.clear()
    assert scan.count_images(folder) == 37
    names = ("red/IMG_1", "red/LICENSE", "unfamiliar/IMG_2")
    assert sorted(store.requests) == ["GET /bucket", *(f"GET /bucket/fruit/{name}" for name in names)]
    first = scanned(folder)
    assert first.other_files == ("red/LICENSE",)
    store.requests.clear()
    assert scan.count_images(folder) == 37
    assert scanned(folder) == first
    assert store.requests == ["GET /bucket"]
    store.put("fruit/red/LICENSE", jpeg("red", seed=98))
    store.requests.clear()
    assert "red/LICENSE" in {image.path for image in scanned(folder).images}
    assert store.requests.count("GET /bucket/fruit/red/LICENSE") == 2, "its start, then the whole image"


def test_objects_without_a_suffix_are_read_at_the_same_time(store, folder, monkeypatch):
    for i in range(4):
        store.put(f"fruit/red/IMG_{i}", jpeg("red", seed=90 + i))
    together, read = threading.Barrier(4, timeout=30), stores.read

    def read_together(url, key, *, end=None):
        together.wait()
        return read(url, key, end=end)

    monkeypatch.setattr(stores, "read", read_together)
    assert scan.count_images(folder) == 40


def test_pointer_of_an_earlier_version_gets_the_start_of_its_object_and_keeps_its_sha256(store, folder):
    store.put("fruit/red/IMG_1", jpeg("red", seed=99))
    first = scanned(folder)
    path = folder / "red" / "IMG_1"
    known = pointers.pointer(path)
    replace(known, start=None).write(path)
    store.requests.clear()
    assert scanned(folder) == first
    assert sorted(store.requests) == ["GET /bucket", "GET /bucket/fruit/red/IMG_1"]
    assert pointers.pointer(path) == known


def test_near_duplicates_are_downloaded_once_though_they_are_compared_in_each_scan(store, folder):
    pixels = decoding.decode(store.get("fruit/red/r00.jpg"))
    store.put("fruit/red/again.jpg", decoding.jpeg(pixels, quality=60))
    found = scanned(folder)
    assert [{pair.kept.path, pair.other.path} for pair in found.duplicates] == [
        {"red/r00.jpg", "red/again.jpg"}
    ]
    store.downloads()
    assert scanned(folder) == found
    assert store.downloads() == []


def test_no_image_is_copied_to_disk(store, folder, distinct_folder):
    scanned(folder)
    contents = {path.read_bytes() for path in distinct_folder.glob("*/*.jpg")}
    assert not [
        path for path in files.data_dir().rglob("*") if path.is_file() and path.read_bytes() in contents
    ]


def test_changed_new_and_deleted_images_are_seen_and_nothing_else_is_read(store, folder):
    before = {image.path: image.sha256 for image in scanned(folder).files}
    store.put("fruit/red/r00.jpg", jpeg("blue"))
    store.put("fruit/red/new.jpg", jpeg("red", seed=99))
    store.delete("fruit/red/r01.jpg")
    store.downloads()
    after = {image.path: image.sha256 for image in scanned(folder).files}
    assert set(store.downloads()) == {"fruit/red/r00.jpg", "fruit/red/new.jpg"}
    assert after.keys() - before.keys() == {"red/new.jpg"}
    assert before.keys() - after.keys() == {"red/r01.jpg"}
    assert after["red/r00.jpg"] != before["red/r00.jpg"]
    assert {path for path in after.keys() & before.keys() if after[path] != before[path]} == {"red/r00.jpg"}


def test_relabelled_and_excluded_images_come_back_as_a_manifest_and_nothing_is_moved(store, folder):
    keys, notes = store.objects(), Annotations(scanned(folder))
    positions = {image.path: i for i, image in enumerate(notes.images)}
    notes.relabel([positions["red/r00.jpg"]], "blue")
    notes.exclude([positions["red/r01.jpg"]])
    found = scanned(folder)
    assert {image.label for image in found.images if image.path.endswith("r00.jpg")} == {"blue"}
    assert [image.path for image in found.excluded] == ["red/r01.jpg"]
    header, *rows = store.get(MANIFEST).decode().splitlines()
    assert header == "path\tlabel\texcluded\tsha256\tversion"
    assert [row.split("\t")[:3] for row in rows] == [
        ["red/r00.jpg", "blue", ""],
        ["red/r01.jpg", "red", "excluded"],
    ]
    assert sorted(store.objects()) == sorted([*keys, MANIFEST])


def test_another_machine_has_the_labels_of_the_manifest(store, folder, monkeypatch, tmp_path):
    notes = Annotations(scanned(folder))
    notes.relabel([0], "red")
    notes.exclude([1])
    there = scanned(folder)
    monkeypatch.setenv("IMGCLF_DATA", str(tmp_path / "other"))
    store.downloads()
    here = scanned(dataset.images_folder("fruit", URL))
    assert {image.path: image.label for image in here.images} == {
        image.path: image.label for image in there.images
    }
    assert (
        [image.path for image in here.excluded]
        == [image.path for image in there.excluded]
        == ["blue/b01.jpg"]
    )
    assert len(store.downloads()) == len(here.files)
    assert dataset.read("fruit", URL) == here


def test_changes_of_two_machines_are_merged(store, folder, monkeypatch, tmp_path):
    scanned(folder)
    here = os.environ["IMGCLF_DATA"]
    monkeypatch.setenv("IMGCLF_DATA", str(tmp_path / "other"))
    other = dataset.images_folder("fruit", URL)
    Annotations(scanned(other)).relabel([0, 1], "red")
    labels(other)
    monkeypatch.setenv("IMGCLF_DATA", here)
    Annotations(dataset.read("fruit")).relabel([1, 2], "green")
    assert {"red/b00.jpg", "green/b01.jpg", "green/b02.jpg"} <= labels(folder).keys()
    monkeypatch.setenv("IMGCLF_DATA", str(tmp_path / "other"))
    assert labels(other)["green/b01.jpg"] == "green"


def test_undone_change_leaves_the_manifest(store, folder):
    notes = Annotations(scanned(folder))
    notes.relabel([0], "red")
    scanned(folder)
    notes.undo()
    scanned(folder)
    assert store.get(MANIFEST).decode().count("\n") == 1


def test_label_of_a_content_that_was_replaced_is_not_applied(store, folder, monkeypatch, tmp_path):
    Annotations(scanned(folder)).relabel([0], "red")
    scanned(folder)
    store.put("fruit/blue/b00.jpg", jpeg("green", seed=7))
    monkeypatch.setenv("IMGCLF_DATA", str(tmp_path / "other"))
    assert labels(dataset.images_folder("fruit", URL))["blue/b00.jpg"] == "blue"


def test_store_that_cannot_be_written_keeps_the_labels_here_and_the_notes_say_so(store, folder, monkeypatch):
    def refuse(url, key, content):
        raise stores.StoreError(f"{url}/{key}: no access")

    notes = Annotations(scanned(folder))
    notes.relabel([0], "red")
    monkeypatch.setattr(stores, "write", refuse)
    found = scanned(folder)
    assert {image.label for image in found.images if image.path.endswith("b00.jpg")} == {"red"}
    assert (
        f"CAREFUL: the labels of 1 images are on this machine only, since {URL}/{remote.MANIFEST}"
        in found.notes()
    )


def test_list_of_dedicated_test_images_is_used(store, folder):
    store.put("fruit/dedicatedTestImages.tsv", b"red\tr00.jpg\nblue\tb00.jpg\ngreen\tg00.jpg\n")
    parts = split.split(scanned(folder))
    assert {image.path for image in parts.test} == {"red/r00.jpg", "blue/b00.jpg", "green/g00.jpg"}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://nowhere/fruit", "s3://nowhere/fruit: no such bucket or folder"),
        ("s3://bucket/vegetables", "s3://bucket/vegetables: no such bucket or folder"),
    ],
)
def test_url_with_nothing_at_it_is_named(store, data_dir, url, message):
    with pytest.raises(ImgclfError, match=message):
        scan.scan_folder("fruit", dataset.images_folder("fruit", url))


def test_without_credentials_the_error_says_what_to_set_up(store, folder, new_client, monkeypatch):
    for name in s3.CREDENTIALS:
        monkeypatch.delenv(name)
    with pytest.raises(ImgclfError, match=f"{URL}: no access; set up the credentials"):
        scan.scan_folder("fruit", folder)


def test_offline_the_run_stops_and_keeps_what_it_knows(store, folder, new_client, monkeypatch):
    first = scanned(folder)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    stores._opened_by.cache_clear()
    with pytest.raises(ImgclfError, match=f"{URL}: cannot be reached"):
        scan.scan_folder("fruit", folder)
    assert dataset.read("fruit", URL) == first


def test_throttled_scan_stops_and_goes_on_later(store, folder, new_client):
    remote.follow(folder)
    store.failure = "503 Slow Down"
    with pytest.raises(ImgclfError, match="limits the rate of requests; run again later"):
        scan.scan_folder("fruit", folder)
    store.failure = ""
    assert len(scanned(folder).images) == 36


def test_image_that_vanished_after_the_listing_is_left_out_with_the_reason(store, folder):
    remote.follow(folder)
    store.delete("fruit/red/r00.jpg")
    [gone] = scan.scan_folder("fruit", folder).excluded
    assert (gone.path, gone.excluded) == ("red/r00.jpg", "is not there any more; run 01_prepare_data again")


def test_empty_object_without_a_suffix_is_no_image_and_no_request(store, folder):
    before = scanned(folder)
    store.put("fruit/_SUCCESS", b"")
    store.put("fruit/red/_SUCCESS", b"")
    store.requests.clear()
    found = scanned(folder)
    assert found.files == before.files
    assert found.other_files == ("red/_SUCCESS",)
    assert store.requests == ["GET /bucket"]


def test_missing_package_is_named(data_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ImgclfError, match="^gs://bucket/fruit: .* is not installed; pip install gcsfs$"):
        scan.scan_folder("fruit", dataset.images_folder("fruit", "gs://bucket/fruit"))


@pytest.mark.parametrize("url", ["s3://key:secret@bucket/fruit", "abfs://c@a.net/fruit?sig=secret"])
def test_url_with_a_secret_is_refused_and_not_repeated(data_dir, url):
    with pytest.raises(ImgclfError, match="holds a user name, a password or a query; leave it out") as caught:
        dataset.images_folder("fruit", url)
    assert "secret" not in str(caught.value)


def test_key_that_is_no_path_is_refused(store, folder):
    store.put("fruit/red//x.jpg", b"x")
    with pytest.raises(
        ImgclfError, match="cannot be the path of a file beside the others; rename the object"
    ):
        scan.scan_folder("fruit", folder)


def test_key_that_leads_out_of_the_folder_is_left_out(data_dir, tmp_path):
    fsspec.filesystem("memory").pipe({"/fruit/red/../../../x.jpg": b"x"})
    with pytest.raises(ImgclfError, match="^memory://fruit: no label folders in it"):
        scan.scan_folder("fruit", dataset.images_folder("fruit", "memory://fruit"))
    assert not list(tmp_path.rglob("x.jpg"))


def test_pointer_in_a_folder_of_somebody_else_is_not_followed(store, folder, tmp_path):
    remote.follow(folder)
    mine = next(folder.glob("red/*.jpg"))
    theirs = tmp_path / "sent" / "red" / "00.jpg"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(mine.read_bytes())
    with pytest.raises(ImgclfError, match="stands for an image at a URL, in another data folder"):
        pointers.read_bytes(theirs)


@pytest.mark.parametrize(
    "row", ["red/r00.jpg\t../up\t\t" + "0" * 64, "red/r00.jpg\tblue\tmaybe\t" + "0" * 64, "red", "a\nb"]
)
def test_damaged_manifest_is_named(store, folder, row):
    store.put(MANIFEST, f"path\tlabel\texcluded\tsha256\tversion\n{row}\tv\n".encode())
    with pytest.raises(ImgclfError, match=f"{URL}/imgclf_labels.tsv: .*damaged.*; correct or delete it"):
        scan.scan_folder("fruit", folder)
