"""The page for people, in a real browser: an image dropped, chosen, or reached by keys is labelled, and its bars are right."""

import base64
from collections.abc import Iterator

import pytest
from browser.conftest import chromium  # noqa: F401 - a fixture

from support.pictures import jpeg
from support.serving import Server

TOKEN = "a-token-of-24-characters"
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
