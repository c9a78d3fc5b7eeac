"""The state of the annotator: filters, pages, selection and the command of each key, without a browser."""

import numpy as np
import pytest

from imgclf import ImgclfError
from imgclf.annotation.gallery import BY_LABEL_QUALITY, Gallery
from imgclf.annotation.suspects import OutOfSampleScores, Suspect


@pytest.fixture
def gallery(annotations) -> Gallery:
    return Gallery(annotations, rows=2, columns=3)


def paths(gallery: Gallery, positions=None) -> list[str]:
    return [gallery.annotations.images[i].path for i in (gallery.order if positions is None else positions)]


def current_path(gallery: Gallery) -> str:
    return paths(gallery, [gallery.current_position])[0]


def press(gallery: Gallery, *keys: str) -> str:
    return [gallery.press(key) for key in keys][-1]


def test_images_are_paged_in_the_order_of_their_names(gallery):
    assert (gallery.pages, gallery.page) == (6, 0)
    assert paths(gallery, gallery.on_page(0)) == [f"blue/b0{i}.jpg" for i in range(6)]
    assert (
        paths(gallery, gallery.on_page(5))[-1] == "red/r11.jpg"
        and gallery.on_page(6) == gallery.on_page(-1) == []
    )


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
def test_keys_move_the_cursor_and_turn_pages(gallery, keys, index):
    press(gallery, *keys)
    assert gallery.current == index and gallery.page == index // 6


def test_a_digit_relabels_and_moves_on(gallery):
    assert press(gallery, "3") == "red/b00.jpg: label set to 'red'"
    assert (
        current_path(gallery) == "blue/b01.jpg"
        and (gallery.annotations.dataset.folder / "red/b00.jpg").exists()
    )


def test_a_relabelled_image_stays_until_the_filter_is_applied_again(gallery):
    gallery.filter_by("label: blue")
    press(gallery, "3", "3")
    assert len(gallery.order) == 12 and gallery.current == 2
    gallery.filter_by("label: blue")
    assert len(gallery.order) == 10 and current_path(gallery) == "blue/b02.jpg"


def test_a_page_without_two_images_is_relabelled_at_once(gallery):
    press(gallery, "a")
    gallery.click(1, ctrl=True)
    gallery.click(4, ctrl=True)
    assert press(gallery, "2") == "4 images: label set to 'green'"
    assert paths(gallery, gallery.on_page(0)) == [
        "green/b00.jpg",
        "blue/b01.jpg",
        "green/b02.jpg",
        "green/b03.jpg",
        "blue/b04.jpg",
        "green/b05.jpg",
    ]
    assert not gallery.selected and gallery.page == 0


def test_shift_selects_a_range_by_click_and_by_keys(gallery):
    gallery.click(1)
    gallery.click(4, shift=True)
    assert gallery.selected == set(gallery.order[1:5])
    gallery.click(2)
    assert gallery.targets == [gallery.order[2]]
    gallery.press("ArrowRight", shift=True)
    gallery.press("ArrowDown", shift=True)
    assert gallery.targets == gallery.order[2:7]


def test_the_first_ctrl_click_also_selects_the_current_image(gallery):
    gallery.click(1)
    gallery.click(3, ctrl=True)
    assert gallery.targets == [gallery.order[1], gallery.order[3]]


def test_s_selects_by_keyboard_and_escape_clears_the_selection(gallery):
    press(gallery, "s")
    gallery.press("ArrowRight", shift=False)
    assert not gallery.selected
    press(gallery, "s", "Escape")
    assert gallery.targets == [gallery.order[1]]


def test_x_excludes_and_includes_and_z_undoes(gallery):
    press(gallery, "x")
    assert gallery.annotations.is_excluded(gallery.order[0])
    press(gallery, "Home", "x")
    assert not gallery.annotations.is_excluded(gallery.order[0])
    assert press(gallery, "End", "z") == "undone: inclusion of blue/b00.jpg"
    assert gallery.current == 0 and gallery.annotations.is_excluded(gallery.order[0])


def test_space_and_enter_confirm(gallery):
    press(gallery, " ", " ")
    assert gallery.annotations.count_reviewed() == 2 and gallery.current == 2
    assert press(gallery, "Enter") == "4 images: confirmed"
    assert gallery.annotations.count_reviewed() == 6 and (gallery.page, gallery.current) == (1, 6)


def test_u_removes_the_label(gallery):
    press(gallery, "u")
    gallery.filter_by("unlabelled")
    assert paths(gallery) == ["unlabelled/b00.jpg"]


def test_n_says_that_an_image_is_of_none_of_the_labels(gallery):
    press(gallery, "n")
    gallery.filter_by("none_of_these")
    assert paths(gallery) == ["none_of_these/b00.jpg"] and gallery.annotations.labels == [
        "blue",
        "green",
        "red",
    ]
    assert "label: none_of_these" not in gallery.filters


def test_each_filter_matches_its_images(gallery):
    press(gallery, "3", "x", " ")
    counts = {}
    for name in gallery.filters:
        gallery.filter_by(name)
        counts[name] = len(gallery.order)
    assert counts == {
        "all images": 36,
        "not reviewed": 33,
        "changed today": 2,
        "excluded": 1,
        "unlabelled": 0,
        "none_of_these": 0,
        "label: blue": 11,
        "label: green": 12,
        "label: red": 13,
    }


