"""Write the tables of the documentation that code can make, and the parameters cells: `make docs`.

A table stands between `<!-- made by make docs: NAME -->` and `<!-- end -->`, where NAME is a key of `TABLES`.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import nbformat

from imgclf import cli, files, parameters
from imgclf.experiments import notebooks
from imgclf.networks import catalogue
from imgclf.networks.backbones import BACKBONES
from imgclf.networks.catalogue import Entry
from imgclf.parameters import Parameter

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MARKED = re.compile(r"(<!-- made by make docs: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
HELP_COLUMNS = 100
# By `imgclf backbones --measure` with two cores of an AMD EPYC with AVX-512; docs/backbones.md says so.
MILLISECONDS = {
    "efficientnet_lite0": 4.4,
    "efficientnet_lite1": 6.9,
    "resnet18": 16.1,
    "resnet34": 32.0,
    "resnet50": 38.5,
    "mobilenet_v3_large": 2.7,
    "efficientnet_v2_s": 92.0,
    "convnext_tiny": 49.7,
}
EVERYWHERE = {"parameters", "plots", "files"}  # rooms that nearly all notebooks import


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def accuracies() -> str:
    """Return the accuracies on the demo set in the committed notebook 05."""
    lines = _stored_output("05_evaluate", "overall accuracy").splitlines()
    return "\n".join(["```text", *(line.rstrip() for line in lines), "```"])


def _stored_output(name: str, text: str) -> str:
    """Return the first text or table in a notebook that contains `text`."""
    notebook = nbformat.read(notebooks.NOTEBOOKS / f"{name}.ipynb", as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = (each.get("text") or each.get("data", {}).get("text/plain", "") for each in outputs)
    found = next((shown for shown in texts if text in shown), None)
    if found is None:
        raise SystemExit(f"{name}.ipynb: no cell shows '{text}'; run make notebooks first")
    return found


def parameter_table() -> str:
    """Return all parameters: default, allowed values, notebooks, meaning, the tutorial's name."""
    rows = (
        (
            f"`{p.name}`",
            f"`{parameters.code(p.default)}`",
            p.expected,
            _span(p.notebooks),
            "; ".join([p.meaning, *_idle(p)]),
            f"`{p.tutorial}`" if p.tutorial else "",
        )
        for p in parameters.PARAMETERS.values()
    )
    return table(("parameter", "default", "allowed", "notebooks", "meaning", "in the tutorial"), rows)


def _idle(parameter: Parameter) -> list[str]:
    """Return in words with which values of others a parameter does not change the classifier."""
    cases = [
        f"`{other}={parameters.code(value)}`"
        for other, values in parameter.idle_with.items()
        for value in values
    ]
    return [f"no effect on the classifier with {' or '.join(cases)}"] if cases else []


def _span(numbers: tuple[str, ...]) -> str:
    """Return the numbers of notebooks in words: "all", "02 to 05", "03, 05"."""
    if numbers == parameters.ALL:
        return "all"
    is_row = len(numbers) > 2 and int(numbers[-1]) - int(numbers[0]) == len(numbers) - 1
    return f"{numbers[0]} to {numbers[-1]}" if is_row else ", ".join(numbers)


def backbone_table() -> str:
    """Return the backbones that are known by name."""
    rows = (
        (
            f"`{each.name}`",
            f"{each.parameters} M",
            str(each.features),
            f"{each.input_size} px",
            f"{MILLISECONDS[each.name]}" if each.name in MILLISECONDS else "",
            each.accuracy,
            each.licence,
            _weights(each),
        )
        for each in catalogue.ENTRIES
    )
    header = ("`backbone=`", "parameters", "features", "input size", "ms", "accuracy", "licence", "weights")
    return table(header, rows)


def _weights(entry: Entry) -> str:
    if entry.name not in BACKBONES:
        page = f"https://huggingface.co/{entry.name.removeprefix('hf/')}"
        return f"[Hugging Face Hub]({page}), {entry.megabytes} MB"
    backbone = BACKBONES[entry.name]
    if backbone.package:
        return f"package `{backbone.package}`, installed with imgclf"
    return f"[{backbone.url.rpartition('/')[2]}]({backbone.url}), {entry.megabytes} MB"


def command_table() -> str:
    """Return the commands: usage, and the first sentence of their help."""
    rows = (
        (
            f"[`{context.command_path}`](#imgclf-{context.info_name})",
            f"`{_arguments(context)}`",
            _summary(context),
        )
        for context in _contexts()
    )
    return table(("command", "arguments", ""), rows)


def command_help() -> str:
    """Return what `imgclf COMMAND --help` prints, a section for each command."""
    return "\n\n".join(
        f"## `{context.command_path}`\n\n```text\n{context.get_help()}\n```" for context in _contexts()
    )


def _contexts() -> Iterator[click.Context]:
    main = click.Context(cli.main, info_name="imgclf", **cli.main.context_settings)
    for name, command in cli.main.commands.items():
        yield click.Context(command, parent=main, info_name=name, terminal_width=HELP_COLUMNS)


def _arguments(context: click.Context) -> str:
    return " ".join(context.command.collect_usage_pieces(context))


def _summary(context: click.Context) -> str:
    return context.command.get_short_help_str(limit=HELP_COLUMNS**2)


def notebook_table() -> str:
    """Return the rooms of the package that each notebook imports, and the tests of these rooms."""
    rows = (
        (
            f"[{path.stem}](notebooks/{path.name})",
            " ".join(f"`{_room(name)}`" for name in _imported(path)),
            " ".join(f"`{_tests(name)}`" for name in _imported(path)),
        )
        for path in notebooks.paths()
    )
    return table(("notebook", "rooms", "tests"), rows)


def _imported(path: Path) -> list[str]:
    """Return the names of the rooms that a notebook imports, sorted, without those of `EVERYWHERE`."""
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    imports = [
        node for cell in cells for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.ImportFrom)
    ]
    names = [f"{node.module}.{alias.name}".split(".") for node in imports for alias in node.names]
    return sorted({parts[1] for parts in names if parts[0] == "imgclf"} - EVERYWHERE)


def _room(name: str) -> str:
    return f"{name}/" if (ROOT / "imgclf" / name).is_dir() else name


def _tests(name: str) -> str:
    return f"tests/{name}/" if (ROOT / "tests" / name).is_dir() else f"tests/test_{name}.py"


TABLES = {
    "accuracies": accuracies,
    "parameters": parameter_table,
    "backbones": backbone_table,
    "commands": command_table,
    "help": command_help,
    "notebooks": notebook_table,
}


def with_tables(text: str) -> str:
    """Return the text of a page with its tables as the code makes them now."""
    return MARKED.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}\n{found[4]}", text)


def write_parameters_cells() -> None:
    """Restore the parameters cell of each notebook: the defaults and meanings of `parameters.table`."""
    for path in notebooks.shipped():
        notebook = nbformat.read(path, as_version=4)
        cell, source = notebooks.parameters_cell(notebook, path.name), notebooks.cell_source(path.name[:2])
        if cell.source != source:
            cell.source = source
            files.write_text(path, nbformat.writes(notebook) + "\n")
            print(f"changed {path.name}")


def main() -> None:
    """Rewrite the parameters cells and the pages that are out of date."""
    write_parameters_cells()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if (current := with_tables(text)) != text:
            files.write_text(page, current)
            print(f"changed {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
