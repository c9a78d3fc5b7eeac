"""The demo set: photographs of garments that are computed, not fetched.

Its labels tell the texture of the cloth: dotted, leopard or striped. Each picture follows from its name alone, to the
bit, so the manifest can list the sha256 of every file though no file is kept anywhere. Like a list of web links that
has aged, the set has a few entries that are gone, broken, replaced or double.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """What a web server would answer for a source."""

    status: int  # of HTTP: 200, 404
    content_type: str  # "image/jpeg" or "text/html"
    body: bytes


def sources() -> list[tuple[str, str]]:
    """Label and source of every line of the manifest, in its order."""
    from .catalogue import entries

    return [(entry.label, entry.source) for entry in entries()]


def answer(source: str) -> Answer:
    """The answer for `source`, e.g. "demo:dotted/017"; an unknown source gives status 404."""
    from .catalogue import PAGE, entries, present_jpeg

    entry = next((entry for entry in entries() if entry.source == source), None)
    if entry is None or entry.fate == "gone":
        return Answer(404, "text/html", b"<!DOCTYPE html>\n<title>404 Not Found</title>\n")
    if entry.fate == "page":
        return Answer(200, "text/html", PAGE)
    return Answer(200, "image/jpeg", present_jpeg(entry))
