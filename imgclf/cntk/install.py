"""`make cntk`: an environment with Python 3.6 and CNTK 2.7 in the folder `.cntk` of the repository; nothing outside is changed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from imgclf import ImgclfError, files
from imgclf.cntk import mpi_stub, process

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
WANTED = "3.6"
WHERE_FROM = (
    "CNTK 2.7 needs Python 3.6, and there is none here; get it with pyenv on Debian (apt install build-essential libssl-dev zlib1g-dev libffi-dev libbz2-dev, "
    "then pyenv install 3.6.15), with `dnf install python3.6` on Fedora, or with `conda env create --prefix .cntk --file imgclf/cntk/environment.yml`; "
    "or name one: CNTK_PYTHON=/path/to/python3.6 make cntk"
)


def install(home: Path) -> str:
    """Make the environment, prove it by computing a small network, and say what it is.

    One that a broken-off `make cntk` left is made anew; one that conda made is completed.

    Raises
    ------
    ImgclfError : there is no Python 3.6, packages could not be had, or CNTK computes something wrong.
    """
    (home / process.PROVEN).unlink(missing_ok=True)
    if not (home / "conda-meta").exists():
        python = find_python()
        print(f"installing CNTK 2.7 into {home}, with {python}", flush=True)
        shutil.rmtree(home, ignore_errors=True)
        _run([python, "-m", "venv", home], f"{python}: cannot make an environment")
    if version(home / "bin" / "python") != WANTED:
        raise ImgclfError(f"{home}: its Python is not {WANTED}; delete the folder and run `make cntk` again")
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
    mpi_stub.write(home / process.MPI)
    about = proof(home)
    files.write_json(home / process.PROVEN, about)
    return f"CNTK {about['cntk']} works in {home}; devices: {', '.join(about['devices'])}"


def find_python() -> Path:
    """A Python 3.6: $CNTK_PYTHON, that of the path, of pyenv, or of a conda environment.

    Raises
    ------
    ImgclfError : there is none, or `$CNTK_PYTHON` is another version.
    """
    if named := os.environ.get("CNTK_PYTHON"):
        if version(Path(named)) != WANTED:
            raise ImgclfError(
                f"CNTK_PYTHON={named}: is {version(Path(named)) or 'no Python that runs'}, and CNTK 2.7 needs Python {WANTED}"
            )
        return Path(named)
    for found in _candidates():
        if version(found) == WANTED:
            return found
    raise ImgclfError(WHERE_FROM)


def _candidates() -> Iterator[Path]:
    pyenv = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser()
    yield from sorted(pyenv.glob("versions/3.6*/bin/python"), reverse=True)
    if on_path := shutil.which("python3.6"):
        yield Path(on_path)
    if conda := os.environ.get("CONDA_PREFIX"):
        yield Path(conda) / "bin" / "python"


def version(python: Path) -> str:
    """ "3.6" of a Python 3.6; "" of what does not run."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        return subprocess.run(
            [python, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _run(command: list[str | Path], problem: str) -> None:
    kept = {name: value for name, value in os.environ.items() if name not in process.NOT_INHERITED}
    done = subprocess.run(command, env=kept, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise ImgclfError(f"{problem}: {lines[-1].strip() if lines else 'no reason given'}")


def proof(home: Path) -> dict[str, object]:
    """Compute a small network in CNTK and in numpy; what the worker says of itself.

    Raises
    ------
    ImgclfError : the two differ, or CNTK does not run.
    """
    random = np.random.default_rng(0)
    images, kernel = (
        random.integers(0, 256, (3, 5, 5, 3), np.uint8),
        random.normal(size=(4, 3, 3, 3)).astype(np.float32),
    )
    steps = [
        ("Transpose", ["images"], {"perm": [0, 3, 1, 2]}),
        ("Conv", ["0", "kernel"], {}),
        ("Relu", ["1"], {}),
        ("GlobalAveragePool", ["2"], {}),
        ("Flatten", ["3"], {}),
    ]
    listed = [
        {"operator": operator, "inputs": inputs, "output": str(k), "attributes": attributes}
        for k, (operator, inputs, attributes) in enumerate(steps)
    ]
    with process.Process(home=home) as cntk:
        cntk.ask("build", {"kernel": kernel}, input="images", shape=[5, 5, 3], steps=listed, outputs=["4"])
        found = cntk.ask("run", {"images": images})[1]["0"]
        about = cntk.about
    windows = np.lib.stride_tricks.sliding_window_view(images.astype(np.float32), (3, 3), axis=(1, 2))
    expected = np.einsum("nyxcij,ocij->nyxo", windows, kernel).clip(0).mean(axis=(1, 2))
    if not np.allclose(found, expected, rtol=1e-4, atol=1e-2):
        raise ImgclfError(
            f"{home}: CNTK computes something else than numpy ({np.abs(found - expected).max():.2g} off); it cannot be used on this processor"
        )
    return about


if __name__ == "__main__":
    try:
        print(install(process.HOME))
    except ImgclfError as problem:
        sys.exit(f"imgclf: {problem}")
