"""1,050 results of the tutorial's 21 queries, and what must become of each: the truth that `search_server` serves."""

import hashlib
import io
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from urllib.parse import quote

import cv2
import numpy as np
from PIL import Image as PillowImage

from support import textures
from support.pictures import encoded

OBJECTS = ("blouse", "dress", "hoodie", "pants", "shirt", "skirt", "sweater")
ATTRIBUTES = textures.TEXTURES
PER_QUERY = 50
QUERIES = {
    f"{attribute} {garment}": attribute for garment in OBJECTS for attribute in ATTRIBUTES
}  # text: label

# Each kind of result with its number, and what becomes of an image of it. The rest is "plain": kept.
FAILED = {  # kind: number, the reason that the report of failures must give (a regular expression)
    "404": (25, "HTTP 404"),
    "410": (5, "HTTP 410"),
    "HTML as image/jpeg": (10, "web page"),
    "HTML as text/html": (4, "web page"),
    "endless redirects": (5, "redirect"),
    "redirect to file://": (3, "file:|http"),
    "slow host": (3, "within [0-9.]+ seconds|per second|too slow"),
    "truncated": (10, "truncated"),
    "empty": (5, "empty"),
    "10 GB": (3, "larger than"),
    "503 for ever": (2, "HTTP 503"),
    "connection breaks": (2, "connection broke"),
}
KEPT = {  # kind: number. They look wrong, or fail at first, and are images of the label
    "redirect that works": 10,
    "429 at first": 4,
    "500 at first": 3,
    "other content type": 10,
    "no suffix": 8,
    "unicode in the URL": 8,
    "trick in the name": 8,
    "author with HTML": 8,
    "licence not commercial": 12,
    "licence unknown": 8,
}
FOUND = {  # kind: number. They are stored, and the scan or the findings must name them
    "copy in the label": 14,
    "copy under another label": 6,
    "near-duplicate": 18,
    "too small": 5,
    "too dark": 5,
    "blurred": 5,
    "another texture": 40,  # a search engine errs
}
REPEATED = {"same URL, same label": 8, "same URL, other label": 6}  # kept once, for the first query
OF_ANOTHER = {*REPEATED, "copy in the label", "copy under another label", "near-duplicate"}
PLAIN = "plain"

LICENCES = {  # LicenseShortName: License, LicenseUrl
    "CC BY-SA 4.0": ("cc-by-sa-4.0", "https://creativecommons.org/licenses/by-sa/4.0"),
    "CC BY 2.0": ("cc-by-2.0", "https://creativecommons.org/licenses/by/2.0"),
    "CC0": ("cc0", "http://creativecommons.org/publicdomain/zero/1.0/deed.en"),
    "Public domain": ("pd", ""),
}
NOT_COMMERCIAL = {
    "CC BY-NC 2.0": ("cc-by-nc-2.0", "https://creativecommons.org/licenses/by-nc/2.0"),
    "CC BY-NC-SA 4.0": ("cc-by-nc-sa-4.0", "https://creativecommons.org/licenses/by-nc-sa/4.0"),
    "Fair use": ("fair use", ""),
}
AUTHORS = {  # as the service gives it: as it is read
    "Jane Doe": "Jane Doe",
    '<a href="//commons.wikimedia.org/wiki/User:Anna_M%C3%BCller" title="User:Anna Müller">Anna M&uuml;ller</a>': "Anna Müller",
}
HTML_AUTHORS = {
    '<bdi><a href="https://www.wikidata.org/wiki/Q1" class="extiw">Karel\tNov&aacute;k</a>\n</bdi>': "Karel Novák",
    "<span class='fn'>Smith &amp; Sons</span>,\r\n\t<b>London</b>": "Smith & Sons, London",
}
TRICKS = (
    "..%2F..%2F..%2Fescaped.jpg",
    "..%5C..%5Cescaped.jpg",
    "%0Aline%09tab%1B.jpg",
    f"{'long_' * 60}.jpg",
    "CON.jpg",
    ".hidden.jpg",
    "spaces%20at%20the%20end%20.jpg%20",
    "a%3Cb%3Ec%3A%22%7C%3F%2A.jpg",
)
OTHER_TYPES = ("text/plain", "application/octet-stream", "image/png", "text/html; charset=utf-8", "")


@dataclass(frozen=True)
class Result:
    """One result of a query.

    Attributes
    ----------
    number : of the result, from 0. first : of the result that this one repeats or copies; its own otherwise.
    label : that the query gives. texture : what the picture shows.
    path : of the URL, percent-encoded.
    author : as the service gives it.
    """

    number: int
    query: str
    label: str
    kind: str
    first: int
    texture: str
    path: str
    title: str
    licence: str
    author: str

    @property
    def failure(self) -> str:
        """The reason for which the image cannot be fetched, a regular expression; empty if it can."""
        return FAILED[self.kind][1] if self.kind in FAILED else ""

    @property
    def is_commercial(self) -> bool:
        """Whether the image may be used commercially."""
        return self.licence in LICENCES

    @property
    def author_text(self) -> str:
        """The author as a person reads it."""
        return (AUTHORS | HTML_AUTHORS)[self.author]

    @property
    def content(self) -> bytes:
        """The image file; of an image that cannot be fetched, what it would be."""
        return content(self.kind, self.texture, self.number, self.first)


