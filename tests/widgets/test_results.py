"""The Python side of the results browser: it shows its plain object and handles keys, fields and clicks."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from imgclf.annotation import review
from imgclf.data import dataset
from imgclf.data.previous_split import PreviousSplit
from imgclf.images import decoding
from support.classifiers import trained
from support.evaluations import scored
from support.networks import with_max_pooling

with warnings.catch_warnings():
    warnings.simplefilter(
        "ignore", DeprecationWarning
    )  # of bqplot's own definitions, when it is first imported
    from imgclf.widgets.annotator import Annotator
    from imgclf.widgets.results import CAPTURED, CONFUSION, THRESHOLD, ResultsBrowser


@pytest.fixture
def browser(annotations) -> ResultsBrowser:
    return ResultsBrowser(
        scored(annotations), annotations, sides=PreviousSplit({annotations.images[0].sha256: "test"})
    )


def press(browser: ResultsBrowser, *keys: str) -> None:
    for key in keys:
        browser.keyboard._handle_custom_msg({"key": key, "shift": False, "ctrl": False}, [])


def pause(browser: ResultsBrowser) -> None:
    browser.keyboard._handle_custom_msg({"idle": True}, [])


def click(mark, **data) -> None:
    mark._handle_custom_msg({"event": "element_click", "data": data}, [])


def test_the_first_image_is_shown_with_its_details_and_bars(browser):
    assert bytes(browser.large.value).startswith(b"\xff\xd8") and browser.large.layout.visibility == "visible"
    assert "<b>blue/b00.jpg</b>" in browser.details.value and "in the split: test" in browser.details.value
    assert (
        "✓ right" in browser.details.value
        and "probability 0.90, margin 0.84, loss 0.11" in browser.details.value
    )
    bars = browser.bars.marks[0]
    assert (list(bars.x), bars.y.round(2).tolist()) == (["blue", "green", "red"], [0.9, 0.06, 0.04])
    assert browser.position_text.value == "<b>1</b> of 6"


def test_the_text_representation_is_the_same_in_every_run(browser):
    assert repr(browser) == "[browser of 6 scored images: run this cell to use it]"


def test_images_that_are_missing_from_the_evaluation_are_counted(annotations):
    incomplete = replace(scored(annotations), missing=("red/r99.jpg",), missing_labels=("red",))
    browser = ResultsBrowser(incomplete, annotations)
    assert repr(browser) == "[browser of 6 scored images (1 more are missing): run this cell to use it]"
    heading = browser._tabs[CONFUSION].children[0].value
    assert heading.startswith("6 images (1 more are missing), right ones on the diagonal")


def test_every_key_of_the_legend_is_captured(browser):
    assert {"1", "0", "u", "x", "z", "w", "r", "a", " ", "Home", "End", "PageUp", "ArrowLeft"} <= set(
        CAPTURED
    )
    assert all(meaning in browser.children[-2].value for _, meaning in review.KEYS)


def test_fields_filter_and_sort_and_keys_update_the_fields(browser):
    browser.prediction.value = review.WRONG
    assert browser.position_text.value == "<b>1</b> of 2" and "✗ wrong" in browser.details.value
    browser.sorting.value = review.BY_LOSS
    assert "green/g01.jpg" in browser.details.value
    press(browser, "a")
    assert (browser.prediction.value, browser.slider.max) == (review.ALL, 6)


def test_the_slider_and_the_range_choose_images(browser):
    browser.slider.value = 4
    assert "green/g01.jpg" in browser.details.value
    browser.range.value = 0.86, 1
    assert (
        browser.position_text.value == "<b>1</b> of 2"
        and browser.range.description == "probability 0.86 to 1.00"
    )


def test_without_a_matching_image_it_says_so_and_a_command_is_refused(browser):
    browser.range.value = 0, 0.05
    assert (browser.position_text.value, browser.details.value, browser.large.layout.visibility) == (
        "no image matches the filter",
        "",
        "hidden",
    )
    press(browser, "x")
    assert browser.status.value == "<b>Not done:</b> no image is shown; clear the filter first"


def test_a_click_on_a_cell_shows_its_images(browser):
    click(browser.confusion.marks[0], row="green", column="red", color=0.5)
    assert (browser.true.value, browser.predicted.value, browser.position_text.value) == (
        "green",
        "red",
        "<b>1</b> of 1",
    )
    click(browser.confusion.marks[0], row="red", column="red", color=1.0)
    assert (browser.true.value, browser.predicted.value, browser.position_text.value) == (
        "red",
        "red",
        "<b>1</b> of 2",
    )


def test_the_threshold_shows_the_rejected_images_and_moves_the_points(browser):
    before = browser.roc.marks[-1].y.tolist()
    browser.threshold.value = 0.5
    assert browser.rejection.value.startswith(
        "below 0.50: 1 of 6 images rejected (17%); accuracy of the rest: 60%"
    )
    assert before == [1, 1, 1] and browser.roc.marks[-1].y.tolist() == [0.5, 0.5, 0.5]
    assert browser.bars.marks[1].x.tolist() == [0.5, 0.5]
    browser.slider.value = 5
    assert "rejected" in browser.details.value


def test_one_tab_is_visible_at_a_time(browser):
    browser.tab.value = THRESHOLD
    assert [browser._tabs[tab].layout.visibility for tab in (CONFUSION, THRESHOLD)] == ["hidden", "visible"]
    assert [browser._tabs[tab].layout.order for tab in (CONFUSION, THRESHOLD)] == ["1", "0"]


def test_a_digit_or_a_button_relabels_and_undo_reverts_it(browser, annotations):
    press(browser, "3")
    assert (
        browser.status.value == "red/b00.jpg: label set to &#x27;red&#x27;"
        and (annotations.dataset.folder / "red/b00.jpg").exists()
    )
    press(browser, "Home")
    assert (
        "<b>relabelled as 'red'</b>; evaluated as 'blue'" in browser.details.value
        and browser._buttons["red"].icon == "check"
    )
    press(browser, "z")
    assert (
        annotations.dataset.folder / "blue/b00.jpg"
    ).exists() and "relabelled" not in browser.details.value
    browser._buttons["green"].click()
    assert (annotations.dataset.folder / "green/b00.jpg").exists()


def test_a_pause_shows_which_notebooks_to_run_again(browser, annotations):
    dataset.write(annotations.dataset)  # the state of 01
    press(browser, "3")
    pause(browser)
    assert (
        browser.next_steps.value.startswith("1 image changed")
        and "Run 01_prepare_data" in browser.next_steps.value
    )


def test_a_change_in_an_annotator_is_shown_at_once(browser, annotations):
    other = Annotator(annotations)
    other.gallery.press("2")
    assert "green/b00.jpg" in browser.details.value
    press(browser, "z")
    assert other.sheet.tiles[0]["label"] == "blue"


def test_an_image_whose_file_is_gone_is_no_error(browser, annotations):
    (annotations.dataset.folder / "blue/b01.jpg").unlink()
    fresh = ResultsBrowser(scored(annotations), annotations)
    press(fresh, "ArrowRight")
    assert fresh.large.layout.visibility == "hidden" and "blue/b01.jpg" in fresh.details.value
    press(fresh, "3")
    assert fresh.status.value.startswith("<b>Not done:</b> ")


def test_names_of_files_and_labels_are_escaped(annotations):
    found = scored(annotations)
    odd = replace(found, paths=("blue/<b>&.jpg", *found.paths[1:]), sha256=("0" * 64, *found.sha256[1:]))
    browser = ResultsBrowser(odd, annotations)
    assert (
        "blue/&lt;b&gt;&amp;.jpg" in browser.details.value
        and "no longer in the data set" in browser.details.value
    )


@pytest.fixture
def mapped(annotations, tiny_network) -> ResultsBrowser:
    path = trained(tiny_network, annotations.dataset.folder)
    return ResultsBrowser(scored(annotations), annotations, classifier=path)


def test_m_shows_the_activation_map_of_each_image_until_m_hides_it(mapped):
    plain = bytes(mapped.large.value)
    press(mapped, "m")
    assert "activation maps are shown" in mapped.status.value
    first = decoding.decode(bytes(mapped.large.value))
    assert first.shape == decoding.decode(plain).shape
    assert np.ptp(first.astype(int), axis=2).max() > 60  # colours
    assert "yellow speaks most for <b>blue</b>" in mapped.details.value
    press(mapped, "ArrowRight")
    assert bytes(mapped.large.value) != plain and "map: yellow" in mapped.details.value
    press(mapped, "Home", "m")
    assert bytes(mapped.large.value) == plain and "map: yellow" not in mapped.details.value


def test_m_m_m_shows_the_map_with_its_caption_again(mapped):
    press(mapped, "m")
    picture = bytes(mapped.large.value)
    press(mapped, "m", "m")
    assert bytes(mapped.large.value) == picture
    assert "yellow speaks most for <b>blue</b>" in mapped.details.value


def test_f_enlarges_what_is_shown(mapped):
    press(mapped, "f")
    image = bytes(mapped.zoom.value)
    press(mapped, "m")
    assert bytes(mapped.zoom.value) == bytes(mapped.large.value) != image
    press(mapped, "ArrowRight")
    assert bytes(mapped.zoom.value) == bytes(mapped.large.value)
    press(mapped, "Home", "m")
    assert bytes(mapped.zoom.value) == image


def test_an_enlarged_map_has_as_many_pixels_as_an_enlarged_image(annotations, tiny_network):
    path = annotations.images[0].path
    large = np.random.default_rng(0).integers(0, 255, (30, 1500, 3), np.uint8)
    (annotations.dataset.folder / path).write_bytes(decoding.jpeg(large))
    browser = ResultsBrowser(
        scored(annotations), annotations, classifier=trained(tiny_network, annotations.dataset.folder)
    )
    press(browser, "m", "f")
    assert decoding.decode(bytes(browser.zoom.value)).shape == large.shape


def test_a_browser_loads_no_classifier_before_m(mapped):
    press(mapped, "ArrowRight", "f", "f")
    assert mapped._maps._explainer is None


def test_m_without_maps_says_why_and_all_else_works(annotations, tmp_path):
    path = trained(with_max_pooling(tmp_path / "dnn_fixed.onnx"), annotations.dataset.folder)
    browser = ResultsBrowser(scored(annotations), annotations, classifier=path)
    plain = bytes(browser.large.value)
    press(browser, "m")
    assert "<b>Not done:</b>" in browser.status.value and "no class activation maps" in browser.status.value
    assert bytes(browser.large.value) == plain
    press(browser, "ArrowRight")
    assert browser.position_text.value == "<b>2</b> of 6"
    without = ResultsBrowser(scored(annotations), annotations)
    press(without, "m")
    assert "no classifier was given" in without.status.value
