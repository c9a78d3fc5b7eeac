import pytest

from imgclf import ImgclfError
from imgclf.collect import fetch, manifest, search
from imgclf.collect.queries import grid
from support.pictures import jpeg


@pytest.fixture
def photos(tmp_path):
    paths = (
        "dotted/blouses/1.jpg",
        "dotted/2.JPG",
        "striped/blouse_3.png",
        "striped/4.webp",
        "notes/dotted.txt",
        ".hidden/dotted blouse.jpg",
        "50% #1/dotted?.jpg",
    )
    for path in paths:
        (tmp_path / "photos" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / path).write_bytes(b"")
    return tmp_path / "photos"


def found(photos, query):
    return [image.title for image in search.service("folder", folder=str(photos)).ask(query, {}).found]


def test_images_with_most_words_of_the_query_in_their_path_come_first(photos):
    assert found(photos, "Dotted blouse") == ["1.jpg", "dotted?.jpg", "2.JPG", "blouse_3.png"]
    assert found(photos, "leopard") == []


def test_a_word_within_another_does_not_count(photos):
    assert found(photos, "louse") == found(photos, "ted") == []


def test_names_with_signs_that_mean_something_in_a_url_are_found_and_listed(photos):
    service = search.service("folder", folder=str(photos))
    result = search.run(service, grid("blouse", "dotted"), dataset_name="fruit", images_per_query=9)
    entries = manifest.read(search.write_manifest(result, "fruit"))
    assert "folder:50%25%20%231/dotted%3F.jpg" in [entry.source.partition("?")[0] for entry in entries]
    assert "dotted_.jpg" in [entry.file_name for entry in entries]


def test_equal_paths_below_two_folders_are_two_images(data_dir, tmp_path):
    for number in (1, 2):
        (tmp_path / f"{number}" / "cat").mkdir(parents=True)
        (tmp_path / f"{number}" / "cat" / "1.jpg").write_bytes(jpeg("red", number))
        service = search.service("folder", folder=str(tmp_path / f"{number}"))
        result = search.run(service, grid("cat"), dataset_name="pets", images_per_query=9)
        entries = manifest.read(search.write_manifest(result, "pets"))
        fetched = fetch.fetch_images(entries, data_dir / "images" / "pets", search_folder=service.folder)
        assert (fetched.fetched, fetched.failures) == (1, ())
    assert len(list((data_dir / "images" / "pets" / "cat").iterdir())) == 2


def test_no_image_gets_a_label_that_its_path_lacks(tmp_path):
    for name in ("dotted/garment_1.jpg", "plain/garment_2.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(jpeg("red", 1))
    service = search.service("folder", folder=str(tmp_path))
    result = search.run(service, grid("garment", "dotted, leopard"), dataset_name="x", images_per_query=9)
    assert [(hit.found.title, hit.labels) for hit in result.hits] == [("garment_1.jpg", ("dotted",))]


def test_new_images_are_found_by_the_next_run_and_nothing_is_kept(photos, data_dir):
    for number in range(2):
        service = search.service("folder", folder=str(photos))
        result = search.run(service, grid("striped"), dataset_name="fruit", images_per_query=9)
        assert (len(result.hits), result.requests) == (2 + number, 0)
        (photos / "striped" / "5.jpg").write_bytes(b"")
    assert not (data_dir / "proc").exists()


def test_the_default_is_the_demo_data_set_and_fetching_needs_no_network(data_dir):
    demo = data_dir / "images" / "fashion_texture"
    for number, label in enumerate(("dotted", "striped", "striped")):
        (demo / label).mkdir(parents=True, exist_ok=True)
        (demo / label / f"{label}_{number}.jpg").write_bytes(jpeg("red", number))
    service = search.service("folder")
    result = search.run(service, grid("blouse", "dotted, striped"), dataset_name="fruit", images_per_query=9)
    entries = manifest.read(search.write_manifest(result, "fruit"))
    folder = data_dir / "images" / "fruit"
    fetched = fetch.fetch_images(entries, folder, search_folder=service.folder)
    assert (fetched.fetched, fetched.failures) == (3, ())
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg")) == [
        "dotted/dotted_0.jpg",
        "striped/striped_1.jpg",
        "striped/striped_2.jpg",
    ]


def test_a_folder_that_does_not_exist_is_named_with_the_one_that_is_spelled_alike(photos):
    with pytest.raises(ImgclfError, match=r"there is no folder .*fotos \(did you mean photos\?\); name"):
        search.service("folder", folder=str(photos.parent / "fotos"))


def test_commercial_use_of_images_without_licences_is_refused(photos):
    with pytest.raises(
        ImgclfError, match="it knows no licences, so that commercial_use would leave no image"
    ):
        search.service("folder", folder=str(photos), commercial_use=True)
