"""What the commands that use a classifier take: images, and the classifier."""

from pathlib import Path

import click

images_argument = click.argument(
    "paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE_OR_FOLDER..."
)
model_option = click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="A classifier.onnx. Default: the newest one that 04_train_svm wrote.",
)