@cache
def content(kind: str, texture: str, number: int, first: int) -> bytes:
    """The content of a result's image file."""
    match kind:
        case (
            "copy in the label"
            | "copy under another label"
            | "same URL, same label"
            | "same URL, other label"
        ):
            return textures.file(texture, first, _format(first))
        case "near-duplicate":
            pixels = np.asarray(
                PillowImage.open(io.BytesIO(textures.file(texture, first, _format(first)))).convert("RGB")
            )
            return encoded(pixels, "jpeg", quality=60)
        case "too small":
            return encoded(
                cv2.resize(textures.texture(texture, number), (24, 20), interpolation=cv2.INTER_AREA), "png"
            )
        case "too dark":
            return encoded(textures.texture(texture, number) // 16, "jpeg", quality=95)
        case "blurred":
            return encoded(
                cv2.GaussianBlur(textures.texture(texture, number), (0, 0), 12), "jpeg", quality=95
            )
    return textures.file(texture, number, _format(number))


def _format(number: int) -> str:
    """Every tenth image is a PNG, every tenth a WebP, the others are JPEGs."""
    return {3: "png", 7: "webp"}.get(number % 10, "jpeg")


@lru_cache(maxsize=1)
def results() -> tuple[Result, ...]:
    """All results, by query and rank."""
    draw = random.Random(0)
    numbers = {kind: number for kind, (number, _) in FAILED.items()} | KEPT | FOUND | REPEATED
    kinds = [kind for kind, number in numbers.items() for _ in range(number)]
    total = len(QUERIES) * PER_QUERY
    kinds += [PLAIN] * (total - len(kinds))
    draw.shuffle(kinds)
    ranked = [(query, label) for query, label in QUERIES.items() for _ in range(PER_QUERY)]
    ranks: Counter[str] = Counter()
    made = []
    for number, kind in enumerate(kinds):
        made.append(_plain(number, *ranked[number], kind, ranks[kind]))
        ranks[kind] += 1
    free = [result for result in made if result.kind == PLAIN]
    for number, result in enumerate(made):
        if result.kind in OF_ANOTHER:
            draw.shuffle(free)
            made[number] = _from_another(result, free)
    return tuple(made)


def _plain(number: int, query: str, label: str, kind: str, rank: int) -> Result:
    """The `rank`-th result of its kind, with an image of its own."""
    title = f"{query.capitalize()} {number:04d}.jpg"
    shown = ATTRIBUTES[(ATTRIBUTES.index(label) + 1) % 3] if kind == "another texture" else label
    licences = {"licence not commercial": list(NOT_COMMERCIAL), "licence unknown": [""]}.get(
        kind, list(LICENCES)
    )
    authors = list(HTML_AUTHORS if kind == "author with HTML" else AUTHORS)
    return Result(
        number,
        query,
        label,
        kind,
        first=number,
        texture=shown,
        path=f"/wikipedia/commons/{_folder(title)}/{_name(title, kind, rank)}",
        title=title,
        licence=licences[rank % len(licences)],
        author=authors[rank % len(authors)],
    )


def _from_another(result: Result, free: list[Result]) -> Result:
    """A result that repeats or copies one of `free`, which is taken from there."""
    is_other_label = result.kind.endswith("other label")
    is_same_url = result.kind in REPEATED
    first = next(
        each
        for each in free
        if (each.label != result.label) == is_other_label and not (is_same_url and each.query == result.query)
    )
    free.remove(first)
    changed = replace(result, first=first.number, texture=first.texture)
    if not is_same_url:
        return changed
    return replace(changed, path=first.path, title=first.title, licence=first.licence, author=first.author)


def _folder(title: str) -> str:
    """The folder of a file as MediaWiki makes it: the first digits of the MD5 of its title."""
    digits = hashlib.md5(title.replace(" ", "_").encode()).hexdigest()
    return f"{digits[0]}/{digits[:2]}"


def _name(title: str, kind: str, rank: int) -> str:
    """The last segment of the path of a URL, percent-encoded."""
    name = title.replace(" ", "_")
    match kind:
        case "no suffix":
            return quote(name.removesuffix(".jpg"))
        case "unicode in the URL":
            return quote(f"Blüschen_点_{name}")
        case "trick in the name":
            return TRICKS[rank % len(TRICKS)]
    return quote(name)


def listed(queries: Sequence[str] = tuple(QUERIES), *, commercial_use: bool = False) -> list[Result]:
    """The results that a search in this order must list: each URL once, for the query in which it ranks best.

    Of two such queries it is the first.
    """
    found = [
        [each for each in results() if each.query == query and (each.is_commercial or not commercial_use)]
        for query in queries
    ]
    places: dict[str, list[tuple[int, int]]] = {}
    for number, images in enumerate(found):
        for rank, result in enumerate(images):
            places.setdefault(result.path, []).append((rank, number))
    return [
        result
        for number, images in enumerate(found)
        for rank, result in enumerate(images)
        if min(places[result.path]) == (rank, number)
    ]
