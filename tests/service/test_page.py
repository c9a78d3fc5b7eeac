"""The page for people, in a real browser: an image dropped, chosen, or reached by keys is labelled, and its bars are right."""

import base64
import shutil
from collections.abc import Iterator

import pytest
from browser.conftest import chromium  # noqa: F401 - a fixture

from imgclf.images import decoding
from support.pictures import jpeg, picture
from support.project import ROOT
from support.serving import Server, running

TOKEN = "a-token-of-24-characters"
YELLOW = decoding.jpeg(picture((230, 220, 30), seed=1))  # no label
# What the browser does when a person lets go of a file above the page.
DROP = """([content, name]) => {
    const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
    const carried = new DataTransfer();
    carried.items.add(new File([bytes], name, {type: 'image/jpeg'}));
    document.getElementById('drop').dispatchEvent(new DragEvent('drop', {bubbles: true, cancelable: true, dataTransfer: carried}));
}"""


@pytest.fixture(scope="module")
def browser(chromium) -> Iterator:  # noqa: F811
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=15_000)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium)
        yield started
        started.close()


@pytest.fixture
def open_page(browser):
    """Opens the page of a service; no error may stand in the browser's console at the end."""
    errors: list[str] = []
    contexts = []

    def opened(server: Server, scheme: str = "light"):
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme=scheme))
        page = contexts[-1].new_page()
        page.on(
            "console",
            lambda message: (
                errors.append(message.text)
                if message.type == "error" and "status of 4" not in message.text
                else None
            ),
        )
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "request",
            lambda request: (
                errors.append(request.url) if not request.url.startswith((server.url, "blob:")) else None
            ),
        )
        page.goto(server.url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert errors == []


def soon(locator):
    from playwright.sync_api import expect

    return expect(locator)


def drop(page, colour: str) -> None:
    page.evaluate(DROP, [base64.b64encode(jpeg(colour)).decode(), f"{colour}.jpg"])


def test_the_checkbox_shows_the_map_below_the_image(server, open_page):
    page = open_page(server)
    drop(page, "green")
    soon(page.locator(".result h2")).to_have_text("green")
    assert page.locator(".result .map").count() == 0
    page.get_by_label("Show where the classifier looked").check()
    drop(page, "red")
    newest = page.locator(".result").first
    soon(newest.locator("h2")).to_have_text("red")
    soon(newest.locator(".map")).to_be_visible()
    soon(newest.locator("figure .note")).to_contain_text("Yellow: speaks most for the first label")
    assert newest.locator(".map").evaluate("image => [image.naturalWidth, image.naturalHeight]") == [32, 24]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_dropped_image_shows_its_label_and_probabilities_as_bars(server, open_page, scheme, tmp_path):
    page = open_page(server, scheme)
    soon(page.locator("#model")).to_contain_text("colours, version ")
    drop(page, "red")
    result = page.locator(".result")
    soon(result.locator("h2")).to_have_text("red")
    soon(page.get_by_role("status")).to_contain_text("red.jpg: red, ")
    answer = server.score(jpeg("red")).json()["images"][0]
    ranked = sorted(answer["probabilities"], key=answer["probabilities"].get, reverse=True)
    assert result.locator("tbody th").all_inner_texts() == ranked
    for label, bar in zip(ranked, result.locator(".trough").all(), strict=True):
        width, whole = bar.locator("span").bounding_box()["width"], bar.bounding_box()["width"]
        assert width / whole == pytest.approx(answer["probabilities"][label], abs=0.01)
    assert result.locator("img").evaluate("image => image.naturalWidth") == 64
    page.screenshot(path=tmp_path / f"{scheme}.png")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 30)"
    assert dark == (scheme == "dark")


