"""Proposals, the map of features and the findings in a real browser, driven by keys, clicks and a lasso."""

import math
import shutil
from pathlib import Path

import pytest

from imgclf import files
from support.lab import DATASET, Lab
from support.pictures import COLOURS
from support.unlabelled import write_unlabelled

OPEN = """
import warnings
warnings.simplefilter("ignore")
from imgclf import files
from imgclf.annotation import findings, proposals
from imgclf.annotation.annotations import Annotations
from imgclf.data import scan
from imgclf.features import pretrained
dataset = scan.scan_folder("own", files.data_dir() / "images" / "own")
annotations, features = Annotations(dataset), pretrained.features_of(dataset)
"""
PROPOSER = """
from imgclf.widgets.proposer import Proposer
Proposer(proposals.Proposals(annotations, features))
"""
MAP = """
from imgclf.widgets.feature_map import FeatureMap
FeatureMap(annotations, features)
"""
FINDINGS = """
from imgclf.widgets.findings import FindingsBrowser
found = [findings.Finding("some kind", f"images of {name}", tuple(i.path for i in dataset.files if name in i.path)) for name in ("red", "blue")]
FindingsBrowser(found, annotations)
"""
KEYS = {name: str(number) for number, name in enumerate(sorted(COLOURS), start=1)}
TILE = ".imgclf-picks .imgclf-tile"
CUT = """panel => [...panel.querySelectorAll('.imgclf-proposal, .imgclf-details, .imgclf-status, button, .imgclf-keys span')]
    .filter(each => each.checkVisibility() && each.scrollWidth > each.clientWidth + 1 && each.clientWidth > 0)
    .map(each => each.textContent)"""


@pytest.fixture
def folder(data_dir: Path) -> Path:
    """40 images of three colours without a label, and the network for their features."""
    folder = write_unlabelled(data_dir / "images" / "own", each=14)
    for name in ("red", "green"):
        (folder / f"unlabelled/{name}_13.jpg").unlink()
    (data_dir / "proc" / "own").mkdir()
    shutil.copy(data_dir / "proc" / DATASET / files.FIXED_NETWORK, data_dir / "proc" / "own")
    return folder


def opened(lab: Lab, cell: str) -> Lab:
    lab.open_cells("own", OPEN + cell)
    lab.hide_sidebar()
    lab.run_all()
    assert lab.errors() == []
    lab.page.locator(".imgclf-panel").first.wait_for()
    return lab


@pytest.fixture
def proposer(lab: Lab, folder: Path) -> Lab:
    opened(lab, PROPOSER).page.locator(".imgclf-panel").focus()
    return lab


def colour(path: str) -> str:
    return path.strip().rpartition("/")[2].partition("_")[0]


def current(lab: Lab) -> str:
    return lab.page.locator(".imgclf-details:visible").inner_text()


def press(lab: Lab, key: str) -> None:
    """Press a key, and wait until another image is shown."""
    before = current(lab)
    lab.page.keyboard.press(key)
    lab.expect(".imgclf-details:visible").not_to_have_text(before)


def answer(lab: Lab) -> str:
    """Return the key that gives the image on the screen its label."""
    proposed = lab.page.locator(".imgclf-proposal").inner_text().partition("?")[0]
    own = colour(current(lab))
    return "Space" if proposed == own else KEYS[own]


def labels(folder: Path) -> list[tuple[str, str]]:
    """Label and colour of each image."""
    return [(path.parent.name, colour(path.name)) for path in folder.rglob("*.jpg")]


def test_40_images_are_labelled_with_one_key_each(proposer, folder):
    accepted = 0
    for _ in range(40):
        key = answer(proposer)
        accepted += key == "Space"
        press(proposer, key)
    assert current(proposer) == "All images have a label."
    assert len(labels(folder)) == 40 and all(label == own for label, own in labels(folder))
    assert accepted >= 10
    proposer.expect(".imgclf-panel").to_contain_text("40 labels given, 0 images left")
    assert proposer.errors() == [] and proposer.javascript_errors == []


def test_with_pages_fewer_keys_than_images_are_enough(proposer, folder):
    presses = 12
    for _ in range(presses):
        press(proposer, answer(proposer))
    proposer.page.keyboard.press("p")
    presses += 1
    tiles = proposer.page.locator(f"{TILE}:visible")
    while sum(label == "unlabelled" for label, _ in labels(folder)):
        proposer.expect(tiles.first).to_be_visible()
        names = [tile.locator("img").get_attribute("alt").split(", ") for tile in tiles.all()]
        wrong = [k for k, (name, label) in enumerate(names) if colour(name) != label]
        for k in wrong:
            tiles.nth(k).click()
            presses += 1
        if len(wrong) == len(names):
            break
        proposer.page.keyboard.press("Enter")
        presses += 1
        done = len(names) - len(wrong)
        proposer.expect(".imgclf-status").to_contain_text(f"{done} image" if done > 1 else "label set to")
        proposer.expect(proposer.page.locator(f'img[alt^="{names[0][0]},"]:visible')).to_have_count(0)
    given = [(label, own) for label, own in labels(folder) if label != "unlabelled"]
    assert len(given) > 30 and all(label == own for label, own in given) and presses < 40
    assert proposer.errors() == [] and proposer.javascript_errors == []


