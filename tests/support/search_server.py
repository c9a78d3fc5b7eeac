"""A server on 127.0.0.1 that answers as the API of Wikimedia Commons and serves the images of `search_results`.

The format is that of MediaWiki's action API, `action=query&generator=search&prop=imageinfo`: pages in no order,
with `index`; `continue` both for further results and for image information that did not fit into an answer.
Sources: mediawiki.org/wiki/API:Query, API:Continue, API:Imageinfo, Extension:CommonsMetadata.
"""

import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from support import search_results, textures
from support.search_results import LICENCES, NOT_COMMERCIAL, OTHER_TYPES, PER_QUERY, QUERIES, Result

PAGE = 20  # results in an answer at most; the real service allows 500
BUSY = ("leopard dress", 20)  # query and offset that are answered by 429 at first
IN_PARTS = ("dotted skirt", 0)  # query and offset whose image information does not fit into one answer
WAIT_SECONDS = 1  # Retry-After
HTML = b"<!DOCTYPE html>\n<html><head><title>Not here</title></head><body><p>Not here any more.</p></body></html>"
PDF = "Catalogue of garments.pdf"  # a result that is no image, besides the 50
USAGE = {"source": "commons-desc-page", "hidden": ""}


class SearchServer:
    """A running server, and what it was asked.

    Attributes
    ----------
    url : of the API.
    seconds : that each answer takes; 0 at first.
    asked : requests for each image, by its path (percent-encoded) and, for the API, by query, offset and part.
    agents : values of the User-Agent header.
    most_at_once : requests to the API at the same time, at most.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.asked: Counter[str | tuple[str, int, str]] = Counter()
        self.agents: set[str] = set()
        self.most_at_once = 0
        self.ends = threading.Event()
        self.lock = threading.Lock()
        self.at_once = 0
        firsts = [result for result in search_results.results() if result.kind not in search_results.REPEATED]
        self.by_path = {unquote(result.path): result for result in firsts}
        self._servers = [_Listener(("127.0.0.1", 0), _Handler) for _ in range(2)]
        for server in self._servers:
            server.owner = self
        self.port, self.slow_port = (server.server_port for server in self._servers)
        self.url = f"http://127.0.0.1:{self.port}/w/api.php"

    @property
    def api_requests(self) -> int:
        """Number of requests to the API."""
        return sum(number for key, number in self.asked.copy().items() if isinstance(key, tuple))

    @property
    def image_requests(self) -> int:
        """Number of requests for images."""
        return sum(number for key, number in self.asked.copy().items() if isinstance(key, str))

    def url_of(self, result: Result, content: str = "original") -> str:
        """The URL of an image as the API gives it."""
        port = self.slow_port if result.kind == "slow host" else self.port
        path = (
            unquote(result.path) if result.number % 2 and result.kind == "unicode in the URL" else result.path
        )
        return f"http://127.0.0.1:{port}{path}?utm_source=commons.wikimedia.org&utm_campaign=imageinfo&utm_content={content}"

    def result_of(self, url: str) -> Result:
        """The result that has a URL."""
        return self.by_path[unquote(urlsplit(url).path)]

    def forget(self) -> None:
        """Count from zero."""
        with self.lock:
            self.asked.clear()


@contextmanager
def running() -> Iterator[SearchServer]:
    """Run a server until the block ends."""
    server = SearchServer()
    threads = [
        threading.Thread(target=each.serve_forever, kwargs={"poll_interval": 0.02})
        for each in server._servers
    ]
    for thread in threads:
        thread.start()
    try:
        yield server
    finally:
        server.ends.set()
        for each, thread in zip(server._servers, threads, strict=True):
            each.shutdown()
            thread.join()
            each.server_close()


class _Listener(ThreadingHTTPServer):
    request_queue_size = 64
    daemon_threads = True
    owner: SearchServer

    def handle_error(self, *args: object) -> None:
        """Ignore that a client has disconnected, which is tested."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    def do_GET(self) -> None:
        self.owner = self.server.owner
        self.owner.agents.add(self.headers.get("User-Agent", ""))
        parts = urlsplit(self.path)
        try:
            if parts.path == "/w/api.php":
                self.answer_query({name: texts[0] for name, texts in parse_qs(parts.query).items()})
            else:
                self.answer_image(parts.path)
        except OSError:  # the client has disconnected
            self.close_connection = True

    def give(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.owner.ends.wait(self.owner.seconds)
        self.send_response(status)
        for name, text in ({"Content_Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass

    # The API.

    def answer_query(self, asked: dict[str, str]) -> None:
        with self.owner.lock:
            self.owner.at_once += 1
            self.owner.most_at_once = max(self.owner.most_at_once, self.owner.at_once)
        try:
            self.give_results(asked)
        finally:
            with self.owner.lock:
                self.owner.at_once -= 1

    def give_results(self, asked: dict[str, str]) -> None:
        if re.match("python|curl|$", self.headers.get("User-Agent", ""), re.IGNORECASE):
            self.give(403, b"Please set a user-agent and respect our robot policy", Content_Type="text/plain")
        elif asked.get("format") != "json":
            self.give(200, b"<!DOCTYPE html><html>MediaWiki API result</html>", Content_Type="text/html")
        elif asked.get("action") != "query" or asked.get("generator") != "search":
            error = {"code": "badvalue", "info": 'Unrecognized value for parameter "action".'}
            self.give_json({"error": error}, MediaWiki_API_Error="badvalue")
        else:
            query, offset = _query(asked.get("gsrsearch", "")), int(asked.get("gsroffset", 0))
            key = (query, offset, asked.get("iicontinue", ""))
            with self.owner.lock:
                self.owner.asked[key] += 1
                is_busy = key[:2] == BUSY and self.owner.asked[key] == 1
            if is_busy:
                self.give(429, b"Too many requests", Retry_After=str(WAIT_SECONDS))
            else:
                self.give_json(_answer(self.owner, query, offset, asked))

    def give_json(self, answer: dict[str, object], **headers: str) -> None:
        content = json.dumps(answer, ensure_ascii=False).encode()
        self.give(200, content, Content_Type="application/json; charset=utf-8", **headers)

    # The images.

    def answer_image(self, path: str) -> None:
        place, _, rest = path.removeprefix("/").partition("/")
        if place in ("loop", "moved"):
            path = f"/{rest}" if place == "moved" else f"/{rest.partition('/')[2]}"
        with self.owner.lock:
            if place not in ("loop", "moved"):
                self.owner.asked[path] += 1
            is_first = self.owner.asked[path] == 1
        result = self.owner.by_path.get(unquote(path))
        if not result:
            self.give(404)
        elif self.server.server_port == self.owner.slow_port:
            self.drip()
        elif place == "loop":
            self.give(302, Location=f"/loop/{int(rest.partition('/')[0]) + 1}{path}")
        elif place == "moved":
            self.give_content(result)
        else:
            self.give_image(result, path, is_first)

    def give_image(self, result: Result, path: str, is_first: bool) -> None:
        content = result.content
        match result.kind:
            case "404" | "410":
                self.give(int(result.kind), HTML, Content_Type="text/html")
            case "HTML as image/jpeg" | "HTML as text/html":
                self.give(200, HTML, Content_Type=result.kind.removeprefix("HTML as "))
            case "endless redirects":
                self.give(302, Location=f"/loop/1{path}")
            case "redirect to file://":
                self.give(302, Location="file:///etc/passwd")
            case "redirect that works":
                status = (301, 302, 303, 307, 308)[result.number % 5]
                there = f"/moved{path}"
                self.give(
                    status,
                    Location=there if result.number % 2 else f"http://127.0.0.1:{self.owner.port}{there}",
                )
            case "truncated":
                whole = textures.file(result.texture, result.number)
                self.give(200, whole[: len(whole) // 2], Content_Type="image/jpeg")
            case "empty":
                self.give(200, Content_Type="image/jpeg")
            case "10 GB":
                self.give(200, Content_Length="10000000000", Content_Type="image/jpeg")
                self.drip()
            case "503 for ever":
                self.give(503, b"upstream")
            case "connection breaks":
                self.give(200, content[:100], Content_Length=str(len(content)), Content_Type="image/jpeg")
                self.close_connection = True
            case "429 at first" if is_first:
                self.give(429, HTML, Retry_After=str(WAIT_SECONDS))
            case "500 at first" if is_first:
                self.give(500, HTML)
            case _:
                self.give_content(result)

    def give_content(self, result: Result) -> None:
        kind = (
            OTHER_TYPES[result.number % len(OTHER_TYPES)]
            if result.kind == "other content type"
            else "image/jpeg"
        )
        self.give(200, result.content, **({"Content_Type": kind} if kind else {}))

    def drip(self) -> None:
        """Send a byte now and then until the client disconnects."""
        if self.server.server_port == self.owner.slow_port:
            self.give(200, b"\xff\xd8", Content_Length="100000", Content_Type="image/jpeg")
        while not self.owner.ends.wait(0.05):
            self.wfile.write(b"\xff")


def _query(search: str) -> str:
    """The words of a search, without CirrusSearch's keywords such as `filetype:bitmap`."""
    return " ".join(word.strip('"') for word in search.split() if ":" not in word)


def _answer(server: SearchServer, query: str, offset: int, asked: dict[str, str]) -> dict[str, object]:
    """The answer to a search, as MediaWiki gives it."""
    is_v2 = asked.get("formatversion") == "2"
    answer: dict[str, object] = {}
    number = int(asked.get("gsrlimit", 10))
    if number > PAGE:
        text = f"gsrlimit may not be over {PAGE} (set to {number}) for users."
        answer["warnings"] = {"search": {"warnings" if is_v2 else "*": text}}
    hits = _hits(query, asked)
    page = hits[offset : offset + min(number, PAGE)]
    pages = [_page(server, hit, offset + rank, asked) for rank, hit in enumerate(page, 1)]
    further = _continue(pages, offset, len(hits), asked, is_in_parts=(query, offset) == IN_PARTS)
    if "iicontinue" not in further:
        answer["batchcomplete"] = True if is_v2 else ""
    if further:
        answer["continue"] = further
    pages.sort(key=lambda page: page["pageid"])
    if pages:
        answer["query"] = {"pages": pages if is_v2 else {str(page["pageid"]): page for page in pages}}
    return answer


def _continue(
    pages: list[dict[str, object]], offset: int, hits: int, asked: dict[str, str], *, is_in_parts: bool
) -> dict[str, object]:
    """The parameters of the next request. Where an answer has no room, the image information of later pages is removed."""
    if is_in_parts:
        half = len(pages) // 2
        is_second = "iicontinue" in asked
        for page in pages[:half] if is_second else pages[half:]:
            page.pop("imageinfo", None)
        if not is_second:
            title = str(pages[half]["title"]).removeprefix("File:").replace(" ", "_")
            return {"iicontinue": f"{title}|20210805222232", "continue": "||"}
    following = offset + len(pages)
    return {"gsroffset": following, "continue": "gsroffset||"} if following < hits else {}


def _hits(query: str, asked: dict[str, str]) -> list[Result | str]:
    """What a query finds, best first: images, and for one query a PDF if the search is not for images alone."""
    if asked.get("gsrnamespace") != "6" or query not in QUERIES:
        return []
    first = list(QUERIES).index(query) * PER_QUERY
    hits: list[Result | str] = list(search_results.results()[first : first + PER_QUERY])
    if query == "striped pants" and "filetype:" not in asked["gsrsearch"]:
        hits.insert(3, PDF)
    return hits


def _page(server: SearchServer, hit: Result | str, index: int, asked: dict[str, str]) -> dict[str, object]:
    """A page of an answer."""
    if isinstance(hit, str):
        url = f"http://127.0.0.1:{server.port}/wikipedia/commons/0/00/{PDF.replace(' ', '_')}"
        info = {"url": url, "descriptionurl": url, "mime": "application/pdf", "mediatype": "OFFICE", "size": 9999, "width": 1239, "height": 1754}  # fmt: skip
        page: dict[str, object] = {"pageid": 7, "ns": 6, "title": f"File:{PDF}", "index": index}
    else:
        info = _image_info(server, hit, asked)
        page = {
            "pageid": 1_000_000 + hit.first * 7919 % 1050,
            "ns": 6,
            "title": f"File:{hit.title}",
            "index": index,
        }
    if "imageinfo" in asked.get("prop", "").split("|"):
        wanted = {*asked.get("iiprop", "timestamp|user").split("|"), "width", "height"}
        needs = {"descriptionurl": "url", "descriptionshorturl": "url", "thumburl": "url", "thumbwidth": "url", "thumbheight": "url", "width": "size", "height": "size"}  # fmt: skip
        page |= {"imagerepository": "local", "imageinfo": [{name: text for name, text in info.items() if needs.get(name, name) in wanted}]}  # fmt: skip
    return page


def _image_info(server: SearchServer, result: Result, asked: dict[str, str]) -> dict[str, object]:
    """The image information of a result, with all properties."""
    name, width = result.title.replace(" ", "_"), int(asked.get("iiurlwidth", 0))
    thumbnail = {"thumburl": server.url_of(result, "thumbnail_unscaled"), "thumbwidth": width, "thumbheight": width * 3 // 4}  # fmt: skip
    return {
        "timestamp": "2021-08-05T22:22:32Z",
        "user": "Uploader",
        "size": len(result.content),
        "width": 160,
        "height": 120,
        **(thumbnail if width else {}),
        "url": server.url_of(result),
        "descriptionurl": f"https://commons.wikimedia.org/wiki/File:{name}",
        "descriptionshorturl": f"https://commons.wikimedia.org/w/index.php?curid={1_000_000 + result.first}",
        "mime": "image/jpeg",
        "mediatype": "BITMAP",
        "extmetadata": _metadata(result, asked.get("iiextmetadatafilter", "")),
    }


def _metadata(result: Result, names: str) -> dict[str, object] | list[object]:
    """What the extension CommonsMetadata says of a result, filtered by names; PHP writes an empty one as a list."""
    if not result.licence and result.number % 2:
        return []
    wanted = names.split("|")
    return {name: value for name, value in _all_metadata(result).items() if not names or name in wanted}


def _all_metadata(result: Result) -> dict[str, object]:
    metadata: dict[str, object] = {
        "CommonsMetadataExtension": {"value": 1.2, "source": "extension", "hidden": ""},
        "ObjectName": {"value": result.title.removesuffix(".jpg"), "source": "mediawiki-metadata"},
        "Artist": {"value": result.author, "source": "commons-desc-page"},
        "Credit": {"value": '<span class="int-own-work" lang="en">Own work</span>', **USAGE},
    }
    if not result.licence:
        return metadata
    licence, url = (LICENCES | NOT_COMMERCIAL)[result.licence]
    is_free = licence in ("cc0", "pd")
    metadata |= {
        "LicenseShortName": {"value": result.licence, **USAGE},
        "UsageTerms": {"value": result.licence, **USAGE},
        "License": {"value": licence, "source": "commons-templates", "hidden": ""},
        "AttributionRequired": {"value": "false" if is_free else "true", **USAGE},
        "Copyrighted": {"value": "False" if licence == "pd" else "True", **USAGE},
        "Restrictions": {"value": "", **USAGE},
    }
    if url:
        metadata["LicenseUrl"] = {"value": url, "source": "commons-desc-page"}
    if result.licence == "Fair use":
        metadata["NonFree"] = {"value": "true", **USAGE}
    return metadata
