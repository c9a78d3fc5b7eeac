"""The browser of the run history, at the end of notebook 07, in a real browser: sort, choose, compare, load, by clicks and keys."""

from dataclasses import replace

import numpy as np
import pytest

from imgclf import files
from imgclf.evaluation import report
from imgclf.experiments.history import runs
from support.runs import recorded

MARKUP = "large <b>& slow</b>"


@pytest.fixture
def scored(data_dir):
    return report.read_scores(data_dir / "proc" / "colours" / files.SCORES)


@pytest.fixture
def other(scored):
    """The same images, of which the first two are predicted as another label."""
    order = np.tile(np.arange(len(scored.labels)), (len(scored.truth), 1))
    order[:2] = np.roll(order[:2], 1, axis=1)
    return replace(
        scored,
        scores=np.take_along_axis(scored.scores, order, axis=1),
        probabilities=np.take_along_axis(scored.probabilities, order, axis=1),
    )


@pytest.fixture
def browser_of_runs(lab, scored, other):
    """Run notebook 07 without a sweep on a history with two more runs, and return the browser of the runs."""
    recorded(scored, name="small", input_size=64)
    recorded(other, name=MARKUP, input_size=96)
    lab.open("07_compare_runs", grid="")
    lab.viewport(1280, 900)
    lab.hide_sidebar()
    lab.run_all()
    found = lab.page.locator(".imgclf-panel").first  # the review widget is another one, inside it
    found.scroll_into_view_if_needed()
    yield found
    assert (lab.errors(), lab.stderr(), lab.javascript_errors) == ([], "", [])


def names(table) -> list[str]:
    """The second cell of each row: the names of the runs."""
    return [row.locator("td").nth(1).inner_text() for row in table.locator("tbody tr").all()]


def row(table, name: str):
    return table.locator("tbody tr").filter(has_text=name)


def test_runs_are_sorted_chosen_by_keys_and_shown_side_by_side(lab, browser_of_runs, other, scored):
    table, page = browser_of_runs.locator(".imgclf-table"), lab.page
    table.get_by_role("button", name="name").click()
    lab.expect(table.locator("th[aria-sort=ascending]")).to_have_text("name")
    lab.expect(table.locator("tbody tr td:nth-child(2)").last).to_have_text("small")
    assert names(table) == sorted(names(table), key=str.casefold) and MARKUP in names(table)

    row(table, MARKUP).locator("input").focus()
    page.keyboard.press("Space")
    lab.expect(browser_of_runs).to_contain_text("by hand")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    lab.expect(browser_of_runs).to_contain_text("run 1: small")
    lab.expect(browser_of_runs).to_contain_text(f"run 2: {MARKUP}")
    lab.expect(row(table, "small").locator("input")).to_be_focused()
    lab.expect(browser_of_runs.locator(".imgclf-frame").first.locator("td")).to_have_text(["64", "96"])
    lab.expect(browser_of_runs).to_contain_text("Is run 2 better than run 1?")
    disagree = int((scored.predicted != other.predicted).sum())
    lab.expect(browser_of_runs).to_contain_text(f"Images on which they disagree: {disagree}")
    lab.expect(browser_of_runs.locator("figure img")).to_have_count(disagree)
    assert page.evaluate("document.querySelector('.imgclf-figures img').naturalWidth") > 0
    browser_of_runs.get_by_label("Label", exact=True).select_option("red")
    lab.expect(browser_of_runs.locator(".bqplot").first).to_contain_text("red")
    lab.expect(
        browser_of_runs.locator(".bqplot").filter(has_text="run 2: area").locator("path.line")
    ).to_have_count(4)


def test_a_point_chooses_its_run_which_is_loaded_with_its_review_widget(
    lab, browser_of_runs, data_dir, scored
):
    table = browser_of_runs.locator(".imgclf-table")
    browser_of_runs.get_by_label("Parameter", exact=True).select_option("input_size")
    point = browser_of_runs.locator(".object_grp path.element").last
    point.scroll_into_view_if_needed()
    point.click()
    lab.expect(table.locator("tbody tr.imgclf-chosen")).to_have_count(1)

    table.get_by_label("choose all").check()
    table.get_by_label("choose all").uncheck()
    lab.expect(table.locator("tbody tr.imgclf-chosen")).to_have_count(0)
    row(table, "small").locator("td").nth(1).click()
    # The kernel may still show the details of the run before.
    lab.expect(browser_of_runs.get_by_label("Name", exact=True)).to_have_value("small")
    browser_of_runs.get_by_role("button", name="Load").click()
    review = browser_of_runs.locator(".imgclf-panel")
    lab.expect(review).to_contain_text(f"1 of {len(scored.truth)}")
    lab.expect(browser_of_runs).to_contain_text("Not done: ")  # this run was recorded without a classifier

    review.locator(".imgclf-details").click()
    lab.page.keyboard.press("End")  # keys work in the widget that was clicked
    lab.expect(review).to_contain_text(f"{len(scored.truth)} of {len(scored.truth)}")
    assert len(runs.all_runs("colours")) == len(names(table))
