"""JupyterLab in a real browser, on a small data set that ran through the notebooks.

Server and browser are started once for this folder and stopped when pytest leaves it: while playwright runs, code with its
own asyncio loop, such as papermill, fails in the same process.
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
MISLABELLED = (4, 8)  # these images of each colour are in the folder of the next colour


@pytest.fixture(scope="package")
def chromium() -> str:
    """Return the path of a browser. Without a browser the tests are skipped; if $CI is set, they fail."""
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
    """Return the data folder after `imgclf run` on "colours". It is read-only; each test changes its copy, `data_dir`.

    It depends on `chromium`, so that nothing is computed without a browser.
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
    """Write three labels with 16 JPEGs each, named COLOUR_NUMBER.jpg.

    Every fourth image is between its colour and the next one, to get some wrong predictions. Two images of each colour are
    in the wrong folder, as label errors.
    """
    names = list(COLOURS)
    for name in names:
        (folder / name).mkdir(parents=True)
    for k, name in enumerate(names):
        following = names[(k + 1) % len(names)]
        between = tuple(np.mean([COLOURS[name], COLOURS[following]], axis=0))
        for i in range(IMAGES_PER_LABEL):
            content = decoding.jpeg(picture(between if i % 4 == 3 else COLOURS[name], seed=100 * k + i))
            (folder / (following if i in MISLABELLED else name) / f"{name}_{i:02d}.jpg").write_bytes(content)


@pytest.fixture(scope="package")
def server(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run one JupyterLab server for all tests of this folder."""
    with running_server(tmp_path_factory.mktemp("jupyterlab")) as running:
        yield running


@pytest.fixture(scope="package")
def browser(chromium: str) -> "Iterator[Browser]":
    """Run one Chromium for all tests of this folder.

    Playwright starts it without its sandbox, which does not work as root. It opens our own pages only.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium)
        yield started
        started.close()


@pytest.fixture(autouse=True)
def data_dir(data: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set $IMGCLF_DATA of the test and of the kernels to a fresh copy of `data`."""
    server.begin_test(data)
    monkeypatch.setenv("IMGCLF_DATA", str(server.data_dir))
    return server.data_dir


@pytest.fixture
def lab(browser: "Browser", server: Server, data_dir: Path) -> Iterator[Lab]:
    """Yield a new page; `lab.open("05_evaluate")` opens a notebook in it. Kernels are shut down after the test."""
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        yield Lab(context.new_page(), server)
    server.shut_down_kernels()
