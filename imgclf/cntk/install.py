"""`make cntk`: installs CNTK 2.7 with Python 3.6 into `.cntk` in the repository, and nowhere else."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from imgclf import ImgclfError, files
from imgclf.cntk import mpi_stub, process

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
REQUIRED_PYTHON = "3.6"
PYTHON_HINT = (
    "CNTK 2.7 needs Python 3.6, and there is none here; install it with pyenv on Debian "
    "(apt install build-essential libssl-dev zlib1g-dev libffi-dev libbz2-dev, then pyenv install 3.6.15), "
    "with `dnf install python3.6` on Fedora, "
    "or with `conda env create --prefix .cntk --file imgclf/cntk/environment.yml`; "
    "or set its path: CNTK_PYTHON=/path/to/python3.6 make cntk"
)


def install(home: Path) -> str:
    """Create the environment, verify it with a small network, and describe it.

    An unfinished environment is created again; one that conda created is completed.

    Raises
    ------
    ImgclfError : there is no Python 3.6, the packages cannot be installed, or CNTK computes wrong results.
    """
    (home / process.VERIFIED).unlink(missing_ok=True)
    if not (home / "conda-meta").exists():
        python = find_python()
        print(f"installing CNTK 2.7 into {home}, with {python}", flush=True)
        shutil.rmtree(home, ignore_errors=True)
        _run([python, "-m", "venv", home], f"{python}: cannot create an environment")
    if python_version(home / "bin" / "python") != REQUIRED_PYTHON:
        raise ImgclfError(
            f"{home}: its Python is not {REQUIRED_PYTHON}; delete the folder and run `make cntk` again"
        )
    _run(
        [
            home / "bin" / "python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--only-binary",
            ":all:",
            "-r",
            REQUIREMENTS,
        ],
        "the packages of CNTK could not be installed",
    )
    mpi_stub.write(home / process.MPI_STUBS)
    capabilities = verify(home)
    files.write_json(home / process.VERIFIED, capabilities)
    devices = ", ".join(capabilities["devices"])
    return f"CNTK {capabilities['cntk']} works in {home}; devices: {devices}"


def find_python() -> Path:
    """Path of a Python 3.6: $CNTK_PYTHON, or that of pyenv, the path, or a conda environment.

    Raises
    ------
    ImgclfError : there is none, or `$CNTK_PYTHON` is another version.
    """
    if named := os.environ.get("CNTK_PYTHON"):
        if python_version(Path(named)) != REQUIRED_PYTHON:
            raise ImgclfError(
                f"CNTK_PYTHON={named}: is {python_version(Path(named)) or 'no Python that runs'}, "
                f"and CNTK 2.7 needs Python {REQUIRED_PYTHON}; set it to a Python {REQUIRED_PYTHON}"
            )
        return Path(named)
    for candidate in _candidates():
        if python_version(candidate) == REQUIRED_PYTHON:
            return candidate
    raise ImgclfError(PYTHON_HINT)


def _candidates() -> Iterator[Path]:
    pyenv = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser()
    yield from sorted(pyenv.glob("versions/3.6*/bin/python"), reverse=True)
    if on_path := shutil.which("python3.6"):
        yield Path(on_path)
    if conda := os.environ.get("CONDA_PREFIX"):
        yield Path(conda) / "bin" / "python"


def python_version(python: Path) -> str:
    """Version of a Python, e.g. "3.6"; "" if it does not run."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        return subprocess.run(
            [python, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _run(command: list[str | Path], problem: str) -> None:
    inherited = {name: value for name, value in os.environ.items() if name not in process.NOT_INHERITED}
    done = subprocess.run(command, env=inherited, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise ImgclfError(f"{problem}: {lines[-1].strip() if lines else 'no reason given'}")


def verify(home: Path) -> dict[str, Any]:
    """Compare a small network in CNTK with numpy; return the capabilities of the worker.

    Raises
    ------
    ImgclfError : the results differ, or CNTK does not run.
    """
    random = np.random.default_rng(0)
    images, kernel = (
        random.integers(0, 256, (3, 5, 5, 3), np.uint8),
        random.normal(size=(4, 3, 3, 3)).astype(np.float32),
    )
    operators = [
        ("Transpose", ["images"], {"perm": [0, 3, 1, 2]}),
        ("Conv", ["0", "kernel"], {}),
        ("Relu", ["1"], {}),
        ("GlobalAveragePool", ["2"], {}),
        ("Flatten", ["3"], {}),
    ]
    nodes = [
        {"operator": operator, "inputs": inputs, "output": str(k), "attributes": attributes}
        for k, (operator, inputs, attributes) in enumerate(operators)
    ]
    with process.WorkerProcess(home=home) as cntk:
        cntk.request("build", {"kernel": kernel}, input="images", shape=[5, 5, 3], nodes=nodes, outputs=["4"])
        computed = cntk.request("run", {"images": images})[1]["0"]
        capabilities = cntk.capabilities
    windows = np.lib.stride_tricks.sliding_window_view(images.astype(np.float32), (3, 3), axis=(1, 2))
    expected = np.einsum("nyxcij,ocij->nyxo", windows, kernel).clip(0).mean(axis=(1, 2))
    if not np.allclose(computed, expected, rtol=1e-4, atol=1e-2):
        raise ImgclfError(
            f"{home}: CNTK's results differ from numpy's by {np.abs(computed - expected).max():.2g}; "
            "it cannot be used on this processor"
        )
    return capabilities


if __name__ == "__main__":
    try:
        print(install(process.HOME))
    except ImgclfError as problem:
        sys.exit(f"imgclf: {problem}")