def test_without_a_matching_image_keys_do_nothing_and_a_command_is_refused(gallery):
    gallery.filter_by("unlabelled")
    press(gallery, "ArrowDown", "End", "PageDown", "a", "s", "Escape")
    gallery.click(0)
    assert (gallery.current_position, gallery.targets, gallery.pages) == (None, [], 1)
    with pytest.raises(ImgclfError, match="^no image is selected; select one, or change the filter$"):
        press(gallery, "1")


def test_a_digit_without_a_label_is_refused(gallery):
    with pytest.raises(
        ImgclfError, match="^no label has the key 4: there are 3 labels; the keys are 1 to 3$"
    ):
        press(gallery, "4")


def test_sorting_by_label_quality_puts_the_lowest_first_and_unscored_images_last(annotations):
    sha = {image.path: image.sha256 for image in annotations.images}
    out_of_sample = OutOfSampleScores(
        ("blue", "green", "red"),
        {sha["red/r01.jpg"]: np.array([0.1, 0.1, 0.8]), sha["green/g05.jpg"]: np.array([0.9, 0.05, 0.05])},
    )
    gallery = Gallery(annotations, out_of_sample=out_of_sample)
    assert BY_LABEL_QUALITY in gallery.sortings
    gallery.sort_by(BY_LABEL_QUALITY)
    assert paths(gallery)[:3] == ["green/g05.jpg", "red/r01.jpg", "blue/b00.jpg"]


@pytest.mark.parametrize("change", [lambda g: g.filter_by("label: red"), lambda g: g.sort_by("label")])
def test_filters_and_sort_orders_go_to_the_first_page(gallery, change):
    press(gallery, "End")
    change(gallery)
    assert (gallery.current, gallery.page) == (0, 0)


def test_undo_and_redo_go_to_the_first_image_of_a_selection(gallery):
    press(gallery, "PageDown", "a", "2", "Home")
    assert press(gallery, "z") == "undone: blue/b11.jpg is 'blue' again and 5 more"
    assert gallery.current == 6
    press(gallery, "Home", "y")
    assert gallery.current == 6 and not gallery.selected


def test_undo_of_a_hidden_image_shows_all_images(gallery):
    gallery.filter_by("label: red")
    press(gallery, "End", "1")
    gallery.filter_by("label: green")
    press(gallery, "z")
    assert gallery.filter == "all images" and current_path(gallery) == "red/r11.jpg"
    gallery.filter_by("label: green")
    gallery.press("z", shift=True)
    assert current_path(gallery) == "blue/r11.jpg"


def test_undo_of_a_new_label_stays_where_it_is(gallery):
    gallery.annotations.add_label("odd")
    press(gallery, "PageDown", "z")
    assert gallery.current == 6


def test_without_an_image_no_label_can_be_renamed(gallery):
    gallery.filter_by("unlabelled")
    with pytest.raises(ImgclfError, match="^no image is selected; select one that has the label to rename$"):
        gallery.rename_label("odd")


def test_suspects_are_shown_first_in_their_order(annotations):
    sha = {image.path: image.sha256 for image in annotations.images}
    suspects = [
        Suspect(path, sha[path], "red", "blue", 0.9, 0.8)
        for path in ("red/r05.jpg", "blue/b02.jpg", "green/g01.jpg")
    ]
    gallery = Gallery(annotations, suspects=suspects)
    assert paths(gallery) == ["red/r05.jpg", "blue/b02.jpg", "green/g01.jpg"]
    gallery.filter_by("label: red")
    assert paths(gallery)[0] == "red/r05.jpg" and len(gallery.order) == 12


def test_the_cursor_stays_on_its_image_when_the_page_size_changes(gallery):
    press(gallery, "PageDown", "ArrowRight")
    gallery.resize(4, 5)
    assert (gallery.current, gallery.page, len(gallery.on_page(0))) == (7, 0, 20)


def test_the_images_of_a_finding_are_shown_in_its_order_and_stay_a_filter(gallery):
    assert "finding" not in gallery.filters and "finding first" not in gallery.sortings
    gallery.show_finding([30, 2, 14])
    assert (gallery.order, gallery.filter, gallery.sorting) == ([30, 2, 14], "finding", "finding first")
    press(gallery, "2")
    gallery.filter_by("all images")
    assert gallery.order[:3] == [30, 2, 14] and len(gallery.order) == 36
    gallery.show_finding([5, 4])
    assert gallery.order == [5, 4]
    gallery.filter_by("label: red")
    gallery.filter_by("finding")
    assert gallery.order == [5, 4]


def test_a_finding_and_suspects_are_two_filters(annotations):
    sha256 = annotations.images[7].sha256
    gallery = Gallery(annotations, suspects=[Suspect("red/r05.jpg", sha256, "red", "blue", 0.9, 0.8)])
    gallery.show_finding([3])
    assert gallery.order == [3]
    gallery.filter_by("suspected label errors")
    assert gallery.order == [7]
