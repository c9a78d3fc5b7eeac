"""pyproject.toml, requirements.lock and environment.yml have the same versions."""

from importlib.metadata import version

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from support.project import LOCK, PROJECT, PYTHONS, ROOT, pins


def test_every_line_of_the_lock_pins_one_version():
    assert all([s.operator for s in requirement.specifier] == ["=="] for requirement in LOCK)


@pytest.mark.parametrize("python", PYTHONS)
def test_lock_pins_each_dependency_to_an_allowed_version(python):
    optional = [line for group in PROJECT["optional-dependencies"].values() for line in group]
    for wanted in map(Requirement, PROJECT["dependencies"] + optional):
        assert pins(python)[canonicalize_name(wanted.name)] in wanted.specifier, wanted.name


def test_exactly_the_supported_python_versions_are_allowed():
    allowed = SpecifierSet(PROJECT["requires-python"])
    assert [python in allowed for python in ("3.10", *PYTHONS, "3.14")] == [False, True, True, True, False]


def test_conda_installs_the_lock():
    lines = [line.strip() for line in (ROOT / "environment.yml").read_text().splitlines()]
    assert "- -r requirements.lock" in lines and "- -e ." in lines
    python = next(line.removeprefix("- python=") for line in lines if line.startswith("- python="))
    assert python in PYTHONS


def test_lock_contains_no_cuda_package():
    assert not [name for name in pins("3.12") if name.startswith(("nvidia", "cuda", "triton"))]


def test_installed_versions_are_those_of_the_lock():
    import sys

    locked = pins(f"{sys.version_info.major}.{sys.version_info.minor}")
    dependencies = [canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]]
    assert {name: version(name).partition("+")[0] for name in dependencies} == {
        name: locked[name] for name in dependencies
    }
