"""The command that draws where a classifier looked."""

import os
from pathlib import Path

import click

from imgclf import ImgclfError
from imgclf.cli.classifier_input import images_argument, model_option

FOLDER = Path("explained")
MAX_NAME_BYTES = 255
COLUMNS = ("label", "score", "probability", "image", "picture")


@click.command()
@images_argument
@model_option
@click.option("--label", help="What speaks for this label. Default: for the predicted one.")
@click.option(
    "--into",
    default=FOLDER,
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Write the pictures into this folder.",
)
@click.option("--replace", is_flag=True, help="Overwrite existing pictures.")
def explain(
    paths: tuple[Path, ...], model: Path | None, label: str | None, into: Path, replace: bool
) -> None:
    """Draw where a classifier looked: class activation maps.

    For each image, writes FOLDER/NAME.LABEL.png: the image, and beside it the image in grey under the map of
    the label: yellow where most speaks for it, violet where nothing does. Prints label, score, probability,
    image and picture, separated by tabs. Images that cannot be read are skipped and listed on stderr.

    Example: imgclf explain --into ~/maps ~/pictures/blouse.jpg
    """
    from imgclf.classifier import activation_maps, predict
    from imgclf.classifier.results import Refused, in_one_cell

    model = model or predict.newest_classifier()
    click.echo(f"using {model}", err=True)
    images = predict.image_files(paths, without=into)
    written: set[Path] = set()
    with activation_maps.Explainer.load(model) as explainer:
        for path, found in explainer.explain_files(images, label=label):
            if isinstance(found, Refused):
                click.echo(in_one_cell(f"skipped {path}: {found.reason}"), err=True)
                continue
            if not written:
                click.echo("\t".join(COLUMNS))
            picture = _free(into, path.stem, found.map.label, written)
            if picture.exists() and not replace:
                raise ImgclfError(
                    f"{picture}: exists already; name another folder by --into, or overwrite it by --replace"
                )
            found.write(picture)
            written.add(picture)
            click.echo("\t".join(map(in_one_cell, [*found.cells(path), str(picture)])))
    if not written:
        raise ImgclfError("none of the images could be read")


def _free(folder: Path, stem: str, label: str, written: set[Path]) -> Path:
    """Return a path that this call has not written to yet: images of several folders share names."""
    number, ending = 1, f".{label}.png"
    while (path := folder / _short(stem, ending)) in written:
        number += 1
        ending = f".{label}-{number}.png"
    return path


def _short(stem: str, ending: str) -> str:
    """Return a name with as much of the stem as file systems allow."""
    room = MAX_NAME_BYTES - len(os.fsencode(ending))
    if set(stem + ending) & set("/\\\0") or room < 1:
        raise ImgclfError(f"the label in {stem + ending!r} cannot name a file; rename the label, train again")
    while len(os.fsencode(stem)) > room:
        stem = stem[:-1]
    return stem + ending
