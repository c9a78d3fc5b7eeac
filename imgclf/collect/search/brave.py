"""Brave Search: a commercial search of the whole web, by key.

Source: api-dashboard.search.brave.com/app/documentation/image-search.
"""

import os
from collections.abc import Mapping

from imgclf import ImgclfError
from imgclf.collect.search.protocol import Answer, Found, Position
from imgclf.collect.search.web import Interface, wait_by_headers

URL = "https://api.search.brave.com/res/v1/images/search"
KEY = "BRAVE_SEARCH_API_KEY"  # environment variable


class Brave:
    """Image search of Brave; see `ImageSearch`. A query is one request: there are no further pages."""

    name = "brave"
    terms = (
        "Brave: images of any web page; their licences are unknown, so ask the owners before you pass images "
        "on or use them commercially"
    )
    page_size, most = 200, 200
    seconds_between, requests_per_day = 1.0, 0  # of the smallest plan
    commercial_use = False  # refused: it knows no licences
    is_offline = False

    def __init__(self, *, url: str = "", commercial_use: bool = False):
        key = os.environ.get(KEY, "").strip()
        if commercial_use:
            raise ImgclfError(
                "search_service=brave: it knows no licences, so that commercial_use would leave no image; "
                "choose openverse or commons, or set commercial_use=False"
            )
        if not key:
            raise ImgclfError(
                f"search_service=brave: needs a key of the Brave Search API in the variable {KEY}; "
                "get one at api-dashboard.search.brave.com, or choose openverse or commons"
            )
        self._interface = Interface(
            self.name,
            url or URL,
            seconds_between=0 if url else self.seconds_between,
            headers={"X-Subscription-Token": key, "Accept": "application/json"},
            wait=_wait,
        )
        self.identity = self._interface.url

    def ask(self, query: str, position: Position) -> Answer:
        """See `ImageSearch.ask`."""
        content = self._interface.get({"q": query, "count": self.page_size, "safesearch": "strict"})
        return Answer(
            tuple(
                Found.of(
                    (image.get("properties") or {}).get("url"),
                    page=image.get("url"),
                    title=image.get("title"),
                )
                for image in content["results"]
            ),
            None,
        )


def _wait(headers: Mapping[str, str]) -> str:
    """The wait after a refused request: until the last window resets in which no request remains.

    Brave sends no Retry-After, but a list with a number for each window: second and month.
    """
    if header := wait_by_headers(headers):
        return header
    remaining = headers.get("x-ratelimit-remaining", "").replace(" ", "").split(",")
    reset = headers.get("x-ratelimit-reset", "").replace(" ", "").split(",")
    used_up = [
        int(seconds)
        for left, seconds in zip(remaining, reset, strict=False)
        if left == "0" and seconds.isdecimal()
    ]
    return str(max(used_up, default=""))
