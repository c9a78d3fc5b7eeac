"""Previews for notebook 02: a training image at several input sizes, and its augmented views."""

from collections.abc import Sequence

import numpy as np

from imgclf import ImgclfError
from imgclf.data import dataset, split
from imgclf.finetuning import augment
from imgclf.finetuning.augment import View
from imgclf.finetuning.recipe import Recipe
from imgclf.images import decoding
from imgclf.images.preprocessing import Preprocessing
from imgclf.networks import backbones
from imgclf.networks.backbones import Backbone

VIEWS = 6


def training_image(dataset_name: str, images_dir: str = "") -> list[np.ndarray]:
    """Return the pixels of the first training image as a list of one; an empty list if there is none yet.

    Notebook 02 needs no images to export a pretrained network, so a missing split is no error here.

    Returns
    -------
    list of (H, W, 3) uint8 arrays, RGB.
    """
    try:
        images = dataset.read(dataset_name, images_dir)
        return [decoding.read(images.file(image)) for image in split.read(images).train[:1]]
    except ImgclfError:
        return []


def at_input_sizes(
    images: Sequence[np.ndarray], sizes: Sequence[int]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return each image as the network sees it at each input size, and the middle ninth of each of these.

    A figure shrinks large squares to its tiles, so only the middle shows the detail that a size keeps.

    Parameters
    ----------
    images : (H, W, 3) uint8 arrays, RGB. sizes : input sizes, pixels.

    Returns
    -------
    Two lists of square uint8 arrays, RGB: the letterboxed images, (size, size, 3), and the middle of each.
    """
    squares = [Preprocessing(size).letterbox(image) for image in images for size in sizes]
    return squares, [middle(square) for square in squares]


def middle(square: np.ndarray) -> np.ndarray:
    """Return the middle ninth of a square image: a third of its width and height."""
    third = len(square) // 3
    return square[third : len(square) - third, third : len(square) - third]


def augmented(
    images: Sequence[np.ndarray], recipe: Recipe, input_size: int, backbone: Backbone | None = None
) -> list[tuple[np.ndarray, View]]:
    """Return `VIEWS` random views of each image as fine-tuning draws them, at the size that it trains with.

    Parameters
    ----------
    images : (H, W, 3) uint8 arrays, RGB.
    input_size : of the network, pixels; 0, which notebooks of earlier versions give : 224.
    backbone : that is fine-tuned; None, as in notebooks of earlier versions : one that takes any size.

    Returns
    -------
    (size, size, 3) uint8 arrays, RGB, each with its view; an empty list if `recipe.augment` is off.
    """
    if not recipe.augment:
        return []
    views = [augment.draw(recipe.seed, number) for number in range(VIEWS)]
    input_size = input_size or backbones.DEFAULT_SIZE
    size = recipe.train_size(input_size)
    if backbone:
        size = backbones.train_size(backbone, size, input_size)
    squares = [Preprocessing(input_size).letterbox(image) for image in images]
    return [(augment.apply(square, view, size), view) for square in squares for view in views]


def caption(view: View) -> str:
    """Return what a view changes, in short lines for the caption of its picture."""
    crop = f"crop {view.crop:.2f}, flipped" if view.is_mirrored else f"crop {view.crop:.2f}"
    changes = [f"{name} {getattr(view, name):+.0%}" for name in ("brightness", "contrast", "saturation")]
    return "\n".join([crop, *changes])
