"""Walking through images: what is shown, selected, and done by each key, without a browser."""

import numpy as np
import pytest

from imgclf import ImgclfError
from imgclf.annotation import gallery
from imgclf.annotation.gallery import Gallery
from imgclf.annotation.suspects import OutOfSampleScores, Suspect


@pytest.fixture
def shown(notes) -> Gallery:
    return Gallery(notes, rows=2, columns=3)


def paths(shown: Gallery, positions=None) -> list[str]:
    return [shown.annotations.images[i].path for i in (shown.order if positions is None else positions)]


def at_cursor(shown: Gallery) -> str:
    return paths(shown, [shown.at_cursor])[0]


def press(shown: Gallery, *keys: str) -> str:
    return [shown.press(key) for key in keys][-1]


def test_pages_follow_the_order_of_names(shown):
    assert (shown.pages, shown.page) == (6, 0)
    assert paths(shown, shown.on_page(0)) == [f"blue/b0{i}.jpg" for i in range(6)]
    assert paths(shown, shown.on_page(5))[-1] == "red/r11.jpg" and shown.on_page(6) == shown.on_page(-1) == []


@pytest.mark.parametrize(
    ("keys", "index"),
    [
        (["ArrowRight", "ArrowRight", "ArrowLeft"], 1),
        (["ArrowDown"], 3),
        (["ArrowUp"], 0),
        (["PageDown"], 6),
        (["PageDown", "PageUp"], 0),
        (["End"], 35),
        (["End", "ArrowDown", "ArrowRight"], 35),
        (["End", "PageDown"], 30),
        (["End", "Home"], 0),
        (["ArrowLeft"], 0),
    ],
)
def test_keys_move_the_frame_and_turn_pages(shown, keys, index):
    press(shown, *keys)
    assert shown.current == index and shown.page == index // 6


def test_a_digit_relabels_and_moves_on(shown):
    assert press(shown, "3") == "red/b00.jpg: now 'red'"
    assert at_cursor(shown) == "blue/b01.jpg" and (shown.annotations.dataset.folder / "red/b00.jpg").exists()


def test_the_order_stays_when_labels_change_until_it_is_asked_for_again(shown):
    shown.show("label: blue")
    press(shown, "3", "3")
    assert len(shown.order) == 12 and shown.current == 2
    shown.show("label: blue")
    assert len(shown.order) == 10 and at_cursor(shown) == "blue/b02.jpg"


def test_all_of_this_page_but_two(shown):
    press(shown, "a")
    shown.click(1, ctrl=True)
    shown.click(4, ctrl=True)
    assert press(shown, "2") == "4 images: now 'green'"
    assert paths(shown, shown.on_page(0)) == [
        "green/b00.jpg",
        "blue/b01.jpg",
        "green/b02.jpg",
        "green/b03.jpg",
        "blue/b04.jpg",
        "green/b05.jpg",
    ]
    assert not shown.selected and shown.page == 0


def test_shift_selects_a_range_by_click_and_by_keys(shown):
    shown.click(1)
    shown.click(4, shift=True)
    assert shown.selected == set(shown.order[1:5])
    shown.click(2)
    assert shown.targets == [shown.order[2]]
    shown.press("ArrowRight", shift=True)
    shown.press("ArrowDown", shift=True)
    assert shown.targets == shown.order[2:7]


def test_the_first_ctrl_click_keeps_the_image_with_the_frame(shown):
    shown.click(1)
    shown.click(3, ctrl=True)
    assert shown.targets == [shown.order[1], shown.order[3]]


def test_s_selects_by_keyboard_alone_and_escape_drops_all(shown):
    press(shown, "s")
    shown.press("ArrowRight", shift=False)
    assert not shown.selected
    press(shown, "s", "Escape")
    assert shown.targets == [shown.order[1]]


def test_x_excludes_and_takes_back_and_z_undoes(shown):
    press(shown, "x")
    assert shown.annotations.is_excluded(shown.order[0])
    press(shown, "Home", "x")
    assert not shown.annotations.is_excluded(shown.order[0])
    assert press(shown, "End", "z") == "took back: used again blue/b00.jpg"
    assert shown.current == 0 and shown.annotations.is_excluded(shown.order[0])


def test_space_and_enter_confirm(shown):
    press(shown, " ", " ")
    assert shown.annotations.seen() == 2 and shown.current == 2
    assert press(shown, "Enter") == "4 images: seen"
    assert shown.annotations.seen() == 6 and (shown.page, shown.current) == (1, 6)


def test_u_takes_the_label_away(shown):
    press(shown, "u")
    shown.show("unlabelled")
    assert paths(shown) == ["unlabelled/b00.jpg"]


def test_filters_show_what_they_say(shown):
    press(shown, "3", "x", " ")
    counts = {}
    for which in shown.filters:
        shown.show(which)
        counts[which] = len(shown.order)
    assert counts == {
        "all images": 36,
        "not seen yet": 33,
        "changed today": 2,
        "excluded": 1,
        "unlabelled": 0,
        "label: blue": 11,
        "label: green": 12,
        "label: red": 13,
    }


def test_nothing_shown_is_no_error_and_a_command_says_so(shown):
    shown.show("unlabelled")
    press(shown, "ArrowDown", "End", "PageDown", "a", "s", "Escape")
    shown.click(0)
    assert (shown.at_cursor, shown.targets, shown.pages) == (None, [], 1)
    with pytest.raises(ImgclfError, match="^no image is selected$"):
        press(shown, "1")


def test_a_digit_without_a_label_says_so(shown):
    with pytest.raises(ImgclfError, match="^there is no label with the key 4; there are 3 labels$"):
        press(shown, "4")


def test_doubt_puts_the_most_doubtful_first_and_images_without_scores_last(notes):
    sha = {image.path: image.sha256 for image in notes.images}
    known = OutOfSampleScores(
        ("blue", "green", "red"),
        {sha["red/r01.jpg"]: np.array([0.1, 0.1, 0.8]), sha["green/g05.jpg"]: np.array([0.9, 0.05, 0.05])},
    )
    shown = Gallery(notes, known=known)
    assert gallery.BY_DOUBT in shown.sortings
    shown.sort(gallery.BY_DOUBT)
    assert paths(shown)[:3] == ["green/g05.jpg", "red/r01.jpg", "blue/b00.jpg"]


def test_suspects_are_shown_first_in_their_order(notes):
    sha = {image.path: image.sha256 for image in notes.images}
    suspects = [
        Suspect(path, sha[path], "red", "blue", 0.9, 0.8)
        for path in ("red/r05.jpg", "blue/b02.jpg", "green/g01.jpg")
    ]
    shown = Gallery(notes, suspects=suspects)
    assert paths(shown) == ["red/r05.jpg", "blue/b02.jpg", "green/g01.jpg"]
    shown.show("label: red")
    assert paths(shown)[0] == "red/r05.jpg" and len(shown.order) == 12


def test_an_image_keeps_the_frame_when_pages_change_their_size(shown):
    press(shown, "PageDown", "ArrowRight")
    shown.resize(4, 5)
    assert (shown.current, shown.page, len(shown.on_page(0))) == (7, 0, 20)
