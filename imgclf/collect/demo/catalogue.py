"""The sources of the demo set: 428 garments, and a few broken or duplicate entries, as old lists have."""

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

import cv2
import numpy as np

from .picture import render
from .scene import jpeg

COUNTS = {"dotted": 125, "leopard": 112, "striped": 191}  # as in the tutorial of 2017
REMOVED_PAGE = b"<!DOCTYPE html>\n<title>Photo removed</title>\n<p>This photo is no longer here.</p>\n"


@dataclass(frozen=True)
class Entry:
    """A line of the manifest: what its source held when the list was made, and what it returns now."""

    label: str
    source: str
    original: str  # the source whose image it shows; its own unless it is a duplicate
    # Or "missing" (404), "removed" (a web page), "truncated", "replaced", "duplicate", "downsized",
    # "recompressed".
    state: str = "present"
    after: int = 0  # number of the garment that it follows in the list


ODD_ENTRIES = [
    Entry("dotted", "demo:dotted/gone-1", "demo:dotted/gone-1", "missing", 23),
    Entry("dotted", "demo:dotted/copy-1", "demo:dotted/018", "duplicate", 61),
    Entry("dotted", "demo:dotted/small-1", "demo:dotted/044", "downsized", 97),
    Entry("leopard", "demo:leopard/cut-1", "demo:leopard/cut-1", "truncated", 30),
    Entry("leopard", "demo:leopard/page-1", "demo:leopard/page-1", "removed", 71),
    Entry("striped", "demo:striped/gone-1", "demo:striped/gone-1", "missing", 38),
    Entry("striped", "demo:striped/replaced-1", "demo:striped/replaced-1", "replaced", 84),
    Entry("striped", "demo:striped/copy-1", "demo:striped/059", "duplicate", 126),
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


def listed_jpeg(entry: Entry) -> bytes:
    """The JPEG file that the source returned when the list was made; the manifest has its sha256."""
    rendered = render(entry.label, entry.original)
    if entry.state not in ("downsized", "recompressed"):
        return rendered
    image = np.asarray(cv2.imdecode(np.frombuffer(rendered, np.uint8), cv2.IMREAD_COLOR))
    if entry.state == "downsized":
        height, width = image.shape[:2]
        factor = max(0.7, 402 / min(height, width))
        size = (round(width * factor), round(height * factor))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR_EXACT))
    return jpeg(image, 80 if entry.state == "downsized" else 62)


def current_jpeg(entry: Entry) -> bytes:
    """The JPEG file that the source returns now: truncated or replaced if that is its state."""
    if entry.state == "replaced":
        return render(entry.label, f"{entry.source}, another picture")
    content = listed_jpeg(entry)
    return content[: len(content) // 2] if entry.state == "truncated" else content


def manifest_line(entry: Entry) -> str:
    """The entry's line of the manifest, tab-separated: label, source, sha256 of the listed file, file name.

    File names are unique over all labels, so that any image can be relabelled without a conflict.
    """
    name = entry.source.removeprefix("demo:").replace("/", "_")
    return f"{entry.label}\t{entry.source}\t{sha256(listed_jpeg(entry)).hexdigest()}\t{name}.jpg\n"
