"""Running a search: each answer of a web service is kept on disk, so an interrupted run can resume."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from imgclf import ImgclfError, files, first_few
from imgclf.collect import fetch, licences, manifest
from imgclf.collect.manifest import Entry
from imgclf.collect.queries import Query
from imgclf.collect.search import local_folder
from imgclf.collect.search.protocol import Answer, Found, ImageSearch
from imgclf.collect.search.web import RateLimited
from imgclf.data.labels import UNLABELLED

if TYPE_CHECKING:
    import pandas as pd

ANSWERS = "search"  # folder below proc/NAME
# Where a filter leaves few images of each answer, a query ends after so many times the requests.
PATIENCE = 4
SEPARATOR = " | "  # of the queries of an image in a manifest


@dataclass(frozen=True)
class Hit:
    """An image with the queries that found it: first that in which it ranks best, or the earlier of two."""

    found: Found
    queries: tuple[Query, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the queries, that of the first query first; more than one are an ambiguity."""
        return tuple(dict.fromkeys(query.label for query in self.queries))


@dataclass(frozen=True)
class SearchResult:
    """The outcome of a search.

    Attributes
    ----------
    hits : the images, each once, in the order of the queries and of the answers.
    counts : number of images that each query found, also those that an earlier query found.
    requests : answers of the service in this call; the others were kept by an earlier one.
    stopped : why queries are left, and when to go on; "" if all are done.
    """

    service: str
    terms: str
    hits: tuple[Hit, ...]
    counts: tuple[tuple[Query, int], ...]
    requests: int
    stopped: str = ""

    @property
    def ambiguous(self) -> tuple[Hit, ...]:
        """The images that queries of several labels found."""
        return tuple(hit for hit in self.hits if len(hit.labels) > 1)

    def table(self) -> "pd.DataFrame":
        """Return a row for each query: its label, how many images it found, and how many of them are its own.

        An image that several queries found is that of the first of its `Hit.queries`.
        """
        import pandas as pd

        own = Counter(hit.queries[0] for hit in self.hits)
        rows = [(query.text, query.label, count, own[query]) for query, count in self.counts]
        return pd.DataFrame(rows, columns=["query", "label", "found", "own"])

    def __str__(self) -> str:
        total = sum(count for _, count in self.counts)
        lines = [
            f"{self.service}: {len(self.counts)} queries found {total:,} images, {len(self.hits):,} of them "
            f"different, by {self.requests:,} requests",
            self.terms,
        ]
        if empty := [query.text for query, count in self.counts if not count]:
            lines.append(f"nothing found for {first_few(empty)}")
        if doubtful := self.ambiguous:
            named = [f"{hit.found.title or hit.found.url} ({', '.join(hit.labels)})" for hit in doubtful]
            lines.append(
                f"CAREFUL: {len(doubtful)} images were found for several labels, and got the first of them; "
                f"look at {first_few(named)}"
            )
        return "\n".join([*lines, *filter(None, [self.stopped])])


def run(
    service: ImageSearch,
    queries: Iterable[Query],
    *,
    dataset_name: str,
    images_per_query: int,
    progress: Callable[[int], None] | None = None,
) -> SearchResult:
    """Search for images, one request after another.

    Each answer of a web service is kept in `proc/NAME/search/`, and not requested again. If the service asks
    for a long wait, the search ends with what it has found, and says when to run it again.

    Parameters
    ----------
    images_per_query : at most, before images that several queries find are counted once.
    progress : called after each query, with the number of queries that are done.

    Raises
    ------
    ImgclfError : the service cannot be reached or refuses a request. Answers so far are kept.
    """
    asked, stopped = _Answers(service, files.proc_dir(dataset_name) / ANSWERS), ""
    results: list[tuple[Query, list[Found]]] = []
    for query in queries:
        images: list[Found] = []
        try:
            for image in asked.images(query, images_per_query):
                images.append(image)
        except RateLimited as error:
            clock = time.strftime("%H:%M on %d %B", time.localtime(time.time() + error.seconds + 60))
            asked.is_stopped = True
            stopped = (
                f"CAREFUL: stopped at the query {query.text!r}, since {service.name} asks to wait "
                f"{error.seconds:,.0f} seconds; run again after {clock}, answers so far are kept"
            )
        if images or not asked.is_stopped:
            results.append((query, images))
        if progress and not asked.is_stopped:
            progress(len(results))
    counts = tuple((query, len(images)) for query, images in results)
    return SearchResult(service.name, service.terms, _merged(results), counts, asked.requests, stopped)


