"""The images behind the numbers, walked through, filtered and relabelled by real clicks and keys."""

import json

import numpy as np
import pytest

from imgclf.evaluation import rejection, report

LABELS = ["blue", "green", "red"]


@pytest.fixture
def face(lab):
    """The browser of results in 05, ready, with its figures drawn."""
    lab.open("05_evaluate")
    lab.viewport(1280, 800)
    lab.run_all()
    found = lab.page.locator(".imgclf-panel").first
    lab.expect(found.locator(".heatmapcell")).to_have_count(9)
    found.scroll_into_view_if_needed()
    yield found
    assert (lab.errors(), lab.stderr(), lab.javascript_errors) == ([], "", [])


@pytest.fixture
def scored(face, data_dir):
    return report.read_scores(data_dir / "proc" / "colours" / "scores.npz")


def by_name(scored, is_shown) -> list[str]:
    return sorted(
        (path for path, is_one in zip(scored.paths, is_shown, strict=True) if is_one),
        key=lambda path: (path.partition("/")[2], path),
    )


def walk(lab, face, paths: list[str]) -> None:
    """Go through what is shown by keys, from the first to the last: it must be these images, and no others."""
    face.focus()
    lab.page.keyboard.press("Home")
    for number, path in enumerate(paths, start=1):
        lab.expect(face).to_contain_text(f"{number} of {len(paths)}")
        lab.expect(face.locator(".imgclf-facts b").first).to_have_text(path)
        lab.page.keyboard.press("ArrowRight")


def choose(face, field: str, value: str) -> None:
    face.get_by_label(field, exact=True).select_option(value)


def test_filters_cells_and_the_slider_show_exactly_what_they_say(lab, face, scored):
    wrong = by_name(scored, ~scored.correct)
    choose(face, "show", "wrong")
    walk(lab, face, wrong)
    choose(face, "show", "all images")
    choose(face, "label", "red")
    walk(lab, face, by_name(scored, scored.truth == 2))

    true, predicted = np.argwhere(scored.confusion - np.diag(scored.confusion.diagonal()))[0]
    face.locator(".heatmapcell").nth(3 * true + predicted).click(position={"x": 4, "y": 4})
    lab.expect(face.get_by_label("predicted", exact=True)).to_have_value(LABELS[predicted])
    walk(lab, face, by_name(scored, (scored.truth == true) & (scored.predicted == predicted)))

    diagonal = scored.confusion[0, 0]
    number = face.locator("text.label").get_by_text(str(diagonal), exact=True).first.bounding_box()
    lab.page.mouse.click(
        number["x"] + number["width"] / 2, number["y"] + number["height"] / 2
    )  # the number, and so the cell below it
    walk(lab, face, by_name(scored, (scored.truth == 0) & scored.correct))
    lab.page.keyboard.press("a")
    slider = face.get_by_role("slider").first
    lab.expect(slider).to_have_attribute("aria-valuemax", f"{len(scored.truth)}.0")
    slider.press("End")
    lab.expect(face).to_contain_text(f"{len(scored.truth)} of {len(scored.truth)}")
    face.get_by_role("button", name="◀").click()
    lab.expect(face).to_contain_text(f"{len(scored.truth) - 1} of {len(scored.truth)}")


def test_the_threshold_tells_what_it_leaves_and_moves_the_points(lab, face, scored):
    face.get_by_role("button", name="threshold and ROC").click()
    point = face.locator(".object_grp path.element").first
    before = point.bounding_box()
    lab.expect(face).to_contain_text(str(rejection.at(scored, 0)))
    threshold = face.locator(".widget-slider").filter(has_text="threshold")
    lab.expect(threshold).to_be_visible()
    threshold.get_by_role("slider").focus()
    for _ in range(60):
        lab.page.keyboard.press("ArrowRight")
    lab.expect(face).to_contain_text(str(rejection.at(scored, 0.6)))
    lab.page.wait_for_function(
        "([element, before]) => element.getBoundingClientRect().x < before - 20",
        arg=[point.element_handle(), before["x"]],
    )


def test_labels_are_corrected_on_disk_taken_back_and_seen_by_the_annotator_below(lab, face, scored, data_dir):
    folder, status = data_dir / "images" / "colours", face.locator(".imgclf-status")
    choose(face, "show", "wrong")
    first, second = by_name(scored, ~scored.correct)[:2]
    face.focus()
    lab.page.keyboard.press("3" if first[0] != "r" else "1")
    to = "red" if first[0] != "r" else "blue"
    lab.expect(status).to_have_text(f"{to}/{first.partition('/')[2]}: now '{to}'")
    face.get_by_role("button", name="green").click()
    lab.expect(status).to_contain_text(": ")
    lab.expect(status).to_contain_text(second.partition("/")[2])
    face.get_by_role("button", name="undo (Z)").click()
    lab.expect(status).to_contain_text("took back")
    lab.expect(face).to_contain_text("Run 01_prepare_data")
    assert (
        (folder / to / first.partition("/")[2]).exists()
        and (folder / second).exists()
        and not (folder / first).exists()
    )
    lines = [json.loads(line) for line in (folder / "annotations.jsonl").read_text().splitlines()]
    assert [(line["path"], line.get("to", "")) for line in lines][:1] == [
        (first, f"{to}/{first.partition('/')[2]}")
    ] and len(lines) == 3

    annotator = lab.page.locator(".imgclf-panel").last
    lab.expect(annotator.get_by_label("show", exact=True)).to_have_value("suspected label errors")
    annotator.scroll_into_view_if_needed()
    annotator.locator(".imgclf-tile").first.click()
    lab.page.keyboard.press("1")
    lab.expect(annotator.locator(".imgclf-status")).to_contain_text("'blue'")