def test_keys_of_the_notebook_do_nothing_and_clicks_answer_too(proposer, folder):
    cells = proposer.page.locator(".jp-Cell").count()
    for key in ("d", "d", "b", "a"):
        proposer.page.keyboard.press(key)
    first = current(proposer)
    proposer.page.get_by_role("button", name="2 green").click()
    proposer.expect(".imgclf-details:visible").not_to_have_text(first)
    assert (folder / "green" / first.rpartition("/")[2]).exists()
    proposer.page.get_by_role("button", name="Undo").click()
    proposer.expect(".imgclf-details:visible").to_have_text(first)
    proposer.page.get_by_placeholder("New label").fill("amber")
    proposer.page.keyboard.press("Enter")
    proposer.expect(".imgclf-details:visible").not_to_have_text(first)
    assert (folder / "amber" / first.rpartition("/")[2]).exists()
    proposer.expect(".imgclf-panel").to_be_focused()
    assert proposer.page.locator(".jp-Cell").count() == cells


@pytest.mark.parametrize("width", [900, 1600])
def test_no_text_is_cut_off(proposer, width):
    proposer.viewport(width, 900)
    for _ in range(3):
        press(proposer, answer(proposer))
    panel = proposer.page.locator(".imgclf-panel")
    for key in ("o", "p", "m"):
        proposer.page.keyboard.press(key)
        proposer.expect(".imgclf-panel .mod-active").to_contain_text(f"({key.upper()})")
        assert panel.evaluate(CUT) == []


def test_a_lasso_labels_a_cloud(lab, folder):
    opened(lab, MAP)
    lab.expect(".bqplot path.element").to_have_count(40)
    points = lab.page.locator(".bqplot path.element")
    boxes = [points.nth(k).bounding_box() for k in range(40)]
    x, y = ([box[side] for box in boxes] for side in ("x", "y"))
    (left, right), (top, bottom) = (min(x), max(x)), (min(y), max(y))
    corners = [  # of an ellipse around most of the points
        (
            (left + right) / 2 + 0.48 * (right - left) * math.cos(turn),
            (top + bottom) / 2 + 0.48 * (bottom - top) * math.sin(turn),
        )
        for turn in (2 * math.pi * k / 24 for k in range(25))
    ]
    mouse = lab.page.mouse
    mouse.move(*corners[0])
    mouse.down()
    for corner in corners:
        mouse.move(*corner)
    mouse.up()
    lab.expect(".imgclf-panel").to_contain_text("images chosen")
    chosen = int(lab.page.get_by_text("images chosen").inner_text().rpartition("; ")[2].split()[0])
    assert chosen > 5
    lab.page.locator(TILE).first.click()
    lab.expect(".imgclf-panel").to_contain_text(f"{chosen - 1} of {chosen} images chosen")
    lab.page.keyboard.press("2")
    lab.expect(".imgclf-status").to_have_text(f"{chosen - 1} images: label set to 'green'")
    assert len(list((folder / "green").iterdir())) == chosen - 1
    lab.expect(TILE).to_have_count(0)
    assert lab.errors() == [] and lab.javascript_errors == []


def test_a_click_on_a_finding_opens_its_images(lab, folder):
    opened(lab, FINDINGS)
    table = lab.page.locator(".imgclf-findings")
    lab.expect(table.locator("tbody tr.imgclf-chosen")).to_contain_text("images of red")
    table.get_by_text("images of blue").click()
    lab.expect(table.locator("tbody tr.imgclf-chosen")).to_contain_text("images of blue")
    lab.expect(lab.page.locator(".imgclf-tile:visible").first).to_contain_text("blue_00.jpg")
    table.locator("input:checked").focus()
    lab.page.keyboard.press("ArrowUp")
    lab.expect(lab.page.locator(".imgclf-tile:visible").first).to_contain_text("red_00.jpg")
    lab.page.locator(".imgclf-tile:visible").first.click()
    lab.page.keyboard.press("3")
    lab.expect(table.locator("tbody tr.imgclf-chosen td").last).to_have_text("12")
    assert (folder / "red" / "red_00.jpg").exists()
    assert lab.errors() == [] and lab.javascript_errors == []
