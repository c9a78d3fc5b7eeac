"""Samples of a data set, to look at."""

from collections.abc import Iterable
from typing import TypeVar

from imgclf.data.dataset import Image

T = TypeVar("T")


def sample(images: Iterable[Image], *, per_label: int, most: int = 60) -> list[Image]:
    """Return at most `per_label` images of each label, evenly spaced in the order of their paths.

    Of many labels, fewer of each; of more than `most` labels, one of each of some, evenly spaced.
    """
    by_label: dict[str, list[Image]] = {}
    for image in sorted(images, key=lambda image: image.path):
        by_label.setdefault(image.label, []).append(image)
    per_label = min(per_label, max(1, most // max(1, len(by_label))))
    labels = _evenly_spaced(list(by_label.values()), most)
    return [image for some in labels for image in _evenly_spaced(some, per_label)]


def _evenly_spaced(items: list[T], most: int) -> list[T]:
    count = min(most, len(items))
    return [items[i * len(items) // count] for i in range(count)]
