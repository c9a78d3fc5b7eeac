"""The sources of the demo set: 428 garments, and a few entries of the kinds that a list of web links has."""

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

import cv2
import numpy as np

from .picture import render
from .scene import jpeg

COUNTS = {"dotted": 125, "leopard": 112, "striped": 191}  # as in the tutorial of 2017
PAGE = b"<!DOCTYPE html>\n<title>Photo removed</title>\n<p>This photo is no longer here.</p>\n"


@dataclass(frozen=True)
class Entry:
    """A line of the list: what was linked when the list was made, and what became of it."""

    label: str
    source: str
    original: str  # the source that it shows; its own unless it is a copy
    fate: str = "there"  # or "gone", "page", "cut", "replaced", "copied", "downsized", "recompressed"
    after: int = 0  # number of the garment that it follows in the list


ODD_ENTRIES = [
    Entry("dotted", "demo:dotted/gone-1", "demo:dotted/gone-1", "gone", 23),
    Entry("dotted", "demo:dotted/copy-1", "demo:dotted/018", "copied", 61),
    Entry("dotted", "demo:dotted/small-1", "demo:dotted/044", "downsized", 97),
    Entry("leopard", "demo:leopard/cut-1", "demo:leopard/cut-1", "cut", 30),
    Entry("leopard", "demo:leopard/page-1", "demo:leopard/page-1", "page", 71),
    Entry("striped", "demo:striped/gone-1", "demo:striped/gone-1", "gone", 38),
    Entry("striped", "demo:striped/replaced-1", "demo:striped/replaced-1", "replaced", 84),
    Entry("striped", "demo:striped/copy-1", "demo:striped/059", "copied", 126),
    Entry("striped", "demo:striped/again-1", "demo:striped/106", "recompressed", 167),
]


@lru_cache(maxsize=1)
def entries() -> tuple[Entry, ...]:
    """All entries, in the order of the list."""
    listed = []
    for label, count in COUNTS.items():
        for number in range(1, count + 1):
            source = f"demo:{label}/{number:03d}"
            listed.append(Entry(label, source, source))
            listed += [odd for odd in ODD_ENTRIES if (odd.label, odd.after) == (label, number)]
    return tuple(listed)


def intact_jpeg(entry: Entry) -> bytes:
    """The JPEG file that the source gave when the list was made."""
    picture = render(entry.label, entry.original)
    if entry.fate not in ("downsized", "recompressed"):
        return picture
    image = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    if entry.fate == "downsized":
        size = tuple(round(side * max(0.7, 402 / min(image.shape[:2]))) for side in image.shape[1::-1])
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR_EXACT)
    return jpeg(image, 80 if entry.fate == "downsized" else 62)


def present_jpeg(entry: Entry) -> bytes:
    """The JPEG file that the source gives now, cut or replaced as its fate has it."""
    if entry.fate == "replaced":
        return render(entry.label, f"{entry.source}, another picture")
    picture = intact_jpeg(entry)
    return picture[: len(picture) // 2] if entry.fate == "cut" else picture


def manifest_line(entry: Entry) -> str:
    """The entry's line of the manifest: label, source, sha256 of the intact file and a name for it, with tabs between.

    No two names are alike, also under different labels, so that no image stands in the way when another is relabelled.
    """
    name = entry.source.removeprefix("demo:").replace("/", "_")
    return f"{entry.label}\t{entry.source}\t{sha256(intact_jpeg(entry)).hexdigest()}\t{name}.jpg\n"
