"""The README says what is true of the package."""

import re

import pytest

from imgclf import parameters
from imgclf.cli import main
from support.project import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_table_of_parameters_is_the_one_that_the_package_makes():
    assert parameters.table() in README


@pytest.mark.parametrize("name", sorted(main.commands))
def test_each_command_is_in_the_readme(name):
    assert f"`imgclf {name}" in README


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\bimgclf ([a-z]+)", README))))
def test_each_command_of_the_readme_exists(name):
    assert name in main.commands or name == "in"


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", README))
def test_each_link_leads_somewhere(link):
    assert (ROOT / link).exists()


def test_each_make_target_of_the_readme_exists():
    targets = set(re.findall(r"^make ([a-z]+)|`make ([a-z]+)", README, re.MULTILINE))
    targets = {name for pair in targets for name in pair if name}
    assert targets and targets <= set(
        re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    )
