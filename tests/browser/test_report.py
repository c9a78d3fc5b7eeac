"""The report in a real browser: it loads nothing, and fits a phone."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.lab import DATASET

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("width", [1280, 390])
def test_the_report_of_a_run_loads_nothing_and_fits_its_window(browser: "Browser", data: Path, width: int):
    address = (data / "proc" / DATASET / "report.html").as_uri()
    with browser.new_context(viewport={"width": width, "height": 800}) as context:
        page, requested, complaints = context.new_page(), [], []
        page.on("request", lambda request: requested.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(address)
        assert [url for url in requested if not url.startswith("data:")] == [address]
        assert complaints == []
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.get_by_role("heading", level=1).inner_text().startswith(f"{DATASET}: ")
        pictures = page.locator("img").evaluate_all("all => all.map(one => one.naturalWidth)")
        assert len(pictures) >= 5 and all(pictures)
