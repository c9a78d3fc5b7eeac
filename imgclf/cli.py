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
@click.option(
    "-p",
    "--parameter",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set a parameter; may be given many times.",
)
@click.option(
    "--from",
    "start_from",
    default="00",
    metavar="NUMBER",
    help="Number of the notebook to begin with, 00 to 05.",
)
def run(assignments: tuple[str, ...], start_from: str) -> None:
    """Run the notebooks in order.

    Executed notebooks go to $IMGCLF_DATA/runs, results to $IMGCLF_DATA/proc/NAME. `imgclf parameters` lists the parameters.

    Example: imgclf run --from 01 -p dataset_name=fruit -p images_dir=~/pictures/fruit
    """
    from imgclf import parameters
    from imgclf.experiments import sequence

    dataset_name, folder = sequence.run(parameters.parse(assignments), start_from=start_from)
    click.echo("\n" + sequence.closing_report(dataset_name, folder))


@main.command("sweep")
@click.option(
    "-p",
    "--parameter",
    "assignments",
    multiple=True,
    required=True,
    metavar="NAME=VALUE[,VALUE]...",
    help="Values to try; may be given many times.",
)
def run_sweep(assignments: tuple[str, ...]) -> None:
    """Run notebooks 02 to 05 for each combination of parameters, and compare what comes of it.

    Run it again to try again what failed; what was done is kept. The results of the data set itself stay as they are.

    Example: imgclf sweep -p dataset_name=fruit -p classifier=dnn -p epochs=5,10 -p dropout=0.2,0.5
    """
    from imgclf import parameters
    from imgclf.experiments import sweep, trials

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
    from imgclf.experiments import notebooks

    if bool(assignments) == defaults:
        raise click.UsageError("give NAME=VALUE, or --defaults")
    changed = notebooks.change_defaults(None if defaults else parameters.parse(assignments))
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
@click.argument(
    "paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE_OR_FOLDER..."
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="The classifier.onnx; by default the newest that 04 wrote.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list with all scores.")
def predict(paths: tuple[Path, ...], model: Path | None, as_json: bool) -> None:
    """Print label, score, probability and path of images, with tabs between; every image gets the most fitting label.

    Images that cannot be read are named on stderr and skipped.

    Example: imgclf predict --json ~/pictures/blouse.jpg
    """
    from imgclf.classifier import predict as prediction
    from imgclf.classifier.model import Classifier

    model = model or prediction.newest_classifier()
    click.echo(f"with {model}", err=True)
    loaded = Classifier.load(model)
    found, skipped = prediction.predict(loaded, paths)
    if found or as_json:
        click.echo(
            json.dumps([prediction.as_json(loaded, p) for p in found], indent=2)
            if as_json
            else "\n".join(map(prediction.as_line, found))
        )
    for image in skipped:
        click.echo(f"skipped {image.path}: {image.reason.partition(': ')[2]}", err=True)
    if not found:
        raise ImgclfError("none of the images could be read")


token_file = click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help="File with the bearer token; by default $IMGCLF_TOKEN.",
)


@main.command()
@click.argument("model", required=False, type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="IMAGE_OR_FOLDER...")
@click.option(
    "--url",
    help="Address of a service that is to answer as the file does. Without MODEL the newest that 04 wrote is meant.",
)
@token_file
def verify(model: Path | None, paths: tuple[Path, ...], url: str | None, token_file: Path | None) -> None:
    """Prove that a classifier scores the same in OpenVINO, in ONNX Runtime, and as the training code did.

    With --url: that a service gives images the scores that the file gives them here.

    Example: imgclf verify ~/imgclf_data/proc/fashion_texture/classifier.onnx ~/pictures/blouse.jpg
    """
    from imgclf import engines
    from imgclf.classifier import verify as verification
    from imgclf.classifier.predict import image_files, newest_classifier
    from imgclf.images.loading import load_all

    if url and model and model.suffix != ".onnx":
        model, paths = newest_classifier(), (model, *paths)
    if model is None or not paths:
        raise click.UsageError(
            "name a classifier.onnx, and images or folders" if not url else "name images or folders"
        )
    if url:
        _verify_service(url, token_file, model, image_files(paths))
        return
    found = verification.verify(model, load_all(image_files(paths), engines.preprocessing(model)))
    click.echo(found)
    verification.check_agreement(model, found.checks)


