"""iNaturalist: photographs of animals, plants and fungi whose species several people agree on.

Source: api.inaturalist.org/v1/docs and www.inaturalist.org/pages/api+recommended+practices.
"""

from typing import Any

from imgclf.collect import licences
from imgclf.collect.search.protocol import Answer, Found, Position
from imgclf.collect.search.web import Interface

URL = "https://api.inaturalist.org/v1/observations"
COMMERCIAL = "cc0,cc-by,cc-by-sa,cc-by-nd"
VERSION = "4.0"  # of its Creative Commons licences; CC0 has 1.0


class INaturalist:
    """Search of iNaturalist by the scientific or common name of a taxon; see `ImageSearch`."""

    name = "inaturalist"
    terms = (
        "iNaturalist: only photographs with a Creative Commons licence are taken; most are CC BY-NC, which "
        "forbids commercial use and asks to name author and licence"
    )
    page_size, most = 100, 10_000
    seconds_between, requests_per_day = 1.0, 10_000  # the rate that it asks programs to keep
    is_offline = False

    def __init__(self, *, url: str = "", commercial_use: bool = False):
        self._interface = Interface(self.name, url or URL, seconds_between=0 if url else self.seconds_between)
        self.commercial_use = commercial_use
        self._filter = {"photo_license": COMMERCIAL} if commercial_use else {"photo_licensed": "true"}
        self.identity = f"{self._interface.url} {self._filter}"

    def ask(self, query: str, position: Position) -> Answer:
        """See `ImageSearch.ask`. Pages go by the id, so that new observations shift nothing."""
        content = self._interface.get(
            {
                "taxon_name": query,
                "quality_grade": "research",
                "order_by": "id",
                "order": "desc",
                "per_page": self.page_size,
                **self._filter,
                **position,
            }
        )
        observations = content["results"]
        found = (_found(observation) for observation in observations)
        is_last = len(observations) < self.page_size
        return Answer(
            tuple(image for image in found if image),
            None if is_last else {"id_below": int(observations[-1]["id"])},
        )


def _found(observation: dict[str, Any]) -> Found | None:
    """The first photograph of an observation with a licence: the others show the same animal."""
    user, taxon = observation.get("user") or {}, observation.get("taxon") or {}
    for photo in observation.get("photos") or []:
        if licence := licences.normalised(photo.get("license_code") or ""):
            return Found.of(
                photo["url"].replace("/square.", "/large."),  # 1024 pixels; the answer names 75
                page=observation.get("uri"),
                licence=licence,
                version="1.0" if licence == "CC0" else VERSION,
                author=user.get("name") or user.get("login"),
                title=taxon.get("name"),
            )
    return None
