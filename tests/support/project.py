"""Paths, versions and dependencies from the files of the project."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"  # photographs that don't come with the repository
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = [
    Requirement(line)
    for line in (ROOT / "requirements.lock").read_text().splitlines()
    if line and not line.startswith("#")
]
PYTHONS = ("3.11", "3.12", "3.13")


def pins(python: str) -> dict[str, str]:
    """Return package and version of each dependency that the lock installs on Linux x86-64 with this Python."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "os_name": "posix",
    }
    return {
        canonicalize_name(r.name): str(next(iter(r.specifier)).version)
        for r in LOCK
        if r.marker is None or r.marker.evaluate(environment)
    }
