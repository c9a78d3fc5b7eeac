"""Real JPEGs, a small real network, and a data folder of its own for each test."""

from pathlib import Path

import pytest

from imgclf.annotation.annotations import Annotations
from imgclf.data import scan
from support.networks import write_tiny_network
from support.pictures import write_colours
from support.project import SHARED


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """$IMGCLF_DATA, empty."""
    folder = tmp_path / "imgclf_data"
    monkeypatch.setenv("IMGCLF_DATA", str(folder))
    return folder


@pytest.fixture
def shared_data() -> Path:
    if not SHARED.exists():
        pytest.skip("needs the photographs in ../shared/data, which don't come with the repository")
    return SHARED


@pytest.fixture
def colour_folder(tmp_path: Path) -> Path:
    """A data set of three labels with 12 images each; see `write_colours`."""
    return write_colours(tmp_path / "colours")


@pytest.fixture
def distinct_folder(colour_folder: Path) -> Path:
    """The same with file names that differ between labels (b00.jpg, g00.jpg, r00.jpg), so that none stands in another's way when it is relabelled."""
    for path in [*colour_folder.glob("*/*.jpg")]:
        path.rename(path.with_name(f"{path.parent.name[0]}{path.name}"))
    return colour_folder


@pytest.fixture
def annotations(distinct_folder: Path) -> Annotations:
    return Annotations(scan.scan_folder("colours", distinct_folder))


@pytest.fixture
def tiny_network(tmp_path: Path) -> Path:
    """A network for images of 32 x 32 pixels; see `write_tiny_network`."""
    return write_tiny_network(tmp_path / "dnn_fixed.onnx")
