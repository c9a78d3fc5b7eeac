"""The commands of the run history, which read the files below `runs/` alone."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imgclf import ImgclfError, first_few

if TYPE_CHECKING:
    from imgclf.experiments.history.run import Run

HEADER = ("id", "when", "data set", "classifier", "accuracy", "")
LONGEST_ERROR = 60  # letters, in the table
MB = 10**6

run_argument = click.argument("text", metavar="ID")


@click.group("runs", invoke_without_command=True)
@click.option("--dataset", "dataset_name", default="", metavar="NAME", help="Only runs of this data set.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list with all that is recorded.")
@click.pass_context
def runs_group(context: click.Context, dataset_name: str, as_json: bool) -> None:
    """List the run history, newest first: each `imgclf run`, evaluation by hand, and trial of a sweep.

    The commands below take an ID: its first digits, or the name of the run.

    Example: imgclf runs --dataset fruit
    """
    from imgclf import files
    from imgclf.experiments.history import runs

    if context.invoked_subcommand:
        return
    everything, damaged = runs.listing()
    found = [run for run in everything if dataset_name in ("", run.dataset_name)]
    for path in damaged:
        click.echo(_one_line(f"left out: {path}: damaged; delete its folder, or restore the file"), err=True)
    if as_json:
        attributes = [{**vars(run), "folder": str(run.folder)} for run in found]
        click.echo(files.to_json(attributes, indent=2))
    elif found:
        click.echo(_table([HEADER, *map(_row, found)]))
    elif names := sorted({run.dataset_name for run in everything} - {""}):
        click.echo(f"no runs of {dataset_name!r}; there are runs of {first_few(names)}", err=True)
    else:
        click.echo("no runs yet: imgclf run and notebook 05_evaluate record them", err=True)


@runs_group.command("show")
@run_argument
def show_run(text: str) -> None:
    """Print all that is recorded of a run.

    Example: imgclf runs show 3fa1
    """
    from imgclf.experiments.history import runs

    click.echo("\n".join(map(_one_line, _described(runs.find(text)))))


@runs_group.command("name")
@run_argument
@click.argument("name")
def name_run(text: str, name: str) -> None:
    """Give a run another name. Its folder keeps the old one.

    Example: imgclf runs name 3fa1 "with the new lamp"
    """
    from imgclf.experiments.history import runs

    run = runs.change(runs.find(text), name=name)
    click.echo(_one_line(f"{run.short_id} {run.name}"))


@runs_group.command("note")
@run_argument
@click.argument("note")
def note_run(text: str, note: str) -> None:
    """Write a note to a run, in place of the one before; an empty one removes it.

    Example: imgclf runs note 3fa1 "relabelled the dotted blouses before"
    """
    from imgclf.experiments.history import runs

    run = runs.change(runs.find(text), note=note)
    click.echo(_one_line(f"{run.short_id} {run.name}: {run.note or 'no note'}"))


@runs_group.command("tag")
@run_argument
@click.argument("tags", nargs=-1, required=True, metavar="TAG...")
@click.option("--remove", is_flag=True, help="Remove these tags.")
def tag_run(text: str, tags: tuple[str, ...], remove: bool) -> None:
    """Add tags to a run.

    Example: imgclf runs tag 3fa1 published
    """
    from imgclf.experiments.history import runs

    run = runs.find(text)
    if remove and (unknown := [tag for tag in tags if tag not in run.tags]):
        raise ImgclfError(
            f"{run.name}: has no tag {unknown[0]!r}; its tags are {', '.join(run.tags) or 'none'}"
        )
    kept = [tag for tag in run.tags if tag not in tags]
    run = runs.change(run, tags=kept if remove else [*run.tags, *tags])
    click.echo(_one_line(f"{run.short_id} {run.name}: {', '.join(run.tags) or 'no tags'}"))


@runs_group.command("delete")
@click.argument("texts", nargs=-1, required=True, metavar="ID...")
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete_runs(texts: tuple[str, ...], yes: bool) -> None:
    """Delete runs: their folders, the weights that no other run needs, and with the next run their copies in
    MLflow. Results in proc/ stay.

    Example: imgclf runs delete 3fa1 77c0
    """
    from imgclf.experiments.history import runs

    found = {run.id: run for run in map(runs.find, texts)}.values()
    for run in found:
        size = sum(path.stat().st_size for path in run.folder.rglob("*") if path.is_file())
        click.echo(_one_line(f"{run.short_id} {run.name}: {run.folder}, {size / MB:.1f} MB"))
    if not yes:
        click.confirm(f"Delete {'this run' if len(found) == 1 else f'these {len(found)} runs'}?", abort=True)
    for run in found:
        runs.delete(run)
    click.echo(f"deleted {len(found)}")


@runs_group.command("classifier")
@run_argument
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE")
@click.option("--replace", is_flag=True, help="Overwrite an existing file.")
def write_classifier(text: str, target: Path, replace: bool) -> None:
    """Write the classifier.onnx of a run, byte for byte as it was evaluated.

    Example: imgclf runs classifier 3fa1 fruit.onnx
    """
    from imgclf.experiments.history import runs

    run = runs.find(text)
    if target.exists() and not replace:
        raise ImgclfError(f"{target}: exists already; name another file, or overwrite it with --replace")
    click.echo(f"{runs.classifier(run, target)}: the classifier of {_one_line(run.name)}")


def _row(run: "Run") -> Sequence[str]:
    from imgclf.experiments.history import runs
    from imgclf.experiments.history.run import ACCURACY, circumstances, in_percent

    shown = in_percent(run.metrics, ACCURACY)
    words = ["" if run.status == runs.FINISHED else run.status]
    if run.error:
        words = [f"failed: {run.error[:LONGEST_ERROR]}{'…' * (len(run.error) > LONGEST_ERROR)}"]
    words += [
        circumstances(run),
        run.name if run.name != run.folder.name else "",
        *(f"#{tag}" for tag in run.tags),
    ]
    when, classifier = f"{run.time:%Y-%m-%d %H:%M}", str(run.parameters.get("classifier", ""))
    return run.short_id, when, run.dataset_name, classifier, shown, " ".join(filter(None, words))


def _described(run: "Run") -> Iterator[str]:
    """Yield lines about all that is recorded of a run."""
    yield run.name
    yield from _pairs(
        {
            "id": run.id,
            "folder": run.folder,
            "kind": run.kind,
            "data set": run.dataset_name,
            "started": run.time.strftime("%Y-%m-%d %H:%M:%S %z"),
            "status": ": ".join(filter(None, [run.status, run.error])),
            "note": run.note,
            "tags": ", ".join(run.tags),
            "in MLflow": ", ".join(run.handed_in),
        }
    )
    yield from _section("values of this trial", run.values)
    if run.metrics:
        yield from ("", "metrics with 95 % intervals")
        yield from _pairs(dict(_metrics(run.metrics)))
    for side, labels in run.counts.items():
        yield from _section(f"{side} images", labels)
    yield from _section("parameters", run.parameters)
    for name, points in run.curves.items():
        yield from _section(name, {f"{x:g}": f"{y:.4g}" for x, y in points})
    taken = {
        number: f"{seconds:.1f} s, {run.peak_memory_mb.get(number, 0):,.0f} MB at most"
        for number, seconds in run.seconds.items()
    }
    yield from _section("what each notebook took", taken)
    yield from _section("made with", run.about)


def _metrics(metrics: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """Yield each metric with its interval, as text."""
    from imgclf.experiments.history.run import interval, is_end

    for name, value in metrics.items():
        if ends := interval(metrics, name):
            yield name, f"{value:.4f} ({ends[0]:.4f} to {ends[1]:.4f})"
        elif not is_end(metrics, name):
            yield name, f"{value:.4g}"


def _section(title: str, values: Mapping[str, Any]) -> Iterator[str]:
    if values:
        yield from ("", title)
        yield from _pairs(values)


def _pairs(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each value that is not empty, with the values below each other."""
    shown = {name: str(value) for name, value in values.items() if value != ""}
    width = max(map(len, shown), default=0)
    yield from (f"  {name:<{width}}  {value}" for name, value in shown.items())


def _table(rows: Iterable[Sequence[str]]) -> str:
    lines = [[_one_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _one_line(text: str) -> str:
    """Return an untrusted text without control characters for a terminal."""
    from imgclf.classifier.results import in_one_cell

    return in_one_cell(text)
