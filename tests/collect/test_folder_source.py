import os

import pytest

from imgclf import ImgclfError
from imgclf.collect import fetch, folder_source
from imgclf.collect.manifest import Entry
from support.pictures import write_colours


@pytest.fixture
def photos(tmp_path):
    return write_colours(tmp_path / "photos")


def some(photos):
    """The path of an image below the folder, and its content."""
    path = min(photos.rglob("*.jpg"))
    return path.relative_to(photos).as_posix(), path.read_bytes()


def test_a_file_is_read_below_the_folder_by_its_percent_encoded_path(photos):
    (photos / "50% #1").mkdir()
    (photos / "50% #1" / "ä ?.jpg").write_bytes(b"image")
    assert folder_source.read("folder:50%25%20%231/%C3%A4%20%3F.jpg", photos) == b"image"


@pytest.mark.parametrize(
    "path", ["../secret.jpg", "%2e%2e/secret.jpg", "/etc/hostname", "a/../../secret.jpg", "", "a//b"]
)
def test_no_path_leads_out_of_the_folder(photos, path):
    (photos.parent / "secret.jpg").write_bytes(b"secret")
    with pytest.raises(ImgclfError, match="does not stay below"):
        folder_source.read(f"folder:{path}", photos)


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_out_of_the_folder_is_refused(photos):
    (photos.parent / "secret.jpg").write_bytes(b"secret")
    (photos / "link.jpg").symlink_to(photos.parent / "secret.jpg")
    (photos / "up").symlink_to(photos.parent)
    for path in ("link.jpg", "up/secret.jpg"):
        with pytest.raises(ImgclfError, match="is a link out of"):
            folder_source.read(f"folder:{path}", photos)


def test_images_of_a_folder_are_fetched_without_a_server(photos, data_dir):
    path, content = some(photos)
    folder = data_dir / "images" / "fruit"
    result = fetch.fetch_images([Entry("apple", f"folder:{path}")], folder, search_folder=photos)
    assert (result.fetched, result.failures) == (1, ())
    assert [each.read_bytes() for each in (folder / "apple").iterdir()] == [content]


def test_a_manifest_reads_no_file_unless_a_folder_is_named_and_may_be_fetched_later(photos, data_dir):
    path, _ = some(photos)
    entries = [Entry("apple", f"folder:{path}"), Entry("apple", "folder:missing.jpg")]
    folder = data_dir / "images" / "fruit"
    result = fetch.fetch_images(entries, folder)
    assert [failure.reason for failure in result.failures] == [
        "a file of a folder that a search found; run 08_own_images again"
    ] * 2
    result = fetch.fetch_images(entries, folder, search_folder=photos)
    assert result.fetched == 1
    assert "missing.jpg: No such file or directory" in result.failures[0].reason