def write_manifest(result: SearchResult, dataset_name: str, *, labels_from: str = "query") -> Path:
    """Write what a search found as the data set's own manifest, and return its path.

    Entries of the previous manifest that no search wrote, or whose images are in the data set's folder, are
    kept unchanged.

    Parameters
    ----------
    labels_from : "query": the label of the query, or "person": "unlabelled".

    Raises
    ------
    ImgclfError : nothing was found, or `labels_from` has another value.
    """
    if labels_from not in ("query", "person"):
        raise ImgclfError(f"labels_from='{labels_from}': is not one of query, person")
    before = manifest.find(dataset_name)
    listed = manifest.read(before) if before else []
    fetched = fetch.stored(files.data_dir() / "images" / dataset_name, {entry.label for entry in listed})
    kept = [entry for entry in listed if not entry.query or fetch.key(entry) in fetched]
    known = {_address(entry.source) for entry in kept}
    new = [_entry(hit, labels_from) for hit in result.hits if _address(hit.found.url) not in known]
    if not kept and not new:
        raise ImgclfError(
            f"no images of '{dataset_name}' were found; choose other objects, attributes or search_service"
        )
    path = manifest.own(dataset_name)
    manifest.write(path, [*kept, *_with_free_names(new, kept, dataset_name)])
    return path


def _with_free_names(new: list[Entry], kept: list[Entry], dataset_name: str) -> list[Entry]:
    """The new entries with names that no other entry and no file in the folder has.

    A file that no entry lists is the user's own. Under its name an entry would count as fetched.
    """
    stored = fetch.stored(files.data_dir() / "images" / dataset_name, {entry.label for entry in new})
    files_there = [Entry(label, "", file_name=name) for (label, _), name in stored.items()]
    return manifest.with_names([*kept, *files_there, *new])[-len(new) :] if new else []


def _entry(hit: Hit, labels_from: str) -> Entry:
    found, first = hit.found, hit.queries[0]
    return Entry(
        first.label if labels_from == "query" else UNLABELLED,
        found.url,
        licence=found.licence,
        author=found.author,
        title=found.title,
        page=found.page,
        query=manifest.one_line(SEPARATOR.join(query.text for query in hit.queries)),
    )


def _merged(results: list[tuple[Query, list[Found]]]) -> tuple[Hit, ...]:
    """The images, each once. That in which it ranks best is the first of its queries."""
    ranks: dict[str, list[tuple[int, int]]] = {}
    for number, (_, images) in enumerate(results):
        for rank, image in enumerate(images):
            ranks.setdefault(_address(image.url), []).append((rank, number))
    first = {address: min(places) for address, places in ranks.items()}
    return tuple(
        Hit(image, tuple(results[each][0] for _, each in sorted(ranks[_address(image.url)])))
        for number, (_, images) in enumerate(results)
        for rank, image in enumerate(images)
        if first[_address(image.url)] == (rank, number)
    )


def _address(url: str) -> str:
    """What is the same for two spellings of the URL of one image."""
    parts = urlsplit(url)
    scheme = "" if parts.scheme in ("http", "https") else parts.scheme
    return f"{scheme}//{parts.netloc.lower()}{parts.path}?{parts.query}"


class _Answers:
    """The answers of a service, from disk or by a request."""

    def __init__(self, service: ImageSearch, folder: Path):
        self._service, self._folder = service, folder
        self.requests = 0
        self.is_stopped = False  # only answers on disk are used from then on

    def images(self, query: Query, most: int) -> Iterator[Found]:
        """The images of a query, each once."""
        seen: set[str] = set()
        limit = min(most, self._service.most or most)
        for answer in self._of(query.text, most_answers=PATIENCE * ceil(limit / self._service.page_size)):
            for image in answer.found:
                if self._service.is_offline and not local_folder.shows(image.url, query.label):
                    continue
                is_source = not any(manifest.source_faults(image.url))
                is_allowed = not self._service.commercial_use or licences.allows_commercial_use(image.licence)
                if is_source and is_allowed and (address := _address(image.url)) not in seen:
                    seen.add(address)
                    yield image
                if len(seen) >= limit:
                    return

    def _of(self, query: str, *, most_answers: int) -> Iterator[Answer]:
        key = hashlib.sha256("\n".join([self._service.name, self._service.identity, query]).encode())
        answer: Answer | None = Answer((), {})
        for number in range(most_answers):
            if answer is None or answer.position is None:
                return
            path = self._folder / f"{key.hexdigest()[:16]}-{number:03}.json"
            kept = None if self._service.is_offline else _read(path)
            if kept is None and self.is_stopped:
                return
            answer = kept or self._ask(query, answer, path)
            yield answer

    def _ask(self, query: str, before: Answer, path: Path) -> Answer:
        service = self._service
        try:
            answer = service.ask(query, before.position or {})
            position = None if answer.position is None else dict(answer.position)
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise ImgclfError(
                f"{service.name} answered {query!r} in a format that imgclf does not know ({error!r}); "
                "check search_url, or choose another search_service"
            ) from error
        if not service.is_offline:
            self.requests += 1
            images = [asdict(image) for image in answer.found]
            files.write_json(
                path,
                {
                    "search": service.name,
                    "query": query,
                    "found": images,
                    "position": position,
                },
            )
        return answer


def _read(path: Path) -> Answer | None:
    """The answer in a file; None if there is none, or it is damaged."""
    kinds: dict[str, Any] = {"found": list[dict[str, str]], "position": dict[str, Any] | None}
    try:
        content = files.read_json(path, kinds)
        return Answer(tuple(Found(**image) for image in content["found"]), content["position"])
    except (FileNotFoundError, ValueError, TypeError):
        return None
