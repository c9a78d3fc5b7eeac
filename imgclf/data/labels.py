"""Which labels an image has: the one place that decides."""

from typing import Protocol

UNLABELLED = "unlabelled"  # the folder of images without a label
NONE = "none_of_these"  # the folder of images of none of the labels: a class to the classifier, but no label
NONE_IN_WORDS = "none of the labels"  # what people read in place of the folder's name
UNFAMILIAR = "unfamiliar"  # the folder of images of other things: to measure, never to train
NO_LABELS = (UNLABELLED, NONE)  # folders that are no labels


class InFolder(Protocol):
    """Whatever has the name of its label folder."""

    @property
    def label(self) -> str: ...


def labels_of(image: InFolder) -> tuple[str, ...]:
    """Return the labels of an image; empty if it has none yet, or is of none of them."""
    return () if image.label in NO_LABELS else (image.label,)


def in_words(label: str) -> str:
    """Return a predicted class as people read it: the label, or that it is none of them."""
    return NONE_IN_WORDS if label == NONE else label
