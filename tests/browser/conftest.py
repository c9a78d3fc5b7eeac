"""JupyterLab in a real browser, over a small data set that went through the real sequence.

All is started once for this folder, and ended when pytest leaves it: while playwright runs, code that wants an asyncio loop
of its own, as papermill does, fails in the same process.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from imgclf.images import decoding
from support.lab import DATASET, Lab, Server, running_server
from support.pictures import COLOURS, picture

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
NO_BROWSER = "needs a browser: apt-get install chromium, or .venv/bin/playwright install chromium"
NO_PLAYWRIGHT = "needs playwright: .venv/bin/pip install playwright"
SMALL = ("-p", f"dataset_name={DATASET}", "-p", "input_size=64", "-p", "svm_c=0.1,1")
IMAGES_PER_LABEL = 16
MISPLACED = (4, 8)  # these images of each colour lie in the next colour's folder


@pytest.fixture(scope="package")
def chromium() -> str:
    """The path of a browser. Without one the tests are skipped; where $CI is set, they fail."""
    if importlib.util.find_spec("playwright") is None:
        _cannot_run(NO_PLAYWRIGHT)
    return (
        next(filter(None, map(shutil.which, BROWSERS)), None)
        or _chromium_of_playwright()
        or _cannot_run(NO_BROWSER)
    )


def _cannot_run(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _chromium_of_playwright() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


@pytest.fixture(scope="package")
def data(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder after `imgclf run` on "colours": for reading; a test changes its own copy, `data_dir`.

    It asks for the browser first, so that nothing is computed where there is none.
    """
    folder = tmp_path_factory.mktemp("finished")
    write_colours(folder / "images" / DATASET)
    imgclf = Path(sys.executable).with_name("imgclf")
    run = subprocess.run(
        [imgclf, "run", "--from", "01", *SMALL],
        env={**os.environ, "IMGCLF_DATA": str(folder)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return folder


def write_colours(folder: Path) -> None:
    """Three labels of 16 JPEGs each, named COLOUR_NUMBER.jpg.

    Every fourth is halfway to the next colour, for some mistakes; two of each colour lie in the wrong folder, for label errors.
    """
    names = list(COLOURS)
    for name in names:
        (folder / name).mkdir(parents=True)
    for k, name in enumerate(names):
        following = names[(k + 1) % len(names)]
        between = tuple(np.mean([COLOURS[name], COLOURS[following]], axis=0))
        for i in range(IMAGES_PER_LABEL):
            content = decoding.jpeg(picture(between if i % 4 == 3 else COLOURS[name], seed=100 * k + i))
            (folder / (following if i in MISPLACED else name) / f"{name}_{i:02d}.jpg").write_bytes(content)


@pytest.fixture(scope="package")
def server(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One JupyterLab for all tests of this folder."""
    with running_server(tmp_path_factory.mktemp("jupyterlab")) as running:
        yield running


@pytest.fixture(scope="package")
def browser(chromium: str) -> "Iterator[Browser]":
    """One Chromium for all tests of this folder.

    Playwright starts it without its sandbox, which root could not use; it opens our own pages only.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium)
        yield started
        started.close()


@pytest.fixture(autouse=True)
def data_dir(data: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Path:
    """$IMGCLF_DATA of the test and of the notebooks' kernels: a fresh copy of `data`."""
    server.begin_test(data)
    monkeypatch.setenv("IMGCLF_DATA", str(server.data_dir))
    return server.data_dir


@pytest.fixture
def lab(browser: "Browser", server: Server, data_dir: Path) -> Iterator[Lab]:
    """A fresh page; `lab.open("05_evaluate")` opens a notebook in it. Its kernels end with the test."""
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        yield Lab(context.new_page(), server)
    server.shut_down_kernels()
