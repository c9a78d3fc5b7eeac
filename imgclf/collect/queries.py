"""Queries for an image search: a grid of objects and attributes, each with the label of its images."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from imgclf import ImgclfError
from imgclf.data.label_names import label_fault
from imgclf.data.labels import NONE

if TYPE_CHECKING:
    from imgclf.collect.search import ImageSearch  # which imports this module

MOST_LETTERS = 80  # of a name


@dataclass(frozen=True)
class Query:
    """What a service is asked, and the label of the images that it finds."""

    text: str
    label: str


@dataclass(frozen=True)
class Preview:
    """What a search asks of a service, at most."""

    queries: tuple[Query, ...]
    requests: int
    images: int
    seconds: float  # at the limits of the service, without the time of its answers
    search: str
    terms: str

    def __str__(self) -> str:
        labels: dict[str, list[str]] = {}
        for query in self.queries:
            labels.setdefault(query.label, []).append(query.text)
        lines = [f"{label}: {', '.join(texts)}" for label, texts in labels.items()]
        duration = f" in {_duration(self.seconds)} or more" if self.seconds else ""
        requests = f" by at most {self.requests:,} requests{duration}" if self.requests else ""
        return "\n".join(
            [
                f"{len(self.queries)} queries to {self.search}: at most {self.images:,} images{requests}",
                *lines,
                self.terms,
            ]
        )


def grid(objects: str, attributes: str = "") -> list[Query]:
    """A query for each pair, such as "dotted blouse" with the label "dotted".

    Without attributes, or without objects, each name is a query and its label.

    Parameters
    ----------
    objects, attributes : names, separated by commas.

    Raises
    ------
    ImgclfError : there are no names, or one of them is repeated or cannot be used.
    """
    things, kinds = _names("objects", objects), _names("attributes", attributes)
    if not things and not kinds:
        raise ImgclfError("objects='' and attributes='': there is nothing to search for; name what to find")
    parameter, labels = ("attributes", kinds) if kinds else ("objects", things)
    for label in labels:
        fault = label_fault(label)
        if label.casefold() == NONE:
            fault = "is the folder of images of none of the labels; choose another name"
        if fault:
            raise ImgclfError(f"{parameter}: '{label}' becomes a label, and {fault}")
    if not (things and kinds):
        return [Query(name, name) for name in labels]
    return [Query(f"{kind} {thing}", kind) for thing in things for kind in kinds]


def _names(parameter: str, text: str) -> list[str]:
    """The names in a parameter.

    Raises
    ------
    ImgclfError : a name is repeated, too long, or has a character that cannot be printed.
    """
    names = [" ".join(name.split()) for name in text.split(",") if name.strip()]
    for position, name in enumerate(names):
        fault = (
            "has a control character; remove it"
            if not name.isprintable()
            else "has a vertical bar, which separates queries in a manifest; remove it"
            if "|" in name
            else f"has more than {MOST_LETTERS} letters; shorten it"
            if len(name) > MOST_LETTERS
            else "is there twice; remove one"
            if name.casefold() in map(str.casefold, names[:position])
            else ""
        )
        if fault:
            raise ImgclfError(f"{parameter}: {name!r} {fault}")
    return names


def preview(queries: Iterable[Query], *, images_per_query: int, search: "ImageSearch") -> Preview:
    """What a search asks at most, for how many images, and how long that takes at the service's limits."""
    queries = tuple(queries)
    images = min(images_per_query, search.most) if search.most else images_per_query
    requests = 0 if search.is_offline else len(queries) * ceil(images / search.page_size)
    days = (requests - 1) // search.requests_per_day if requests and search.requests_per_day else 0
    seconds = days * 86_400 or max(0, requests - 1) * search.seconds_between
    return Preview(queries, requests, len(queries) * images, seconds, search.name, search.terms)


def _duration(seconds: float) -> str:
    for unit, name in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} seconds"
