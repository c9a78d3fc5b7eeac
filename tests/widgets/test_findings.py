"""The findings open in the annotator, and say how many of their images are left to review."""

import warnings
from pathlib import Path

import pytest

from imgclf.annotation.annotations import Annotations
from imgclf.annotation.findings import Finding

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of the widgets' own definitions
    from imgclf.widgets.findings import FindingsBrowser

PAIRS = Finding("near-duplicates", "two pictures <twice>", ("red/r03.jpg", "red/r01.jpg"))
DARK = Finding("too dark", "three dark images", ("blue/b05.jpg", "green/g00.jpg", "blue/b01.jpg"))


@pytest.fixture
def folder(distinct_folder: Path) -> Path:
    return distinct_folder


@pytest.fixture
def browser(annotations: Annotations) -> FindingsBrowser:
    return FindingsBrowser([DARK, PAIRS], annotations)


def rows(browser: FindingsBrowser) -> list[list[str]]:
    return [row["texts"] for row in browser.table.rows]


def shown(browser: FindingsBrowser) -> list[str]:
    return [tile["name"] for tile in browser.annotator.sheet.tiles]


def test_the_first_finding_is_open_and_a_choice_opens_another(browser):
    assert rows(browser) == [
        ["too dark", "three dark images", "3", "3"],
        ["near-duplicates", "two pictures <twice>", "2", "2"],
    ]
    assert browser.table.selected == ["0"] and shown(browser) == ["b05.jpg", "g00.jpg", "b01.jpg"]
    browser.table.selected = ["1"]
    assert shown(browser) == ["r03.jpg", "r01.jpg"]
    assert browser.annotator.filter.value == "finding"


def test_answers_in_the_annotator_are_counted(browser):
    for key in (" ", "x"):
        browser.annotator.keyboard._handle_custom_msg({"key": key, "shift": False, "ctrl": False}, [])
    assert rows(browser)[0][3] == "1" and shown(browser) == ["b05.jpg", "g00.jpg", "b01.jpg"]


def test_findings_are_sorted_by_a_click_on_a_head(browser):
    browser.table.sort = "images"
    assert [row["id"] for row in browser.table.rows] == ["1", "0"]
    browser.table.descending = True
    assert [row["id"] for row in browser.table.rows] == ["0", "1"]


def test_images_that_were_moved_since_the_scan_are_found(annotations):
    position = [image.path for image in annotations.images].index("red/r03.jpg")
    annotations.relabel([position], "blue")
    browser = FindingsBrowser([PAIRS], annotations)
    assert shown(browser) == ["r03.jpg", "r01.jpg"]
    assert browser.annotator.sheet.tiles[0]["label"] == "blue"


def test_without_findings_the_annotator_has_all_images(annotations):
    browser = FindingsBrowser([], annotations)
    assert rows(browser) == [] and browser.table.empty == "no findings"
    assert browser.annotator.filter.value == "all images"


def test_the_text_representation_is_the_same_in_every_run(browser):
    assert repr(browser) == "[browser of 2 findings: run this cell to use it]"