def test_the_file_field_works_by_keyboard_and_results_are_newest_first(server, open_page, tmp_path):
    page = open_page(server)
    page.on("filechooser", lambda chooser: None)  # from here on playwright catches it; later may be too late
    soon(page.locator("#model")).to_contain_text("version")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "files"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    for colour in ("blue", "green"):
        (tmp_path / f"{colour}.jpg").write_bytes(jpeg(colour))
    chooser.value.set_files([tmp_path / "blue.jpg", tmp_path / "green.jpg"])
    soon(page.locator(".result h2")).to_have_text(["green", "blue"])
    assert (
        page.get_by_role("list", name="Results, newest first").get_by_role("row", name="green").count() >= 1
    )


def test_an_undecodable_image_shows_an_error_and_the_others_their_labels(server, open_page):
    page = open_page(server)
    page.locator("#files").set_input_files(
        [
            {"name": "bad.jpg", "mimeType": "image/jpeg", "buffer": b"no image"},
            {"name": "good.jpg", "mimeType": "image/jpeg", "buffer": jpeg("blue")},
        ]
    )
    soon(page.get_by_role("status")).to_have_text(
        "bad.jpg: not an image that can be read; replace or delete it"
    )
    soon(page.locator(".result h2")).to_have_text(["blue"])


def test_the_page_asks_for_a_token_and_shows_rejected_labels(serve, open_page):
    guarded = serve(
        "--reject-below",
        "0.999999",
        environment={"IMGCLF_TOKEN": TOKEN},
        headers={"Authorization": f"Bearer {TOKEN}"},
    )
    page = open_page(guarded)
    soon(page.get_by_role("status")).to_have_text("This service needs an access token.")
    page.get_by_label("Access token").fill(TOKEN)
    page.keyboard.press("Enter")
    soon(page.locator("#model")).to_contain_text("colours")
    soon(page.get_by_label("Access token")).to_be_hidden()
    drop(page, "green")
    soon(page.locator(".result h2")).to_have_text("unsure")
    soon(page.locator(".result")).to_contain_text("No label reaches a probability of 99.9999 %.")


def drop_yellow(page) -> None:
    soon(page.locator("#model")).to_contain_text("version")
    page.locator("#files").set_input_files({"name": "a.jpg", "mimeType": "image/jpeg", "buffer": YELLOW})


def test_an_unfamiliar_image_keeps_its_label_with_a_warning(server, open_page):
    page = open_page(server)
    answer = server.score(YELLOW).json()
    label, found = answer["images"][0]["label"], answer["images"][0]["familiarity"]
    drop_yellow(page)
    soon(page.locator(".result h2")).to_have_text(label)
    soon(page.locator(".doubt")).to_have_text(
        "Unfamiliar: this image is unlike the training images. Its label may be wrong, even with a high probability."
    )
    soon(page.locator(".familiarity")).to_have_text(
        f"Familiarity {found:.2f}; unfamiliar below {answer['familiar_from']:.2f}"
    )
    soon(page.get_by_role("status")).to_contain_text(", but unfamiliar")
    drop(page, "red")
    soon(page.locator(".result h2")).to_have_text(["red", label])
    soon(page.locator(".doubt").first).to_be_hidden()


def test_an_unfamiliar_image_without_a_label_is_explained(serve, open_page):
    page = open_page(serve("--reject-unfamiliar"))
    drop_yellow(page)
    soon(page.locator(".result h2")).to_have_text("unfamiliar")
    soon(page.locator(".doubt")).to_have_text(
        "This image is unlike the training images, so it gets no label. The table says what comes closest."
    )
    soon(page.get_by_role("status")).to_contain_text("a.jpg: unfamiliar, perhaps ")


def test_with_a_classifier_of_an_older_version_the_page_says_nothing_of_familiarity(open_page, tmp_path):
    shutil.copy(
        ROOT / "tests" / "samples" / "data_folder_0.1.0" / "proc" / "colours" / "classifier.onnx", tmp_path
    )
    with running(tmp_path / "classifier.onnx") as older:
        page = open_page(older)
        drop(page, "red")
        soon(page.locator(".result h2")).to_have_text("red")
        soon(page.locator(".familiarity")).to_have_text("")
        soon(page.locator(".doubt")).to_be_hidden()
