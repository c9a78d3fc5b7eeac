"""Commands that import labels from a file, export them into one, and compact the journal of their changes."""

from pathlib import Path

import click

from imgclf import ImgclfError, files
from imgclf.cli.group import Commands

parameter = click.option(
    "-p",
    "--parameter",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="dataset_name or images_dir. Can be repeated. Default: those of the project.",
)


@click.group("labels", cls=Commands)
def labels() -> None:
    """Import labels from a file, or export them: CSV, TSV, COCO, Label Studio. Compact their journal.

    Example: imgclf labels import labels.csv
    """


@labels.command("import")
@click.argument("file", metavar="FILE")
@click.option("--dry-run", is_flag=True, help="Print what would happen, and change nothing.")
@click.option(
    "--add-labels",
    is_flag=True,
    help="Add labels that the data set lacks. A data set without any label always gets them.",
)
@parameter
def import_labels(file: str, dry_run: bool, add_labels: bool, assignments: tuple[str, ...]) -> None:
    """Give the images of a data set the labels in FILE.

    FILE is a CSV or TSV with a path and a label in each line, or a JSON export of COCO or Label Studio. The
    images are moved into the folders of their labels. An image or a label that the data set lacks is named,
    and left out. One undo in the annotator takes all of it back.

    Example: imgclf labels import labels.csv --dry-run -p images_dir=~/pictures/fruit
    """
    from imgclf.annotation import exchange, label_files
    from imgclf.data import remote

    listed = exchange.list_folder(_images_folder(assignments))
    read = label_files.read(files.absolute(file, source="FILE"))
    planned = exchange.plan(listed, read, add_labels=add_labels)
    click.echo(planned)
    if dry_run:
        click.echo("nothing was changed, since this is a dry run")
        return
    click.echo(exchange.carry_out(listed, planned))
    remote.follow(listed.folder, seconds=0)  # writes the labels to a URL


@labels.command("export")
@click.argument("file", metavar="FILE")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["csv", "tsv", "coco", "label-studio"]),
    help="Default: by the suffix of FILE; coco for .json.",
)
@click.option("--replace", is_flag=True, help="Overwrite an existing FILE.")
@parameter
def export_labels(file: str, kind: str | None, replace: bool, assignments: tuple[str, ...]) -> None:
    """Write the path and the label of each image of a data set into FILE.

    Images that a person excluded are marked, those without a label have the label "unlabelled".

    Example: imgclf labels export labels.csv
    """
    from imgclf.annotation import exchange, label_files

    path = files.absolute(file, source="FILE")
    if path.exists() and not replace:
        raise ImgclfError(f"{path}: exists already; name another file, or overwrite it with --replace")
    kind = kind or _by_suffix(path)
    rows, left_out = exchange.rows_of(exchange.list_folder(_images_folder(assignments)))
    label_files.write(path, kind, rows)
    click.echo(f"wrote {len(rows)} images to {path}{left_out}")


@labels.command("compact")
@click.option("--dry-run", is_flag=True, help="Print what would happen, and change nothing.")
@parameter
def compact_journal(dry_run: bool, assignments: tuple[str, ...]) -> None:
    """Shorten the journal of label changes, annotations.jsonl.

    With a long one, a data set takes seconds to open. Labels, exclusions, reviewed images and the dates of
    the last changes stay as they are. But changes up to now can no longer be undone: copy the file before if
    you may want that. Close the notebooks that show the images; an annotator that is still open refuses
    further changes.

    Example: imgclf labels compact --dry-run
    """
    from imgclf.data import compaction

    found = compaction.compact(_images_folder(assignments), dry_run=dry_run)
    click.echo(found)
    if dry_run:
        click.echo("nothing was changed, since this is a dry run")


def _by_suffix(path: Path) -> str:
    kind = {".csv": "csv", ".tsv": "tsv", ".json": "coco"}.get(path.suffix.lower())
    if not kind:
        raise ImgclfError(f"{path}: the format is not clear from '{path.suffix}'; give it with --format")
    return kind


def _images_folder(assignments: tuple[str, ...]) -> Path:
    """Return the folder of the images by -p, the project, the defaults, and the last scan."""
    from imgclf import parameters
    from imgclf.data import dataset
    from imgclf.experiments import plan
    from imgclf.parameters import precedence

    names = ("dataset_name", "images_dir")
    given = parameters.parse(assignments)
    if others := [name for name in given if name not in names]:
        raise click.UsageError(f"-p takes dataset_name and images_dir here; leave out {', '.join(others)}")
    cell = {name: parameters.PARAMETERS[name].default for name in names}
    values = {name: setting.value for name, setting in precedence.resolve(given, cell, names).items()}
    name, images_dir = str(values["dataset_name"]), str(values["images_dir"])
    known = plan.with_known_folder(values, name, images_dir)
    return dataset.images_folder(name, str(known["images_dir"]))
