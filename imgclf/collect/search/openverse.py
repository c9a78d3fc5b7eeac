"""Openverse: openly licensed images of Flickr, Wikimedia Commons, museums and others.

Source: api.openverse.org/v1, and the serializers and throttles of github.com/WordPress/openverse.
"""

import os

from imgclf.collect.search.protocol import Answer, Found, Position
from imgclf.collect.search.web import Interface

URL = "https://api.openverse.org/v1/images/"
TOKEN = "OPENVERSE_TOKEN"  # environment variable with the access token of a registered program


class Openverse:
    """Search of Openverse; see `ImageSearch`."""

    name = "openverse"
    terms = (
        "Openverse: Creative Commons licences and public domain; most ask to name author and licence, those "
        "with NC forbid commercial use. Openverse does not verify them: see the page of each image"
    )
    page_size, most = 20, 240  # for programs without a token; with a larger page it answers 401
    seconds_between, requests_per_day = 3.0, 200  # without a token: 20 a minute, 200 a day
    is_offline = False

    def __init__(self, *, url: str = "", commercial_use: bool = False):
        token = os.environ.get(TOKEN, "").strip()
        if token:  # 100 a minute, 10,000 a day
            self.seconds_between, self.requests_per_day = 0.6, 10_000
        self._interface = Interface(
            self.name,
            url or URL,
            seconds_between=0 if url else self.seconds_between,
            headers={"Authorization": f"Bearer {token}"} if token else None,
        )
        self.commercial_use = commercial_use
        self._filter = {"license_type": "commercial"} if commercial_use else {}
        self.identity = f"{self._interface.url} {self._filter}"

    def ask(self, query: str, position: Position) -> Answer:
        """See `ImageSearch.ask`."""
        page = int(position.get("page", 1))
        content = self._interface.get({"q": query, "page": page, "page_size": self.page_size, **self._filter})
        is_last = page >= min(int(content["page_count"]), self.most // self.page_size)
        found = tuple(
            Found.of(
                image["url"],
                page=image.get("foreign_landing_url"),
                licence=image.get("license"),
                version=image.get("license_version"),
                author=image.get("creator"),
                title=image.get("title"),
            )
            for image in content["results"]
        )
        return Answer(found, None if is_last else {"page": page + 1})
