"""The command line: a thin layer over the package's functions."""

import json
import sys
from pathlib import Path

import click

from imgclf import ImgclfError, __version__


class Commands(click.Group):
    """Prints what a person can mend as one line, without a traceback."""

    def invoke(self, context: click.Context) -> None:
        try:
            super().invoke(context)
        except ImgclfError as error:
            click.echo(f"imgclf: {error}", err=True)
            sys.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """From a folder of images to a classifier you can trust: numbered notebooks, and what they leave."""


@main.command()
@click.option("-p", "--parameter", "assignments", multiple=True, metavar="NAME=VALUE", help="Set a parameter; may be given many times.")
@click.option("--from", "start_from", default="00", metavar="NUMBER", help="Number of the notebook to begin with, 00 to 05.")
def run(assignments: tuple[str, ...], start_from: str) -> None:
    """Run the notebooks in order.

    Executed notebooks go to $IMGCLF_DATA/runs, results to $IMGCLF_DATA/proc/NAME. `imgclf parameters` lists the parameters.

    Example: imgclf run --from 01 -p dataset_name=fruit -p images_dir=~/pictures/fruit
    """
    from imgclf import parameters, sequence
    dataset_name, folder = sequence.run(parameters.parse(assignments), start_from=start_from)
    click.echo("\n" + sequence.closing_report(dataset_name, folder))


@main.command("sweep")
@click.option("-p", "--parameter", "assignments", multiple=True, required=True, metavar="NAME=VALUE[,VALUE]...", help="Values to try; may be given many times.")
def run_sweep(assignments: tuple[str, ...]) -> None:
    """Run notebooks 02 to 05 for each combination of parameters, and compare what comes of it.

    Run it again to try again what failed; what was done is kept. The results of the data set itself stay as they are.

    Example: imgclf sweep -p dataset_name=fruit -p classifier=dnn -p epochs=5,10 -p dropout=0.2,0.5
    """
    from imgclf import parameters, sweep, trials
    about = tuple(a for a in assignments if a.partition("=")[0] in trials.NOT_TRIED)
    values = parameters.parse([*about, "grid=" + ";".join(a for a in assignments if a not in about)])
    click.echo("\n" + sweep.headless(values))


@main.command("set")
@click.argument("assignments", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--defaults", is_flag=True, help="Put all defaults back.")
def set_parameters(assignments: tuple[str, ...], defaults: bool) -> None:
    """Write parameters into every notebook that has them.

    Example: imgclf set dataset_name=fruit train_fraction=0.8
    """
    from imgclf import parameters
    if bool(assignments) == defaults:
        raise click.UsageError("give NAME=VALUE, or --defaults")
    changed = parameters.change_defaults(None if defaults else parameters.parse(assignments))
    click.echo("\n".join(f"changed {path.name}" for path in changed) or "nothing to change")


@main.command("parameters")
def list_parameters() -> None:
    """List all parameters of the notebooks.

    Example: imgclf parameters
    """
    from imgclf import parameters
    for p in parameters.PARAMETERS.values():
        click.echo(f"{p.name:<21} {p.default!s:<20.20} {p.meaning}; {p.expected}")


@main.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE_OR_FOLDER...")
@click.option("--model", type=click.Path(path_type=Path), help="The classifier.onnx; by default the newest that 04 wrote.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list with all scores.")
def predict(paths: tuple[Path, ...], model: Path | None, as_json: bool) -> None:
    """Print label, score, probability and path of images, with tabs between; every image gets the most fitting label.

    Images that cannot be read are named on stderr and skipped.

    Example: imgclf predict --json ~/pictures/blouse.jpg
    """
    from imgclf import classifier, predictions
    model = model or predictions.newest_classifier()
    click.echo(f"with {model}", err=True)
    loaded = classifier.Classifier.load(model)
    found, skipped = predictions.predict(loaded, paths)
    click.echo(json.dumps([predictions.as_json(loaded, p) for p in found], indent=2) if as_json else "\n".join(map(predictions.as_line, found)))
    for image in skipped:
        click.echo(f"skipped {image.path}: {image.reason.partition(': ')[2]}", err=True)
    if not found:
        raise ImgclfError("none of the images could be read")


@main.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE_OR_FOLDER...")
def verify(model: Path, paths: tuple[Path, ...]) -> None:
    """Prove that a classifier scores the same in OpenVINO, in ONNX Runtime, and as the training code did.

    Example: imgclf verify ~/imgclf_data/proc/fashion_texture/classifier.onnx ~/pictures/blouse.jpg
    """
    from imgclf import classifier, predictions, verification
    input_size = classifier.read_metadata(model)["input_size"]
    checks = verification.verify(model, classifier.prepared_pixels(predictions.image_files(paths), input_size))
    click.echo("\n".join(map(str, checks)))
    verification.check_agreement(model, checks)


@main.command("convert")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--labels", required=True, metavar="NAME,NAME...", help="In the order of its outputs; or a JSON or text file of them.")
@click.option("--replace", is_flag=True, help="Write over a file that is there.")
def convert_model(model: Path, target: Path, labels: str, replace: bool) -> None:
    """Turn an old CNTK model into a classifier that needs CNTK no more; this needs it once (make cntk).

    Example: imgclf convert cntk_refined.model fashion.onnx --labels dotted,leopard,striped
    """
    from imgclf import convert
    click.echo(convert.convert(model, target, convert.labels_of(labels), replace=replace))
