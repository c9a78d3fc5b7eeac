"""Real JPEGs, a small real network, and a data folder of its own for each test."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from imgclf.annotation.annotations import Annotations
from imgclf.data import scan
from imgclf.experiments.history import tracking
from support import parallel
from support.networks import write_tiny_network
from support.pictures import write_colours
from support.project import SHARED

hypothesis.settings.register_profile("no deadline", parent=hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("no deadline")  # other processes may be at work

# A shell that starts pytest in the background lets it ignore Ctrl-C; some tests send one.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

TESTS = Path(__file__).parent
MARKERS_OF_FOLDERS = {"browser": ("browser", "notebooks", "slow"), "cntk": ("cntk",), "service": ("service",)}
MARKERS_OF_FIXTURES = {"chromium": ("browser",), "container": ("service", "slow"), "networks": ("slow",)}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Add the markers of folders and fixtures, and sort the tests, the longest first."""
    for item in items:
        names = MARKERS_OF_FOLDERS.get(item.path.relative_to(TESTS).parts[0], ())
        for fixture in getattr(item, "fixturenames", ()):
            names += MARKERS_OF_FIXTURES.get(fixture, ())
        for name in names:
            item.add_marker(name)
    parallel.sort(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> parallel.GroupScheduling:
    return parallel.GroupScheduling(config, log)


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """$IMGCLF_DATA, empty."""
    folder = tmp_path / "imgclf_data"
    monkeypatch.setenv("IMGCLF_DATA", str(folder))
    return folder


@pytest.fixture(scope="session", autouse=True)
def without_mlflow() -> Iterator[None]:
    """Runs are kept as files only: handing one in to MLflow takes three seconds. See `with_mlflow`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking, "is_installed", lambda: False)
        yield


@pytest.fixture
def with_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are handed in to MLflow, too."""
    monkeypatch.setattr(tracking, "is_installed", lambda: True)


@pytest.fixture(scope="session")
def copy_descriptor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network that finds altered copies, exported once: each new data folder would export it for ten seconds."""
    from imgclf.features import copy_detection

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGCLF_DATA", str(tmp_path_factory.mktemp("exported")))
        return copy_detection.network()


@pytest.fixture
def with_copy_descriptor(copy_descriptor: Path, data_dir: Path) -> Path:
    """The network that finds altered copies, in $IMGCLF_DATA."""
    (data_dir / "networks").mkdir(parents=True)
    return Path(shutil.copy(copy_descriptor, data_dir / "networks"))


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
