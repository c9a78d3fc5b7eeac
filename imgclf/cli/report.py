"""The command that writes the report of a run again."""

from pathlib import Path

import click

from imgclf import ImgclfError, files


@click.command()
@click.argument("run_id", metavar="[ID]", default="")
@click.option("--open", "is_opened", is_flag=True, help="Open the report in the browser.")
@click.option(
    "--output", metavar="FILE", help="Write it to this file. Default: report.html in the run's folder."
)
@click.option("--replace", is_flag=True, help="Overwrite an existing FILE.")
def report(run_id: str, is_opened: bool, output: str | None, replace: bool) -> None:
    """Write the report of a run: one HTML file to mail or print.

    It is made from the executed 05_evaluate of the run, and needs no network and no other file. ID is the
    beginning of the id, or the name, as `imgclf runs` lists them. Default: the newest run with an evaluation.

    Example: imgclf report --open
    """
    from imgclf.classifier.results import in_one_cell
    from imgclf.experiments import html_report
    from imgclf.experiments.history import runs

    path = files.absolute(output, source="--output") if output else None
    if path and path.exists() and not replace:
        raise ImgclfError(f"{path}: exists already; name another file, or overwrite it with --replace")
    written = html_report.write_of(runs.find(run_id) if run_id else html_report.newest(), path)
    click.echo(in_one_cell(str(written)))
    if is_opened:
        _open(written)


def _open(path: Path) -> None:
    import webbrowser

    if not webbrowser.open(path.as_uri()):
        raise ImgclfError(f"{path}: no browser was found; open the file yourself")
