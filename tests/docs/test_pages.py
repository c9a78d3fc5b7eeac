"""README.md, CONTRIBUTING.md, CHANGELOG.md and docs/: their tables, commands, names, links and paths fit the package."""

import asyncio
import pkgutil
import re
import runpy
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import httpx
import pytest

from imgclf import parameters
from imgclf.classifier.model import Classifier
from imgclf.cli import main
from imgclf.experiments import notebooks
from imgclf.images import decoding
from imgclf.images.loading import Source
from imgclf.service.app import create_app
from support.classifiers import trained
from support.pictures import COLOURS, picture
from support.project import ROOT

TABLES = runpy.run_path(str(ROOT / "docs" / "write_tables.py"))
DOCS = sorted((ROOT / "docs").glob("*.md"))
FOR_USERS = [ROOT / "README.md", *DOCS]
PAGES = [
    *FOR_USERS,
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "benchmarks" / "RESULTS.md",
]
MOST_LINES = 120  # of the README
CODE = re.compile(r"^```\w*\n(.*?)^```|`([^`\n]+)`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r'\]\(([^)\s]+)\)|<img src="([^"]+)"')
# Not in the data folder: the environment of CNTK, files that exist only during an export, names of libraries, an example in notebooks/.
ELSEWHERE = {
    "preprocessor_config.json",
    "proven.json",
    "exported.onnx",
    "features.onnx",
    "network.onnx",
    "ai.onnx",
    "torch.onnx",
    "example_learning_curve.json",
}
FILE_NAME = re.compile(r'\\?"(\.?\w+\.(?:tsv|jsonl?|npz|png|onnx|lock|pending))\\?"')
SAMPLE = ROOT / "tests" / "samples" / "data_folder_0.1.0"

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@cache
def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def code(page: Path) -> Iterator[str]:
    """The fenced blocks and the inline code of a page."""
    return (block or span for block, span in CODE.findall(text(page)))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    prose = re.sub(r"^```.*?^```", "", text(page), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", TABLES["PAGES"], ids=lambda page: page.name)
def test_tables_are_those_that_the_code_makes(page):
    assert text(page) == TABLES["with_tables"](text(page)), f"{page.name} is out of date; run make docs"


def test_every_table_that_code_makes_is_on_a_page():
    on_pages = {found[1] for page in TABLES["PAGES"] for found in TABLES["MARKED"].findall(text(page))}
    assert on_pages == set(TABLES["TABLES"])


def test_a_table_that_is_out_of_date_is_replaced():
    page = "before\n<!-- made by make docs: backbones -->\n| old |\n<!-- end -->\nafter"
    written = TABLES["with_tables"](page)
    assert "old" not in written and "| `resnet18` | 11.2 M | 512 | 224 px |" in written
    assert written.startswith("before\n<!-- made by") and written.endswith("<!-- end -->\nafter")
    assert TABLES["with_tables"](written) == written


def test_readme_is_short():
    assert len(text(ROOT / "README.md").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("name", list(main.commands))
def test_each_command_is_documented(name):
    assert any(re.search(rf"\bimgclf {name}\b", found) for page in FOR_USERS for found in code(page))


@each_page
def test_each_command_on_a_page_exists(page):
    found = {name for each in code(page) for name in re.findall(r"(?<!from )\bimgclf ([a-z]+)", each)}
    assert found <= set(main.commands)


@pytest.mark.parametrize("page", FOR_USERS, ids=lambda page: page.name)
def test_each_make_target_on_a_page_exists(page):
    found = {name for each in code(page) for name in re.findall(r"^make ([a-z]+)", each, re.MULTILINE)}
    assert found <= set(re.findall(r"^([a-z]+):", text(ROOT / "Makefile"), re.MULTILINE))


@each_page
def test_each_link_leads_somewhere(page):
    for link in ("".join(found) for found in LINK.findall(text(page))):
        path, _, anchor = link.partition("#")
        if path.startswith("https://"):
            continue
        target = (page.parent / path) if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_readme_and_each_page_of_docs_link_to_each_other(page):
    assert f"(docs/{page.name})" in text(ROOT / "README.md")
    assert "(../README.md)" in text(page)


@pytest.mark.parametrize("name", parameters.PARAMETERS["precision"].allowed)
def test_each_precision_is_explained_where_precision_is(name):
    glossary = text(ROOT / "docs" / "glossary.md").splitlines()
    (row,) = (line for line in glossary if line.startswith("| engine, precision |"))
    assert f"`{name}`" in row


def test_each_path_in_contributing_exists():
    paths = {
        found
        for each in code(ROOT / "CONTRIBUTING.md")
        for found in re.findall(r"^(?:imgclf|tests|notebooks|docs|benchmarks)/[\w./]*$", each)
    }
    assert paths and [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the widgets' own definitions
def test_each_name_of_the_package_on_a_page_exists():
    now = re.findall(r"^  \|.*\| (.*) \|$", text(ROOT / "CHANGELOG.md"), re.MULTILINE)  # not: before
    sources = [*now, *(found for page in (*FOR_USERS, ROOT / "CONTRIBUTING.md") for found in code(page))]
    names = {name for source in sources for name in re.findall(r"\bimgclf(?!\.toml|\.id)(?:\.\w+)+", source)}
    assert "imgclf.classifier.predict.predict" in names
    for name in names:
        pkgutil.resolve_name(name)  # raises ImportError or AttributeError


def test_first_python_snippet_of_serving_runs(tiny_network, colour_folder, tmp_path, monkeypatch, capsys):
    page = ROOT / "docs" / "serving.md"
    snippet, *_ = re.findall(r"^```python\n(.*?)^```", text(page), re.MULTILINE | re.DOTALL)
    model = trained(tiny_network, colour_folder).rename(tmp_path / "classifier.onnx")
    photograph = tmp_path / "photographs" / "blouse.jpg"
    photograph.parent.mkdir()
    photograph.write_bytes(decoding.jpeg(picture(COLOURS["green"], seed=9)))
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, page.name, "exec"), {})
    ((_, expected),) = Classifier.load(model).predict([Source(photograph)])
    assert expected.label == "green"
    assert (
        capsys.readouterr().out == f"{[('photographs/blouse.jpg', 'green', expected.probabilities.max())]}\n"
    )


def named_files() -> set[str]:
    """The names of files that stand in the package and in the notebooks, but for those outside the data folder."""
    sources = [*(ROOT / "imgclf").rglob("*.py"), *notebooks.paths()]
    return {name for path in sources for name in FILE_NAME.findall(text(path))} - ELSEWHERE


@pytest.mark.parametrize("name", sorted(named_files()))
def test_each_file_of_the_data_folder_is_documented(name):
    assert re.search(rf"`(?:images/NAME/)?{re.escape(name)}`", text(ROOT / "docs" / "data_folder.md"))


@pytest.mark.parametrize(
    "path", [path.relative_to(SAMPLE).as_posix() for path in SAMPLE.rglob("*") if path.is_file()]
)
def test_each_file_of_a_real_data_folder_is_documented(path):
    rows = re.findall(r"^\| (`.*?`) \|", text(ROOT / "docs" / "data_folder.md"), re.MULTILINE)
    patterns = [
        re.sub(r"NAME|LABEL|NETWORK-HASH-PRECISION|…", "*", name)
        for row in rows
        for name in re.findall(r"`(.*?)`", row)
    ]
    assert any(fnmatch(path, pattern) or fnmatch(path, f"proc/*/{pattern}") for pattern in patterns)


def test_endpoints_on_the_page_are_those_of_the_service():
    async def schema() -> dict:
        transport = httpx.ASGITransport(create_app(lambda: Path("no such file")))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return (await client.get("/openapi.json")).json()

    section = text(ROOT / "docs" / "serving.md").partition("## Endpoints")[2].partition("\n## ")[0]
    for path, methods in asyncio.run(schema())["paths"].items():
        for method in methods:
            assert f"`{method.upper()} {path.replace('{name}', 'NAME')}`" in section
