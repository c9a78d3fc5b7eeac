"""A data folder in which notebooks 01 to 05 have run, without a kernel."""

import shutil
from pathlib import Path

import pytest

from imgclf.experiments import sequence
from support import in_process
from support.in_process import Folder


@pytest.fixture(scope="package")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """01 to 05 have run on the colours, with the tiny network beside the data folder. It is read-only."""
    return in_process.finished(tmp_path_factory.mktemp("finished") / "data")


@pytest.fixture
def folder(finished: Folder, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """$IMGCLF_DATA, a copy of that data folder, in which notebooks run on."""
    in_process.leave_out_what_is_shown(monkeypatch)
    return Folder(shutil.copytree(finished.data, data_dir), finished.values)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The notebooks that runs execute, here without a kernel."""
    executed: list[str] = []

    def execute(path, folder, values, **_):
        executed.append(path.stem)
        return in_process.execute(path, folder, values)

    monkeypatch.setattr(sequence, "execute", execute)
    return executed
