import pytest

from imgclf import ImgclfError
from imgclf.annotation.annotations import Annotations
from imgclf.collect import attribution, manifest
from imgclf.collect.manifest import Entry
from imgclf.data import scan
from support.html_elements import Elements
from support.pictures import jpeg

NASTY = "<script>alert(1)</script> \"Ann\" & 'Bob'"
ENTRIES = (
    Entry(
        "apple",
        "https://a.org/1.jpg",
        licence="CC BY-SA 4.0",
        author=NASTY,
        title="<b>Red",
        page="https://a.org/1",
    ),
    Entry("apple", "https://a.org/2.jpg", licence="CC0 1.0", author="Ann", page="javascript:alert(1)"),
    Entry("pear", "https://a.org/missing.jpg", author="Nobody"),
    Entry("pear", "https://a.org/a%20'%22b.jpg"),
)


def page_of(path):
    """The names of the elements of a page, its links, and its text."""
    page = Elements(path.read_text(encoding="utf-8"))
    links = {value for _, each in page.elements for name, value in each.items() if name in ("href", "src")}
    return [tag for tag, _ in page.elements], links, page.text


@pytest.fixture
def folder(data_dir):
    manifest.write(manifest.own("fruit"), ENTRIES)
    folder = data_dir / "images" / "fruit"
    for number, path in enumerate(("apple/1.jpg", "apple/2.jpg", "pear/a '_b.jpg")):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(jpeg("red", number))
    return folder


def test_each_image_that_is_there_has_its_author_licence_title_and_source(folder):
    path = attribution.write("fruit")
    tags, links, text = page_of(path)
    assert path == folder / "attribution.html"
    assert tags.count("tr") == 1 + 3
    assert all(each in text for each in (NASTY, "<b>Red", "CC BY-SA 4.0: 1", "CC0 1.0: 1", "unknown: 1"))
    assert "Nobody" not in text
    assert {
        "https://a.org/1",
        "https://creativecommons.org/licenses/by-sa/4.0/",
        "https://creativecommons.org/publicdomain/zero/1.0/",
        "apple/1.jpg",
        "pear/a%20%27_b.jpg",
    } <= links


def test_markup_in_texts_is_shown_and_not_run(folder):
    tags, links, _ = page_of(attribution.write("fruit"))
    assert not {"script", "b"} & set(tags)
    assert not [link for link in links if "javascript" in link]


def test_the_page_is_no_image_and_no_label_of_the_data_set(folder):
    before = scan.scan_folder("fruit", folder)
    attribution.write("fruit")
    after = scan.scan_folder("fruit", folder)
    assert (str(after), after.images) == (str(before), before.images)


def test_a_relabelled_image_keeps_its_attribution_and_links_to_its_present_place(folder):
    annotations = Annotations(scan.scan_folder("fruit", folder))
    annotations.relabel([0], "pear")
    _, links, text = page_of(attribution.write("fruit"))
    assert NASTY in text
    assert "pear/1.jpg" in links
    assert "apple/1.jpg" not in links
    annotations.undo()
    _, links, _ = page_of(attribution.write("fruit"))
    assert "apple/1.jpg" in links
    assert "pear/1.jpg" not in links


def test_a_data_set_without_manifest_has_no_attribution():
    with pytest.raises(
        ImgclfError, match="dataset_name='fruit': has no manifest, .*; search for images first"
    ):
        attribution.write("fruit")
