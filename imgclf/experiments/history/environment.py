"""What a run was made with beside its parameters: versions, the commit of its notebooks, the processor."""

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from imgclf import __version__, files

PACKAGES = ("numpy", "onnx", "onnxruntime", "openvino", "scikit-learn", "torch")
GIT_SECONDS = 10
# The settings of an untrusted project may name programs, which `git status` would start. Filters, which have
# names of their own, cannot be turned off: with them the state is left out.
HOOKS = f"core.hooksPath={os.devnull}"
WITHOUT_PROGRAMS = ("--no-optional-locks", "-c", "core.fsmonitor=false", "-c", HOOKS)
FILTERS = ("--includes", "--name-only", "--get-regexp", r"^filter\.")


def described() -> dict[str, str]:
    """Return versions, git commit and processor, by names for people; what is unknown is left out."""
    return dict(_described())


def _described() -> Iterator[tuple[str, str]]:
    yield "imgclf version", __version__
    yield "Python version", platform.python_version()
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            yield f"{package} version", version(package)
    if commit := _git("rev-parse", "HEAD"):
        yield "git commit", commit
        if not any(_git("config", scope, *FILTERS) for scope in ("--local", "--worktree")):
            is_changed = _git("status", "--porcelain", "--ignore-submodules=dirty")
            yield "git state", "changed since" if is_changed else "as committed"
    yield "processor", f"{_processor()}, {os.cpu_count()} cores"


def _git(*arguments: str) -> str:
    """Return what git says of the project, or of the clone; empty without git or outside a repository."""
    folder = files.project_dir() or files.CLONE
    if folder is None:  # an installed package is part of no repository, even if one is around it
        return ""
    try:
        return subprocess.run(
            ["git", "-C", str(folder), *WITHOUT_PROGRAMS, *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=GIT_SECONDS,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _processor() -> str:
    """Return the name of the processor."""
    for line in files.read_text(Path("/proc/cpuinfo")).splitlines():  # Linux; elsewhere there is no such file
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
