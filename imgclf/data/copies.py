"""Duplicates in a data set: the pairs of images, and which of them are excluded."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from imgclf.data.dataset import COPY, LEFT_OUT, NO_LABEL, UNLABELLED, Dataset, DuplicatePair, Image

USABLE = ("", NO_LABEL)  # reasons of images whose duplicates count


def largest_first(images: Iterable[Image]) -> list[Image]:
    """Return images by falling number of pixels, those without a label last; the first duplicate is kept."""
    return sorted(images, key=lambda i: (i.label == UNLABELLED, -i.width * i.height, i.path))


def exclude_duplicates(dataset: Dataset, near: Iterable[tuple[str, str]]) -> Dataset:
    """Return the data set with its pairs of duplicates; within a label, all copies but one are excluded.

    So are all near-duplicates but the largest, if `dataset.near_duplicates` is "left out". Images without a
    label have pairs with each other and with the others.

    Parameters
    ----------
    near : pairs of near-duplicates, by the sha256 of their contents.
    """
    plain = [
        replace(image, excluded=NO_LABEL if image.label == UNLABELLED else "")
        if image.excluded.startswith(COPY)
        else image
        for image in dataset.files
    ]
    pairs = _pairs([image for image in plain if image.excluded in USABLE], near)
    reasons: dict[str, str] = {}
    for pair in pairs:
        is_left_out = pair.is_exact or dataset.near_duplicates == LEFT_OUT
        if is_left_out and pair.kept.label == pair.other.label and pair.kept.path not in reasons:
            reasons.setdefault(pair.other.path, f"{COPY[0] if pair.is_exact else COPY[1]}{pair.kept.path}")
    files = tuple(
        replace(i, excluded=reasons[i.path]) if i.path in reasons and i.excluded in USABLE else i
        for i in plain
    )
    return replace(dataset, files=files, duplicates=pairs)


def _pairs(images: Sequence[Image], near: Iterable[tuple[str, str]]) -> tuple[DuplicatePair, ...]:
    """Return all pairs of duplicates and near-duplicates, the larger image of each first."""
    near = tuple(near)
    copies = Counter(image.sha256 for image in images)
    paired = {sha256 for sha256, count in copies.items() if count > 1}.union(*near)
    ordered = largest_first(image for image in images if image.sha256 in paired)
    first: dict[str, dict[str, int]] = {}  # sha256: label: position of the first image with both
    pairs = []
    for i, image in enumerate(ordered):
        by_label = first.setdefault(image.sha256, {})
        if by_label:
            pairs.append((by_label.get(image.label, next(iter(by_label.values()))), i))
        by_label.setdefault(image.label, i)
    pairs += [
        (min(i, j), max(i, j))
        for one, other in near
        for i in first.get(one, {}).values()
        for j in first.get(other, {}).values()
    ]
    return tuple(DuplicatePair(ordered[i], ordered[j]) for i, j in sorted(pairs))
