"""A running worker, broken environments, and old models."""

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from imgclf.cntk import WorkerProcess, process
from support.project import ROOT


@pytest.fixture(autouse=True, scope="session")
def installed() -> Path:
    """The environment of CNTK; skips where `make cntk` was not run, and fails there in CI."""
    if not (process.HOME / process.VERIFIED).exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("needs CNTK: make cntk")
    return process.HOME


@pytest.fixture
def cntk() -> Iterator[WorkerProcess]:
    with WorkerProcess() as running:
        yield running


@pytest.fixture
def wrapped(tmp_path: Path, installed: Path) -> Callable[[str], Path]:
    """Creates an environment whose `python` is a shell script, in which $PYTHON is the real one."""

    def make(script: str) -> Path:
        home = tmp_path / "wrapped"
        (home / "bin").mkdir(parents=True)
        (home / process.MPI_STUBS).symlink_to(installed / process.MPI_STUBS)
        python = home / "bin" / "python"
        python.write_text(f"#!/bin/bash\nPYTHON={installed}/bin/python\n{script}\n")
        python.chmod(0o755)
        return home

    return make


MAKER = ROOT.parent / "shared" / "tools" / "make_old_model.py"  # does not come with the repository
VARIANTS = {
    "plain": {},
    "larger": {"--seed": "3", "--size": "97", "--widths": "8,12,16", "--blocks": "1,2,1", "--classes": "3"},
    "wide": {"--seed": "7", "--size": "80", "--widths": "4,24", "--blocks": "2,1", "--classes": "2"},
}


@dataclass(frozen=True)
class Old:
    """The two models of a variant, and their outputs according to `make_old_model.py`."""

    folder: Path
    values: dict[str, np.ndarray]

    @property
    def refined(self) -> Path:
        return self.folder / "old.model"

    @property
    def base(self) -> Path:
        return self.folder / "old_base.model"

    @property
    def images(self) -> np.ndarray:
        """(n, S, S, 3) uint8, RGB."""
        return np.ascontiguousarray(self.values["images"].astype(np.uint8)[:, ::-1].transpose(0, 2, 3, 1))

    def labels(self, key: str) -> list[str]:
        return [f"class {k}" for k in range(self.values[key].shape[1])]


def made(folder: Path, installed: Path, options: dict[str, str]) -> Old:
    if not MAKER.exists():
        pytest.skip("needs ../shared/tools/make_old_model.py, which doesn't come with the repository")
    given = [text for pair in options.items() for text in pair]
    subprocess.run(
        [installed / "bin" / "python", MAKER, folder, "--mpi", installed / process.MPI_STUBS, *given],
        check=True,
        capture_output=True,
    )
    with np.load(folder / "old.npz") as values:
        return Old(folder, {name: values[name] for name in values if name != "meta"})


@pytest.fixture(scope="module", params=VARIANTS)
def old(request, tmp_path_factory, installed) -> Old:
    return made(tmp_path_factory.mktemp(request.param), installed, VARIANTS[request.param])


@pytest.fixture(scope="module")
def plain(tmp_path_factory, installed) -> Old:
    return made(tmp_path_factory.mktemp("plain"), installed, {})
