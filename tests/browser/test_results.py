"""The results browser of notebook 05 in a real browser: navigation, filters and relabelling by clicks and keys."""

import json

import numpy as np
import pytest

from imgclf.evaluation import rejection, report

LABELS = ["blue", "green", "red"]


@pytest.fixture
def results(lab):
    """Run notebook 05, and return its results browser with all charts drawn."""
    lab.open("05_evaluate")
    lab.viewport(1280, 800)
    lab.run_all()
    found = lab.page.locator(".imgclf-panel").first
    lab.expect(found.locator(".heatmapcell")).to_have_count(9)
    found.scroll_into_view_if_needed()
    yield found
    assert (lab.errors(), lab.stderr(), lab.javascript_errors) == ([], "", [])


@pytest.fixture
def scored(results, data_dir):
    return report.read_scores(data_dir / "proc" / "colours" / "scores.npz")


def by_name(scored, is_shown) -> list[str]:
    return sorted(
        (path for path, is_one in zip(scored.paths, is_shown, strict=True) if is_one),
        key=lambda path: (path.partition("/")[2], path),
    )


def check_images(lab, results, paths: list[str]) -> None:
    """Go through the images by keys, from the first to the last. They must be these images and no others."""
    results.focus()
    lab.page.keyboard.press("Home")
    for number, path in enumerate(paths, start=1):
        lab.expect(results).to_contain_text(f"{number} of {len(paths)}")
        lab.expect(results.locator(".imgclf-details b").first).to_have_text(path)
        lab.page.keyboard.press("ArrowRight")


def choose(results, field: str, value: str) -> None:
    results.get_by_label(field, exact=True).select_option(value)


def test_filters_cells_and_the_slider_show_exactly_their_images(lab, results, scored):
    wrong = by_name(scored, ~scored.correct)
    choose(results, "Filter", "wrong")
    check_images(lab, results, wrong)
    choose(results, "Filter", "all images")
    choose(results, "True label", "red")
    check_images(lab, results, by_name(scored, scored.truth == 2))

    true, predicted = np.argwhere(scored.confusion - np.diag(scored.confusion.diagonal()))[0]
    results.locator(".heatmapcell").nth(3 * true + predicted).click(position={"x": 4, "y": 4})
    lab.expect(results.get_by_label("Predicted label", exact=True)).to_have_value(LABELS[predicted])
    check_images(lab, results, by_name(scored, (scored.truth == true) & (scored.predicted == predicted)))

    diagonal = scored.confusion[0, 0]
    number = results.locator("text.label").get_by_text(str(diagonal), exact=True).first.bounding_box()
    lab.page.mouse.click(
        number["x"] + number["width"] / 2, number["y"] + number["height"] / 2
    )  # on the number, which passes the click to the cell
    check_images(lab, results, by_name(scored, (scored.truth == 0) & scored.correct))
    lab.page.keyboard.press("a")
    slider = results.get_by_role("slider").first
    lab.expect(slider).to_have_attribute("aria-valuemax", f"{len(scored.truth)}.0")
    slider.press("End")
    lab.expect(results).to_contain_text(f"{len(scored.truth)} of {len(scored.truth)}")
    results.get_by_role("button", name="◀").click()
    lab.expect(results).to_contain_text(f"{len(scored.truth) - 1} of {len(scored.truth)}")


def test_the_threshold_shows_the_rejected_images_and_moves_the_points(lab, results, scored):
    results.get_by_role("button", name="threshold and ROC").click()
    point = results.locator(".object_grp path.element").first
    before = point.bounding_box()
    lab.expect(results).to_contain_text(str(rejection.at(scored, 0)))
    threshold = results.locator(".widget-slider").filter(has_text="Threshold")
    lab.expect(threshold).to_be_visible()
    threshold.get_by_role("slider").focus()
    for _ in range(60):
        lab.page.keyboard.press("ArrowRight")
    lab.expect(results).to_contain_text(str(rejection.at(scored, 0.6)))
    lab.page.wait_for_function(
        "([element, before]) => element.getBoundingClientRect().x < before - 20",
        arg=[point.element_handle(), before["x"]],
    )


def test_labels_are_corrected_on_disk_undone_and_shown_by_the_annotator_below(lab, results, scored, data_dir):
    folder, status = data_dir / "images" / "colours", results.locator(".imgclf-status")
    choose(results, "Filter", "wrong")
    first, second = by_name(scored, ~scored.correct)[:2]
    results.focus()
    lab.page.keyboard.press("3" if first[0] != "r" else "1")
    to = "red" if first[0] != "r" else "blue"
    lab.expect(status).to_have_text(f"{to}/{first.partition('/')[2]}: label set to '{to}'")
    results.get_by_role("button", name="green").click()
    lab.expect(status).to_contain_text(": ")
    lab.expect(status).to_contain_text(second.partition("/")[2])
    results.get_by_role("button", name="Undo (Z)").click()
    lab.expect(status).to_contain_text("undone")
    lab.expect(results).to_contain_text("Run 01_prepare_data")
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
    lab.expect(annotator.get_by_label("Filter", exact=True)).to_have_value("suspected label errors")
    annotator.scroll_into_view_if_needed()
    annotator.locator(".imgclf-tile").first.click()
    lab.page.keyboard.press("1")
    lab.expect(annotator.locator(".imgclf-status")).to_contain_text("'blue'")
