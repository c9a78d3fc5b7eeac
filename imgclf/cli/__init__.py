"""The command line: a thin layer over the package's functions."""

from collections import Counter
from pathlib import Path
from typing import Unpack

import click

from imgclf import ImgclfError, __version__
from imgclf.cli import explain, history, labels, output, projects, report, runs
from imgclf.cli.classifier_input import images_argument, model_option
from imgclf.cli.group import Commands
from imgclf.cli.output import ResultOptions, result_options
from imgclf.service.limits import LEAST_MEMORY_MB, MB, Limits


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Train, evaluate and serve image classifiers.

    Numbered notebooks explain each step. These commands run the notebooks and use their results.
    """


for command in (
    projects.new,
    projects.set_parameters,
    projects.lab,
    runs.runs_group,
    report.report,
    history.history,
    labels.labels,
    explain.explain,
):
    main.add_command(command)


@main.command()
@click.option(
    "-p",
    "--parameter",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set a parameter. Can be repeated.",
)
@click.option(
    "--from",
    "start_from",
    metavar="NUMBER",
    help="Run this notebook, 00 to 05, and all later ones. Default: those that are not up to date.",
)
@click.option(
    "--changed",
    is_flag=True,
    help="Train again after labels or images were changed: with the parameters of the last results, and a "
    "comparison of the accuracy before and after.",
)
def run(assignments: tuple[str, ...], start_from: str | None, changed: bool) -> None:
    """Run the notebooks in order.

    Without --from, those run whose parameters, code or inputs changed since they ran last; a plan says which,
    and why. In a project, executed notebooks go to its folder runs/, results to proc/NAME; else to these
    folders below $IMGCLF_DATA. `imgclf parameters` lists the parameters.

    Example: imgclf run -p dataset_name=fruit -p images_dir=~/pictures/fruit
    """
    from imgclf import parameters
    from imgclf.experiments import projects, retraining, sequence
    from imgclf.parameters import project_file

    values = parameters.parse(assignments)
    if note := projects.outdated():
        click.echo(note, err=True)
    if changed:
        if start_from:
            raise click.UsageError("--changed chooses the notebooks itself; leave out --from")
        if others := [name for name in values if name != "dataset_name"]:
            raise click.UsageError(
                f"--changed takes the parameters of the last results; leave out {', '.join(others)}, "
                "or leave out --changed"
            )
        click.echo("\n" + retraining.run(str(values.get("dataset_name", ""))))
        return
    with project_file.fixed():
        dataset_name, folder = sequence.run(values, start_from=start_from)
        click.echo("\n" + sequence.closing_report(dataset_name, folder, values))


@main.command("sweep")
@click.option(
    "-p",
    "--parameter",
    "assignments",
    multiple=True,
    required=True,
    metavar="NAME=VALUE[,VALUE]...",
    help="A parameter and the values to try. Can be repeated.",
)
def run_sweep(assignments: tuple[str, ...]) -> None:
    """Run a parameter sweep (grid search) and compare the trials.

    Each combination of the values is a trial, which runs notebooks 02 to 05. A second call skips finished
    trials and retries failed ones. The results of the data set itself are not changed.

    Example: imgclf sweep -p dataset_name=fruit -p classifier=dnn -p epochs=5,10 -p dropout=0.2,0.5
    """
    from imgclf import parameters
    from imgclf.experiments import sweep, trials

    fixed = tuple(a for a in assignments if a.partition("=")[0] in trials.FIXED_PARAMETERS)
    values = parameters.parse([*fixed, "grid=" + ";".join(a for a in assignments if a not in fixed)])
    click.echo("\n" + sweep.run_headless(values))


@main.command("parameters")
def list_parameters() -> None:
    """List the parameters of the notebooks.

    Example: imgclf parameters
    """
    from imgclf import parameters

    output.print_parameters(parameters.PARAMETERS.values())


@main.command("backbones")
@click.option(
    "--measure",
    is_flag=True,
    help="Measure the inference time per image on this machine, in about half a minute. Nothing is "
    "fetched: built-in networks get random weights, and models of the Hub that are not there are left out.",
)
def list_backbones(measure: bool) -> None:
    """List the pretrained networks that the parameter backbone can name.

    They differ in features, input size, licence and speed. Accuracies were measured with an SVM on 341 test
    images of the data set clothing. A sweep tells which network is best for your images:
    imgclf sweep -p backbone=efficientnet_lite1,convnext_tiny

    Example: imgclf backbones --measure
    """
    from imgclf.networks import catalogue

    click.echo(
        catalogue.table(catalogue.measured() if measure else None).reset_index().to_string(index=False)
    )


@main.command()
@images_argument
@model_option
@click.option(
    "--reject-below",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 1),
    help='Print "unsure" in place of a label whose probability is below this.',
)
@click.option(
    "--reject-unfamiliar",
    is_flag=True,
    help='Print "unfamiliar" in place of the label of an image that is unlike the training images.',
)
@result_options
def predict(
    paths: tuple[Path, ...],
    model: Path | None,
    reject_below: float,
    reject_unfamiliar: bool,
    **results: Unpack[ResultOptions],
) -> None:
    """Predict the labels of images.

    The predicted label is the one with the highest score. Prints label, score, probability, familiarity and
    path of each image, separated by tabs, below a line with these names. Hidden files are left out, as in
    01_prepare_data. Images that cannot be read are skipped and listed on stderr.

    Example: imgclf predict --csv labels.csv --sort-into ~/sorted ~/pictures
    """
    from imgclf.classifier import predict as prediction
    from imgclf.classifier.model import Classifier

    model = model or prediction.newest_classifier()
    click.echo(f"using {model}", err=True)
    classifier = Classifier.load(model)
    left_out: Counter[str] = Counter()
    images = prediction.image_files(paths, without=results["sort_into"], left_out=left_out)
    labelled = prediction.label_files(
        classifier, images, reject_below=reject_below, reject_unfamiliar=reject_unfamiliar
    )
    output.print_results(labelled, left_out=left_out, **results)


token_file = click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help="File with the bearer token. Default: $IMGCLF_TOKEN.",
)


@main.command()
@click.argument("model", required=False, type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="IMAGE_OR_FOLDER...")
@click.option(
    "--url",
    help="URL of a service to compare with MODEL. Default of MODEL: the newest that 04_train_svm wrote.",
)
@token_file
def verify(model: Path | None, paths: tuple[Path, ...], url: str | None, token_file: Path | None) -> None:
    """Verify the scores of a classifier or a service.

    A classifier must compute the same scores in OpenVINO, in ONNX Runtime and in the training code. With
    --url, verify that a service returns the scores that MODEL computes on this machine.

    Example: imgclf verify ~/imgclf_data/proc/fashion_texture/classifier.onnx ~/pictures/blouse.jpg
    """
    from imgclf import engines
    from imgclf.classifier import verify as verification
    from imgclf.classifier.predict import image_files, newest_classifier
    from imgclf.images.loading import load_all

    if url and model and model.suffix != ".onnx":
        model, paths = newest_classifier(), (model, *paths)
    if model is None or not paths:
        needed = "images or folders" if url else "a classifier.onnx, and images or folders"
        raise click.UsageError(f"give {needed}")
    if url:
        _verify_service(url, token_file, model, list(image_files(paths)))
        return
    result = verification.verify(model, load_all(list(image_files(paths)), engines.preprocessing(model)))
    click.echo(result)
    verification.check_agreement(model, result.checks)


def _verify_service(url: str, token_file: Path | None, model: Path, paths: list[Path]) -> None:
    from imgclf.classifier.verify import check_agreement
    from imgclf.service import tokens, verification
    from imgclf.service.client import Client

    with Client(url, token=tokens.read(token_file)) as client:
        checks = verification.verify(client, model, paths)
    click.echo("\n".join(map(str, checks)))
    check_agreement(url, checks, remedy="restart the service with this model")


@main.command()
@click.argument("model", required=False, type=click.Path(path_type=Path))
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. If other machines can reach it, a token is required.",
)
@click.option(
    "--port",
    default=8080,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0: any free port.",
)
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="Worker processes. Each loads the model and uses all cores.",
)
@token_file
@click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="Host name that requests may name, beside localhost. Can be repeated. Default with a token: any.",
)
@click.option(
    "--allow-origin",
    "allow_origins",
    multiple=True,
    metavar="ORIGIN",
    help="Other web page that may use the service, such as https://example.com. Can be repeated.",
)
@click.option(
    "--reject-below",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Return no label if its probability is below this.",
)
@click.option(
    "--reject-unfamiliar",
    is_flag=True,
    help="Return no label for an image that is unlike the training images.",
)
@click.option(
    "--queue",
    default=Limits.queue,
    show_default=True,
    type=click.IntRange(1),
    help="Requests that may wait per process; the service answers others with 503.",
)
@click.option(
    "--max-images",
    default=Limits.images,
    show_default=True,
    type=click.IntRange(1),
    help="Limit of images per request.",
)
@click.option(
    "--max-megabytes",
    default=Limits.body_bytes // MB,
    show_default=True,
    type=click.IntRange(1),
    help="Limit of a request's size.",
)
@click.option(
    "--max-megapixels",
    default=Limits.pixels // 10**6,
    show_default=True,
    type=click.IntRange(1),
    help="Limit of an image's size.",
)
@click.option(
    "--max-memory",
    default=Limits.memory_bytes // MB,
    show_default=True,
    type=click.IntRange(LEAST_MEMORY_MB),
    help="Megabytes for parsing requests and decoding images, per process.",
)
def serve(
    model: Path | None,
    host: str,
    port: int,
    workers: int,
    token_file: Path | None,
    allowed_hosts: tuple[str, ...],
    allow_origins: tuple[str, ...],
    reject_below: float,
    reject_unfamiliar: bool,
    queue: int,
    max_images: int,
    max_megabytes: int,
    max_megapixels: int,
    max_memory: int,
) -> None:
    """Serve the classifier as a REST API.

    A web page is at the root URL. Default of MODEL: the newest classifier.onnx that 04_train_svm wrote.
    Ctrl-C or SIGTERM shuts down gracefully: accepted requests are answered. SIGHUP reloads the model.

    Example: imgclf serve --reject-below 0.6 ~/imgclf_data/proc/fashion_texture/classifier.onnx
    """
    try:
        from imgclf.service import server, tokens
    except ModuleNotFoundError as error:
        raise ImgclfError(
            f"imgclf serve needs the package {error.name}; pip install 'imgclf[serve]'"
        ) from error
    limits = Limits(
        body_bytes=max_megabytes * MB,
        images=max_images,
        pixels=max_megapixels * 10**6,
        queue=queue,
        held_bytes=max(Limits.held_bytes, 2 * max_megabytes * MB),
        memory_bytes=max_memory * MB,
    )
    server.serve(
        model,
        host=host,
        port=port,
        workers=workers,
        token=tokens.read(token_file),
        reject_below=reject_below,
        reject_unfamiliar=reject_unfamiliar,
        limits=limits,
        allowed_hosts=allowed_hosts,
        allow_origins=allow_origins,
        say=lambda text: click.echo(text, err=True),
    )


@main.command()
@click.argument("url")
@images_argument
@token_file
@result_options
def call(
    url: str, paths: tuple[Path, ...], token_file: Path | None, **results: Unpack[ResultOptions]
) -> None:
    """Predict the labels of images with a running service. The output is that of `imgclf predict`.

    Example: imgclf call http://127.0.0.1:8080 ~/pictures/blouse.jpg
    """
    from imgclf.classifier.predict import image_files
    from imgclf.service import tokens
    from imgclf.service.client import Client

    with Client(url, token=tokens.read(token_file)) as client:
        left_out: Counter[str] = Counter()
        images = image_files(paths, without=results["sort_into"], left_out=left_out)
        output.print_results(client.label_files(images), left_out=left_out, **results)


@main.command("convert")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--labels",
    required=True,
    metavar="NAME,NAME...",
    help="Labels in the order of the model's outputs, or a JSON or text file with them.",
)
@click.option("--replace", is_flag=True, help="Overwrite an existing file.")
def convert_model(model: Path, target: Path, labels: str, replace: bool) -> None:
    """Convert a CNTK model to a classifier.onnx.

    The conversion needs CNTK (`make cntk` installs it), the classifier does not.

    Example: imgclf convert cntk_refined.model fashion.onnx --labels dotted,leopard,striped
    """
    from imgclf.classifier import convert

    click.echo(convert.convert(model, target, convert.parse_labels(labels), replace=replace))
