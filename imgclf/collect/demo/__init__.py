"""The demo set: synthetic images of garments, rendered in place of downloads.

The labels are textures: dotted, leopard, striped. An image is a function of its name, identical to the bit
on every machine, so the manifest lists the sha256 of every file although no file is stored. Like an old list
of web links, the set has a few entries that are missing, broken, replaced or duplicated.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Response:
    """What a web server would respond for a source."""

    status: int  # of HTTP: 200, 404
    content_type: str  # "image/jpeg" or "text/html"
    body: bytes


def sources() -> list[tuple[str, str]]:
    """Label and source of every line of the manifest, in its order."""
    from .catalogue import entries

    return [(entry.label, entry.source) for entry in entries()]


def response(source: str) -> Response:
    """The response for `source`, e.g. "demo:dotted/017"; an unknown source has status 404."""
    from .catalogue import REMOVED_PAGE, current_jpeg, entries

    entry = next((entry for entry in entries() if entry.source == source), None)
    if entry is None or entry.state == "missing":
        return Response(404, "text/html", b"<!DOCTYPE html>\n<title>404 Not Found</title>\n")
    if entry.state == "removed":
        return Response(200, "text/html", REMOVED_PAGE)
    return Response(200, "image/jpeg", current_jpeg(entry))


def garment_mask(source: str) -> "np.ndarray":
    """The coverage of each pixel of a source's listed image by the garment; (h, w) float32, 0 to 1.

    That of a downsized entry has the size of its original. What a replaced entry shows now is another image.

    Raises
    ------
    KeyError : an unknown source.
    """
    from .catalogue import entries
    from .picture import garment_mask as drawn

    entry = {entry.source: entry for entry in entries()}[source]
    return drawn(entry.label, entry.original)
