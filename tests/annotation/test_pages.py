"""Images on pages, from which a person takes some out."""

import pytest

from imgclf.annotation.pages import Picks


@pytest.fixture
def picks() -> Picks:
    """Seven images on pages of four, of which none is taken out."""
    found = Picks(rows=2, columns=2)
    found.show([30, 31, 32, 33, 34, 35, 36])
    return found


def test_clicks_take_images_out_and_put_them_back(picks):
    picks.click(1)
    picks.click(3)
    assert picks.chosen == [30, 32, 34, 35, 36]
    picks.click(1)
    assert picks.chosen == [30, 31, 32, 34, 35, 36] and picks.current_position == 31


def test_an_image_on_another_page_stays_out(picks):
    picks.click(0)
    picks.navigate("PageDown")
    picks.click(1)
    assert (picks.page, picks.pages, picks.current_position) == (1, 2, 35)
    assert picks.chosen == [31, 32, 33, 34, 36]


def test_keys_move_the_cursor_whose_image_is_taken_out(picks):
    for key in ("ArrowDown", "ArrowRight"):
        picks.navigate(key)
    picks.toggle()
    assert picks.left_out == {33}
    picks.navigate("End")
    assert picks.current_position == 36
    picks.navigate("ArrowDown")  # there is no row below
    assert picks.current_position == 36


def test_a_click_beside_the_images_does_nothing(picks):
    picks.navigate("PageDown")
    picks.click(3)
    assert len(picks.chosen) == 7


def test_an_image_stays_out_when_others_are_shown(picks):
    picks.click(0)
    picks.show([30, 40])
    assert picks.chosen == [40]


def test_without_images_there_is_nothing_to_choose():
    picks = Picks(rows=2, columns=2)
    picks.toggle()
    picks.navigate("ArrowRight")
    assert (picks.chosen, picks.current_position, picks.pages) == ([], None, 1)
