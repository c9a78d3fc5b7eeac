"""Wikimedia Commons, or the files of another MediaWiki with its search (CirrusSearch).

Source: www.mediawiki.org/wiki/API:Search, API:Imageinfo, API:Continue, API:Etiquette, and
foundation.wikimedia.org/wiki/Policy:User-Agent_policy.
"""

from typing import Any

from imgclf import ImgclfError
from imgclf.collect.search.protocol import Answer, Found, Position
from imgclf.collect.search.web import Interface
from imgclf.downloads import TRANSIENT, DownloadError, contact

URL = "https://commons.wikimedia.org/w/api.php"
WIDTH = 960  # pixels; Commons makes thumbnails of 20, 40, 60, 120, 250, 330, 500, 960, 1280, 1920 and 3840
KINDS = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/tiff")
BUSY = ("maxlag", "ratelimited", "readonly", "cirrussearch-too-busy-error")
BUSY_SECONDS = 5  # as API:Etiquette advises for maxlag
PARAMETERS: dict[str, str | int] = {
    "action": "query",
    "format": "json",
    "formatversion": 2,
    "generator": "search",
    "gsrnamespace": 6,
    "prop": "imageinfo",
    "iiprop": "url|mime|size|extmetadata",
    "iiurlwidth": WIDTH,
    "iiextmetadatalanguage": "en",
    "iiextmetadatafilter": "LicenseShortName|Artist|ObjectName",
    "maxlag": 5,
}


class Commons:
    """Search of Wikimedia Commons; see `ImageSearch`."""

    name = "commons"
    terms = (
        "Wikimedia Commons: free licences that allow commercial use; most ask to name author and licence, "
        "some to share under the same licence"
    )
    page_size, most = 50, 10_000
    seconds_between, requests_per_day = 0.0, 0  # no fixed limit: one request after another
    is_offline = False

    def __init__(self, *, url: str = "", commercial_use: bool = False):
        if not url and not contact():
            raise ImgclfError(
                "search_service=commons: Wikimedia answers only programs that name a contact; set the "
                "environment variable IMGCLF_CONTACT to your e-mail address or home page"
            )
        self._interface = Interface(self.name, url or URL, check=_check)
        self.commercial_use = commercial_use
        self.identity = self._interface.url

    def ask(self, query: str, position: Position) -> Answer:
        """See `ImageSearch.ask`."""
        search = f"{query} filetype:bitmap"
        content = self._interface.get(
            {**PARAMETERS, "gsrsearch": search, "gsrlimit": self.page_size, **position}
        )
        pages = content.get("query", {}).get("pages", [])
        found = (_found(page) for page in sorted(pages, key=lambda page: page.get("index", 0)))
        return Answer(tuple(image for image in found if image), content.get("continue"))


def _found(page: dict[str, Any]) -> Found | None:
    """The image of a file's page; None if it is none, or a later answer describes it."""
    info: dict[str, Any] = next(iter(page.get("imageinfo") or []), {})
    if info.get("mime") not in KINDS:
        return None
    about = {key: value.get("value") for key, value in (info.get("extmetadata") or {}).items()}
    return Found.of(
        info.get("thumburl") or info.get("url"),
        page=info.get("descriptionurl"),
        licence=about.get("LicenseShortName"),
        author=about.get("Artist"),
        title=about.get("ObjectName") or page.get("title", "").removeprefix("File:"),
    )


def _check(content: dict[str, Any]) -> None:
    """Raise the error that a MediaWiki reports with the status 200."""
    if error := content.get("error"):
        reason = f"{error.get('code')}: {error.get('info')}"
        if error.get("code") in BUSY:
            raise DownloadError(reason, TRANSIENT, BUSY_SECONDS)
        raise DownloadError(reason)
