"""The annotator of notebook 01 in a real browser. The tests read the folder and the journal after clicks and keys."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from imgclf.annotation.annotations import Annotations
from imgclf.data import scan
from support.lab import DATASET, RUN_SECONDS, Lab


@pytest.fixture
def folder(data_dir: Path) -> Path:
    return data_dir / "images" / DATASET


@pytest.fixture
def annotator(lab: Lab, folder: Path) -> Lab:
    """Run notebook 01 and click on the first image of the annotator."""
    lab.open("01_prepare_data")
    lab.run_all()
    tile(lab, 0).click()
    lab.expect(".imgclf-details").to_contain_text("blue/blue_00.jpg")
    return lab


def tile(lab: Lab, number: int):
    return lab.page.locator(".imgclf-tile").nth(number)


def press(lab: Lab, key: str, *, status: str) -> None:
    """Press a key, and wait for the text of the status line."""
    lab.page.keyboard.press(key)
    expect_status(lab, status)


def expect_status(lab: Lab, text: str) -> None:
    lab.expect(".imgclf-status").to_have_text(text)


def choose(lab: Lab, field: str, option: str) -> None:
    lab.page.locator(".imgclf-panel").get_by_label(field, exact=True).select_option(option)


def journal(folder: Path) -> list[tuple[str, ...]]:
    """Return action and paths of each line."""
    lines = [json.loads(line) for line in (folder / "annotations.jsonl").read_text().splitlines()]
    return [(line["action"], line["path"], *filter(None, [line.get("to")])) for line in lines]


def moved(folder: Path, data: Path) -> dict[str, str]:
    """Return old and new path of each moved file. All contents must still exist, once each."""
    before, after = (
        {path.read_bytes(): path.relative_to(top).as_posix() for path in top.rglob("*.jpg")}
        for top in (data / "images" / DATASET, folder)
    )
    assert before.keys() == after.keys() and len(list(folder.rglob("*.jpg"))) == len(after)
    return {before[content]: after[content] for content in before if before[content] != after[content]}


def test_keys_relabel_exclude_confirm_and_undo_without_changing_the_notebook(annotator, folder, data):
    cells = annotator.page.locator(".jp-Cell").count()
    press(annotator, "2", status="green/blue_00.jpg: label set to 'green'")
    press(annotator, "x", status="blue/blue_01.jpg: excluded")
    press(annotator, "Space", status="blue/blue_02.jpg: confirmed")
    press(annotator, "u", status="unlabelled/blue_03.jpg: label set to 'unlabelled'")
    for key in ("d", "d", "b", "m"):
        annotator.page.keyboard.press(key)
    press(annotator, "z", status="undone: blue/blue_03.jpg is 'blue' again")
    press(annotator, "9", status="Not done: no label has the key 9: there are 3 labels; the keys are 1 to 3")
    annotator.expect(".imgclf-panel").to_contain_text("3 of 48 reviewed")
    assert annotator.page.locator(".jp-Cell").count() == cells
    assert moved(folder, data) == {"blue/blue_00.jpg": "green/blue_00.jpg"}
    assert journal(folder) == [
        ("relabel", "blue/blue_00.jpg", "green/blue_00.jpg"),
        ("exclude", "blue/blue_01.jpg"),
        ("confirm", "blue/blue_02.jpg"),
        ("relabel", "blue/blue_03.jpg", "unlabelled/blue_03.jpg"),
        ("relabel", "unlabelled/blue_03.jpg", "blue/blue_03.jpg"),
    ]
    assert not (folder / "unlabelled").exists() and annotator.javascript_errors == []


def test_a_page_without_two_images_is_relabelled_at_once(annotator, folder, data):
    on_page = [annotator.page.locator(".imgclf-tile img").nth(i).get_attribute("alt") for i in range(15)]
    annotator.page.keyboard.press("a")
    annotator.expect('.imgclf-tile[aria-selected="true"]').to_have_count(15)
    tile(annotator, 3).click(modifiers=["Control"])
    tile(annotator, 9).click(modifiers=["Control"])
    annotator.expect('.imgclf-tile[aria-selected="true"]').to_have_count(13)
    press(annotator, "2", status="13 images: label set to 'green'")
    assert (
        len(on_page) == 15
        and len(moved(folder, data)) == 13
        and len({line[1] for line in journal(folder)}) == 13
    )
    press(annotator, "z", status="undone: blue/blue_14.jpg is 'blue' again and 12 more")
    assert moved(folder, data) == {}


def test_a_new_label_goes_to_the_image_and_appears_in_lists_buttons_and_filters(annotator, folder, data):
    box = annotator.page.get_by_placeholder("New label")
    box.fill("1")
    tile(annotator, 3).click()  # leaving the field creates nothing
    tile(annotator, 0).click()
    annotator.expect(".imgclf-details").to_contain_text("blue/blue_00.jpg")
    box.press("Escape")
    annotator.expect(box).to_have_value("")
    annotator.expect(".imgclf-panel").to_be_focused()
    box.fill("odd")
    press(annotator, "Enter", status="added label 'odd'; odd/blue_00.jpg: label set to 'odd'")
    annotator.expect(box).to_have_value("")
    annotator.expect(".imgclf-panel").to_be_focused()
    annotator.expect(".imgclf-details").to_contain_text("blue/blue_01.jpg")
    annotator.expect(annotator.page.get_by_role("button", name="4 odd · 1")).to_be_visible()
    tile(annotator, 5).locator("select").select_option("odd")
    expect_status(annotator, "odd/blue_05.jpg: label set to 'odd'")
    annotator.expect(annotator.page.get_by_role("button", name="odd · 2")).to_be_visible()
    choose(annotator, "Filter", "label: odd")
    annotator.expect(".imgclf-tile:visible").to_have_count(2)
    press(annotator, "x", status="odd/blue_00.jpg: excluded")
    choose(annotator, "Filter", "excluded")
    annotator.expect(".imgclf-tile:visible").to_have_count(1)
    annotator.expect(tile(annotator, 0)).to_contain_text("excluded")
    box.fill("a/b")
    annotator.page.keyboard.press("Enter")
    annotator.expect(".imgclf-status").to_contain_text("has a slash")
    annotator.expect(box).to_have_value("a/b")
    annotator.expect(box).to_be_focused()
    assert moved(folder, data) == {
        "blue/blue_00.jpg": "odd/blue_00.jpg",
        "blue/blue_05.jpg": "odd/blue_05.jpg",
    }
    assert journal(folder) == [
        ("add label", "odd"),
        ("relabel", "blue/blue_00.jpg", "odd/blue_00.jpg"),
        ("relabel", "blue/blue_05.jpg", "odd/blue_05.jpg"),
        ("exclude", "odd/blue_00.jpg"),
    ]


def test_pages_sort_orders_and_grids(annotator):
    annotator.page.keyboard.press("PageDown")
    annotator.expect(".imgclf-details").to_contain_text("blue_15.jpg")
    annotator.expect(tile(annotator, 14).locator("img")).to_have_js_property("complete", True)
    choose(annotator, "Grid", "5 x 9")
    annotator.expect(".imgclf-tile:visible").to_have_count(45)
    choose(annotator, "Sort by", "label quality")
    annotator.expect('.imgclf-tile.imgclf-cursor[aria-selected="false"]').to_have_count(1)
    annotator.expect(".imgclf-panel").to_contain_text("page 1 of 2")
    annotator.expect(tile(annotator, 0).locator("img")).to_be_visible()
    annotator.expect(".imgclf-details").to_contain_text("label quality")
    choose(annotator, "Grid", "2 x 2")
    annotator.expect(".imgclf-tile:visible").to_have_count(4)


def test_changes_of_another_window_and_moved_files_give_a_message(annotator, folder):
    other = Annotations(scan.scan_folder(DATASET, folder))
    other.relabel([[image.path for image in other.images].index("blue/blue_00.jpg")], "red")
    press(
        annotator,
        "2",
        status="Not done: red/blue_00.jpg: another window has just changed this image; check it and try again",
    )
    annotator.expect(".imgclf-details").to_contain_text("red/blue_00.jpg")
    press(annotator, "2", status="green/blue_00.jpg: label set to 'green'")
    (folder / "blue/blue_01.jpg").rename(folder / "elsewhere.jpg")
    press(
        annotator,
        "2",
        status="Not done: blue/blue_01.jpg: no longer exists; run 01_prepare_data again to see the present images",
    )
    annotator.page.keyboard.press("ArrowRight")
    shutil.copy(folder / "blue/blue_02.jpg", folder / "green/blue_02.jpg")
    press(
        annotator,
        "2",
        status="green/blue_02-2.jpg: label set to 'green'; under a new name, since a file had the old one",
    )
    assert (folder / "green/blue_02.jpg").exists() and annotator.errors() == []


def test_after_changes_the_cells_below_use_the_new_labels_and_print_the_changed_split(
    annotator, folder, data_dir
):
    for number in range(6):
        press(annotator, "3", status=f"red/blue_{number:02d}.jpg: label set to 'red'")
    annotator.expect(".imgclf-panel").to_contain_text("Run 01_prepare_data to 05_evaluate again")
    annotator.run_all()
    assert annotator.errors() == []
    text = "".join(output.get("text", "") for output in annotator.outputs())
    assert "images changed their set" in text or "no image changed its set" in text
    rows = (data_dir / "proc" / DATASET / "images.tsv").read_text().splitlines()[1:]
    assert Counter(row.split("\t")[1] for row in rows) == {"blue": 11, "green": 16, "red": 21}


FIT = """element => [element, ...element.querySelectorAll('*')]
    .filter(each => ['auto', 'scroll'].includes(getComputedStyle(each).overflowX) && each.scrollWidth > each.clientWidth)
    .map(each => each.className)"""
LABEL_FITS = "select => select.scrollWidth <= select.clientWidth"


def test_f_enlarges_the_image_and_nothing_is_cut_off_at_1400_pixels(annotator):
    annotator.viewport(1400, 900)
    panel = annotator.page.locator(".imgclf-panel")
    assert panel.evaluate(FIT) == []
    sheet = annotator.page.locator(".imgclf-sheet").bounding_box()
    annotator.page.keyboard.press("f")
    zoom = annotator.page.locator("img.imgclf-zoom")
    annotator.expect(zoom).to_be_visible()
    assert zoom.bounding_box() == pytest.approx(sheet, abs=5)
    press(annotator, "2", status="green/blue_00.jpg: label set to 'green'")
    annotator.page.keyboard.press("Escape")
    annotator.expect(zoom).to_be_hidden()
    choose(annotator, "Grid", "7 x 13")
    annotator.expect(".imgclf-tile:visible").to_have_count(48)
    assert all(tile(annotator, i).locator("select").evaluate(LABEL_FITS) for i in range(48))


def test_the_first_page_is_shown_while_the_cells_below_still_run(lab, server):
    path = server.notebooks / "01_prepare_data.ipynb"
    sleeping = path.read_text().replace(
        '"plots.samples(', '"__import__(\'time\').sleep(100)\\n",\n    "plots.samples('
    )
    assert sleeping != path.read_text()
    path.write_text(sleeping)
    lab.open("01_prepare_data")
    lab.page.evaluate("() => void jupyterapp.commands.execute('notebook:run-all-cells')")
    lab.page.wait_for_selector(".imgclf-tile", timeout=60_000)
    lab.expect(".imgclf-tile img:not(.imgclf-absent)").to_have_count(15)
    lab.expect(".imgclf-panel img.widget-image:visible").to_have_count(1)
    assert "application/vnd.jupyter.widget-view+json" in lab.outputs()[-1]["data"]  # no cell below has run


def test_train_again_compares_the_accuracy_before_and_after_a_key_press(annotator, data_dir):
    press(annotator, "2", status="green/blue_00.jpg: label set to 'green'")
    annotator.page.get_by_role("button", name="Train again").click()
    panel = annotator.page.locator(".imgclf-train-again")
    annotator.expect(panel.locator("pre")).to_contain_text("01_prepare_data   runs: ")
    annotator.expect(annotator.page.get_by_role("button", name="Train again")).to_be_disabled()
    tile(annotator, 3).click()  # the kernel is free
    annotator.expect(".imgclf-details").to_contain_text("blue/blue_03.jpg")
    panel.get_by_text("Did it help?").wait_for(timeout=1000 * RUN_SECONDS)
    annotator.expect(panel).to_contain_text("overall accuracy before: ")
    annotator.expect(annotator.page.get_by_role("button", name="Train again")).to_be_enabled()
    annotator.run_all()  # the cells of the notebook go on
    assert annotator.errors() == [] and annotator.javascript_errors == []
