"""What an image search gives: images with licence, author and page, one answer after another."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import unescape
from typing import Any, Protocol

from imgclf.collect import licences
from imgclf.collect.manifest import MOST_LETTERS, one_line

# Scripts and styles with their content, comments and tags; the group: those that end a line or a cell.
# html.parser raises an AssertionError for some of what people write.
MARKUP = re.compile(
    r"<(?:script|style)\b.*?(?:</(?:script|style)\s*>|$)|<!--.*?(?:-->|$)"
    r"|</?(br|p|div|li|tr|td|th|h\d)\b[^>]*(?:>|$)|<[a-z/!?][^>]*(?:>|$)",
    re.IGNORECASE | re.DOTALL,
)
MOST_MARKUP = 20_000  # letters of a value

Position = Mapping[str, str | int]  # parameters of the request for the next answer


@dataclass(frozen=True)
class Found:
    """An image that a search found. Texts are one line each, without markup; "" if unknown."""

    url: str  # of the image, as a source of a manifest
    page: str = ""  # URL of the web page that shows it
    licence: str = ""  # see `licences.normalised`
    author: str = ""
    title: str = ""

    @classmethod
    def of(
        cls,
        url: Any,
        *,
        page: Any = "",
        licence: Any = "",
        version: Any = "",
        author: Any = "",
        title: Any = "",
    ) -> "Found":
        """An image by the values of an answer, which may be missing, of another type, or HTML."""
        return cls(
            _url(url),
            _url(page, most=MOST_LETTERS),
            licences.normalised(plain_text(licence), plain_text(version)),
            plain_text(author),
            plain_text(title),
        )


@dataclass(frozen=True)
class Answer:
    """One answer of a service: images, best first, and where the next answer begins; None after the last."""

    found: tuple[Found, ...]
    position: Position | None


class ImageSearch(Protocol):
    """A service that finds images by a text.

    Attributes
    ----------
    name : the value of the parameter `search_service`.
    terms : one sentence that says what its images may be used for.
    identity : what its answers depend on beside the query.
    page_size : images of an answer, at most.
    most : images that it gives for a query, at most; 0: no limit.
    seconds_between : from one request to the next, by its limits.
    requests_per_day : by its limits; 0: no limit.
    commercial_use : whether a search keeps only images whose licence is known to allow it.
    is_offline : whether it asks no server, so that its answers need not be kept.
    """

    name: str
    terms: str
    identity: str
    page_size: int
    most: int
    seconds_between: float
    requests_per_day: int
    commercial_use: bool
    is_offline: bool

    def ask(self, query: str, position: Position) -> Answer:
        """One answer: the first with an empty position, then those at the position of the answer before.

        Raises
        ------
        RateLimited : the service asks to wait longer than a request waits.
        ImgclfError : it cannot be asked, or refuses the request.
        """


def plain_text(value: Any) -> str:
    """A value of an answer as one line of text, without HTML elements; "" for what is no text or number."""
    if not isinstance(value, str | int | float):
        return ""
    text = MARKUP.sub(lambda found: " " if found[1] else "", str(value)[:MOST_MARKUP])
    return one_line(unescape(text))


def _url(value: Any, *, most: int = 4000) -> str:
    """A value as URL; "" if it is none, or has more than `most` letters."""
    text = value.strip().replace(" ", "%20") if isinstance(value, str) else ""
    text = "https:" + text if text.startswith("//") else text
    is_url = text.startswith(("http://", "https://")) and text.isprintable() and len(text) <= most
    return text if is_url else ""
