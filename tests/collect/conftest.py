"""A server of images, and the folder that they are fetched into."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from imgclf import downloads
from support.image_server import Server, serving


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of images on this machine."""
    with serving() as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a data set, which is not there yet; retries do not wait."""
    monkeypatch.setenv("IMGCLF_DATA", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(downloads, "BACK_OFF_SECONDS", 0.01)
    return tmp_path / "images" / "fruit"
