"""What commands print: the results of images as they come, and the table of the parameters."""

import json
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

import click

from imgclf import ImgclfError

if TYPE_CHECKING:
    from imgclf.classifier.results import Labelled, Refused
    from imgclf.parameters import Parameter

Command = TypeVar("Command", bound=Callable[..., Any])


class ResultOptions(TypedDict):
    """The options of the commands that predict; see `result_options`."""

    as_json: bool
    csv_path: Path | None
    replace: bool
    sort_into: Path | None


def result_options(command: Command) -> Command:
    """Add the options that say what becomes of the results."""
    options = (
        click.option("--json", "as_json", is_flag=True, help="Print a JSON list with all scores."),
        click.option(
            "--csv",
            "csv_path",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Also write label, score, probability, familiarity and path of each image to this file.",
        ),
        click.option("--replace", is_flag=True, help="Overwrite an existing CSV file."),
        click.option(
            "--sort-into",
            type=click.Path(path_type=Path, file_okay=False),
            metavar="FOLDER",
            help="Also copy each image into a subfolder of its label, or of why it has none: unsure or "
            "unfamiliar. Overwrites no file.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def print_results(
    results: "Iterable[tuple[Path, Labelled | Refused]]",
    *,
    as_json: bool,
    csv_path: Path | None,
    replace: bool,
    sort_into: Path | None,
    left_out: Counter[str],
) -> None:
    """Print each result as it comes; images that could not be read go to stderr, and so do files left out.

    Parameters
    ----------
    left_out : the suffixes of files in folders that are no images; complete when all results are taken.

    Raises
    ------
    ImgclfError : no image could be read, or the CSV file exists and may not be replaced.
    """
    from imgclf.classifier.results import Refused, copy_into, csv_file, in_one_cell
    from imgclf.images import kinds

    if csv_path and csv_path.exists() and not replace:
        raise ImgclfError(f"{csv_path}: exists already; name another file, or overwrite it with --replace")
    count = 0
    with ExitStack() as stack:
        say = stack.enter_context(_json_list() if as_json else _lines())
        add_row = stack.enter_context(csv_file(csv_path)) if csv_path else None
        for path, result in results:
            if isinstance(result, Refused):
                click.echo(in_one_cell(f"skipped {path}: {result.reason}"), err=True)
                continue
            count += 1
            say(path, result)
            if add_row:
                add_row(path, result)
            if sort_into:
                copy_into(sort_into, path, result.name)
        if left_out:
            counts = [f"{number} x {kinds.named(suffix)}" for suffix, number in left_out.most_common(5)]
            click.echo(in_one_cell(f"left out: {', '.join(counts)}; no images that are read"), err=True)
        if not count:
            raise ImgclfError("none of the images could be read")


@contextmanager
def _lines() -> "Iterator[Callable[[Path, Labelled], None]]":
    """Yield a function that prints an image's line, below a header; no header without images."""
    from imgclf.classifier.results import COLUMNS

    header = ["\t".join(COLUMNS)]

    def say(path: Path, result: "Labelled") -> None:
        while header:
            click.echo(header.pop())
        click.echo(result.as_line(path))

    yield say


@contextmanager
def _json_list() -> "Iterator[Callable[[Path, Labelled], None]]":
    """Yield a function that prints an image's item of a JSON list; the list is closed after an error too."""
    separator = "[\n"

    def say(path: Path, result: "Labelled") -> None:
        nonlocal separator
        click.echo(separator + textwrap.indent(json.dumps(result.as_json(path), indent=2), "  "), nl=False)
        separator = ",\n"

    try:
        yield say
    finally:
        click.echo("[]" if separator == "[\n" else "\n]")


def print_parameters(listed: "Iterable[Parameter]") -> None:
    """Print name, default and meaning of each parameter: on a terminal in its width, else one to a line."""
    from imgclf.parameters import code

    rows = [(p.name, code(p.default), f"{p.meaning}; {p.expected}") for p in listed]
    if not sys.stdout.isatty():
        click.echo("\n".join(f"{name:<21} {default:<20} {meaning}" for name, default, meaning in rows))
        return
    width = shutil.get_terminal_size().columns
    formatter = click.HelpFormatter(width=width)
    named = [(f"{name} = {default}", meaning) for name, default, meaning in rows]
    formatter.write_dl(named, col_max=min(30, width // 4))
    click.echo(formatter.getvalue(), nl=False)