def _verify_service(url: str, token_file: Path | None, model: Path, paths: list[Path]) -> None:
    from imgclf.classifier.verify import check_agreement
    from imgclf.service import tokens, verification
    from imgclf.service.client import Client

    with Client(url, token=tokens.read(token_file)) as client:
        checks = verification.verify(client, model, paths)
    click.echo("\n".join(map(str, checks)))
    check_agreement(url, checks, remedy="start the service again, on this model")


@main.command()
@click.argument("model", required=False, type=click.Path(path_type=Path))
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; one that other machines can reach needs a token.",
)
@click.option(
    "--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0: any that is free."
)
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="Processes; each loads the model and uses all cores.",
)
@token_file
@click.option(
    "--reject-below",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Give no label where its probability is smaller.",
)
@click.option(
    "--queue",
    default=64,
    show_default=True,
    type=click.IntRange(1),
    help="Requests that may wait, in each process; others are answered 503.",
)
@click.option(
    "--max-images", default=32, show_default=True, type=click.IntRange(1), help="Images in one request."
)
@click.option(
    "--max-megabytes", default=32, show_default=True, type=click.IntRange(1), help="Size of one request."
)
@click.option(
    "--max-megapixels", default=50, show_default=True, type=click.IntRange(1), help="Size of one image."
)
def serve(
    model: Path | None,
    token_file: Path | None,
    queue: int,
    max_images: int,
    max_megabytes: int,
    max_megapixels: int,
    **how,
) -> None:
    """Serve a classifier as a REST API, with a page for people at its address; by default the newest that 04 wrote.

    Ctrl-C or SIGTERM ends it when all requests are answered; SIGHUP loads the model anew.

    Example: imgclf serve --reject-below 0.6 ~/imgclf_data/proc/fashion_texture/classifier.onnx
    """
    try:
        from imgclf.service import server, tokens
        from imgclf.service.limits import Limits
    except ModuleNotFoundError as error:
        raise ImgclfError(
            f"the service needs the package {error.name}; pip install 'imgclf[serve]'"
        ) from error
    limits = Limits(
        body_bytes=max_megabytes * 10**6,
        images=max_images,
        pixels=max_megapixels * 10**6,
        queue=queue,
        held_bytes=max(Limits.held_bytes, 2 * max_megabytes * 10**6),
    )
    server.serve(
        model,
        token=tokens.read(token_file),
        limits=limits,
        say=lambda text: click.echo(text, err=True),
        **how,
    )


@main.command()
@click.argument("url")
@click.argument(
    "paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE_OR_FOLDER..."
)
@token_file
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list with all scores.")
def call(url: str, paths: tuple[Path, ...], token_file: Path | None, as_json: bool) -> None:
    """Have a service label images; prints what predict prints.

    Example: imgclf call http://127.0.0.1:8080 ~/pictures/blouse.jpg
    """
    from imgclf.classifier.predict import image_files
    from imgclf.service import tokens
    from imgclf.service.client import Client, Refused

    with Client(url, token=tokens.read(token_file)) as client:
        answers = list(client.label_files(image_files(paths)))
    found = [(path, answer) for path, answer in answers if not isinstance(answer, Refused)]
    if found or as_json:
        click.echo(
            json.dumps([answer.as_json(path) for path, answer in found], indent=2)
            if as_json
            else "\n".join(answer.as_line(path) for path, answer in found)
        )
    for path, answer in answers:
        if isinstance(answer, Refused):
            click.echo(f"skipped {path}: {answer.reason}", err=True)
    if not found:
        raise ImgclfError("none of the images could be read")


@main.command("convert")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--labels",
    required=True,
    metavar="NAME,NAME...",
    help="In the order of its outputs; or a JSON or text file of them.",
)
@click.option("--replace", is_flag=True, help="Write over a file that is there.")
def convert_model(model: Path, target: Path, labels: str, replace: bool) -> None:
    """Turn an old CNTK model into a classifier that needs CNTK no more; this needs it once (make cntk).

    Example: imgclf convert cntk_refined.model fashion.onnx --labels dotted,leopard,striped
    """
    from imgclf.classifier import convert

    click.echo(convert.convert(model, target, convert.parse_labels(labels), replace=replace))
