"""Fetch the images that a manifest lists, as far as they can be had."""

import hashlib
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Semaphore

from joblib import cpu_count

from imgclf import ImgclfError, files
from imgclf.collect.manifest import Entry, with_names
from imgclf.data import test_list
from imgclf.data.journal import Journal
from imgclf.downloads import (
    NOT_TRIED,
    PERMANENT,
    TRANSIENT,
    UNREACHABLE,
    Downloader,
    DownloadError,
    Response,
    check_status,
)
from imgclf.images import decoding

THREADS = 16  # more than cores: they wait for servers
IMAGE_SECONDS = 90  # for one image, with all attempts
MAX_BYTES = 50_000_000
UNREACHABLE_IN_A_ROW = 100  # so many one after another: it is the network, not the links
STALE_SECONDS = 24 * 3600

FORMATS = (
    (rb"\xff\xd8\xff", ".jpg"),
    (rb"\x89PNG", ".png"),
    (rb"RIFF....WEBP", ".webp"),
    (rb"GIF8", ".gif"),
    (rb"....ftypavi[fs]", ".avif"),
    (rb"BM", ".bmp"),
    (rb"II\*\0|MM\0\*", ".tif"),
)
FAILURES = "fetch_failures.tsv"


@dataclass(frozen=True)
class Failure:
    """An image that could not be had, and why."""

    entry: Entry
    reason: str


@dataclass(frozen=True)
class Fetched:
    """What `fetch_images` found and did, in images."""

    listed: int
    present: int  # there before
    fetched: int
    failures: tuple[Failure, ...]
    remembered_in: str = ""  # file that keeps failures from being tried again, below the data folder

    def __str__(self) -> str:
        again = (
            f"; delete {self.remembered_in} to try those again that failed for good"
            if self.remembered_in
            else ""
        )
        return (
            f"{self.present + self.fetched} of {self.listed} images there: {self.present} were there before, "
            f"{self.fetched} fetched, {len(self.failures)} could not be had{again}"
        )


@dataclass(frozen=True)
class _Run:
    """What the threads of one call of `fetch_images` share."""

    folder: Path
    max_image_side: int
    web: Downloader
    cores: Semaphore = field(
        default_factory=lambda: Semaphore(cpu_count())
    )  # else all threads' pixels fill the memory


def fetch_images(
    entries: Iterable[Entry],
    folder: Path,
    *,
    max_images: int = 0,
    max_image_side: int = 1000,
    threads: int = THREADS,
    progress: Callable[[int], None] | None = None,
) -> Fetched:
    """Fetch what is missing into `folder/LABEL/`; what cannot be had is reported, and the rest goes on.

    An image is there if its label's folder has a file of its stem with any image suffix. The content
    decides the suffix. Links that failed for good are remembered in `proc/NAME/fetch_failures.tsv`.

    Parameters
    ----------
    entries : what to fetch, as `manifest.read` gives it.
    folder : `images/NAME`.
    max_images : at most so many of the entries, evenly over the labels; 0 = all.
    max_image_side : larger images are shrunk to this, pixels, and stored as JPEG; 0 = never.
    threads : how many images to wait for at once.
    progress : called after each image, with how many of the chosen ones are dealt with.

    Raises
    ------
    ImgclfError : no link can be reached, or the folder cannot be written to. What was fetched stays.
    """
    chosen = _choose(with_names(entries), max_images)
    there = stored(folder, {entry.label for entry in chosen})
    missing = [entry for entry in chosen if key(entry) not in there]
    known = _read_failures(folder)
    problems = {entry: DownloadError(known[_row(entry)]) for entry in missing if _row(entry) in known}
    todo = [entry for entry in missing if entry not in problems]
    present = len(chosen) - len(missing)
    tell = progress or (lambda done: None)
    if settled := len(chosen) - len(todo):
        tell(settled)
    threads = max(1, threads)
    askers = min(threads, sum(not entry.source.startswith("demo:") for entry in todo))
    with Downloader(
        askers, max_bytes=MAX_BYTES, seconds=IMAGE_SECONDS, purpose="fetches a list of images"
    ) as web:
        problems |= _fetch_all(
            _Run(folder, max_image_side, web), todo, threads, lambda done: tell(settled + done)
        )
    fetched = len(missing) - len(problems)
    if not web.has_response:
        _refuse_without_network(problems, present + fetched)
    remembered_in = _remember(folder, known, problems, web.has_response)
    failures = tuple(Failure(entry, problems[entry].reason) for entry in chosen if entry in problems)
    return Fetched(len(chosen), present, fetched, failures, remembered_in)


def _choose(entries: list[Entry], most: int) -> list[Entry]:
    """At most `most` entries: the first of each label, then the second of each, and so on; in list order."""
    if not most:
        return entries
    seen: Counter[str] = Counter()
    ranks = []
    for position, entry in enumerate(entries):
        ranks.append((seen[entry.label], position))
        seen[entry.label] += 1
    return [entries[position] for position in sorted(position for _, position in sorted(ranks)[:most])]


def key(entry: Entry) -> tuple[str, str]:
    """What an image of a manifest is known by: its label and the stem of its file name, in small letters."""
    return entry.label, entry.stem.casefold()


def stored(folder: Path, labels: set[str]) -> dict[tuple[str, str], str]:
    """File name of each image there, by label and stem; each folder is listed once. An image that a person relabelled counts as where it came from."""
    found = {}
    origins = Journal(folder).origins()
    for label in labels:
        for file in _listing(folder / label):
            path = Path(file.name)
            if file.name.startswith(".") and path.suffix == ".part":
                _remove_stale(file)
            elif (
                path.suffix.lower() in decoding.SUFFIXES
                and not file.name.startswith(".")
                and f"{label}/{file.name}" not in origins
            ):
                found[label, path.stem.casefold()] = file.name
    for path, origin in ((path, Path(origin)) for path, origin in origins.items()):
        if len(origin.parts) == 2 and (folder / path).exists():
            found[origin.parts[0], origin.stem.casefold()] = origin.name
    return found


def write_test_list(entries: Iterable[Entry], folder: Path) -> str:
    """Write the manifest's test images that are there into the list of dedicated test images of `folder`; see `test_list.write`.

    Returns
    -------
    One sentence about what was done; "" if the manifest names no test images, or none is there.
    """
    test = [entry for entry in with_names(entries) if entry.split == "test"]
    there = stored(folder, {entry.label for entry in test})
    listed = [(entry.label, there[key(entry)]) for entry in test if key(entry) in there]
    if not listed:
        return ""
    return (
        test_list.write(folder, listed)
        or f"{test_list.NAMES[0]} lists {len(listed)} of the manifest's {len(test)} test images"
    )


def _listing(folder: Path) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as listing:
            return list(listing)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ImgclfError(
            f"cannot list the folder {folder}: {error.strerror}; "
            "move away what stands there or mend its permissions"
        ) from error


def _remove_stale(file: os.DirEntry) -> None:
    """Remove what a killed run left half-written; a file of today may belong to a run that still goes on."""
    with suppress(OSError):
        if time.time() - file.stat().st_mtime > STALE_SECONDS:
            os.unlink(file.path)


def _fetch_all(
    run: _Run, entries: list[Entry], threads: int, tell: Callable[[int], None]
) -> dict[Entry, DownloadError]:
    """Fetch in parallel; the entries that could not be had, with the reason."""
    problems, in_a_row = {}, 0
    pool = ThreadPoolExecutor(threads)
    try:
        futures = {pool.submit(_fetch_one, run, entry): entry for entry in entries}
        for done, future in enumerate(as_completed(futures), 1):
            if problem := future.result():
                problems[futures[future]] = problem
            tell(done)
            in_a_row = _in_a_row(in_a_row, problem)
    finally:
        run.web.stop()  # before the pool waits for its threads
        pool.shutdown(cancel_futures=True)
    return problems


def _in_a_row(known: int, problem: DownloadError | None) -> int:
    """How many links have been out of reach one after another; too many end the run."""
    if problem and problem.kind == NOT_TRIED:
        return known
    in_a_row = known + 1 if problem and problem.kind == UNREACHABLE else 0
    if in_a_row == UNREACHABLE_IN_A_ROW:
        raise ImgclfError(
            f"{in_a_row} links in a row could not be reached (the last: {problem.reason}); "
            "check the network or proxy and run again, what was fetched stays"
        )
    return in_a_row


def _fetch_one(run: _Run, entry: Entry) -> DownloadError | None:
    """Fetch, check and store one image; why not, if it could not be had."""
    try:
        answer = _answer(run, entry.source)
        with run.cores:
            content, suffix = _checked(entry, answer, run.max_image_side)
    except DownloadError as problem:
        return DownloadError(
            problem.reason, problem.kind
        )  # a new one, whose traceback keeps no image in memory
    target = run.folder / entry.label / (entry.stem + suffix)
    if target.exists():
        return DownloadError("an image that was relabelled has its name; rename that one", TRANSIENT)
    with files.replace_file(target) as file:
        file.write(content)
    return None


def _answer(run: _Run, source: str) -> Response:
    if not source.startswith("demo:"):
        return run.web.get(source)
    from imgclf.collect import demo  # only who fetches it needs it

    with run.cores:  # it is drawn: work, not waiting
        answer = demo.answer(source)
    check_status(answer.status)
    return Response(answer.body, answer.content_type)


def _checked(entry: Entry, answer: Response, max_image_side: int) -> tuple[bytes, str]:
    """What to store and its suffix, if the body is the image that was meant, whole."""
    body = answer.body
    if not body:
        raise DownloadError("the server sent an empty answer")
    try:
        pixels = decoding.decode(body, entry.file_name, side=max_image_side or None)
    except ImgclfError as error:
        if answer.content_type.startswith("text/html") or re.match(
            rb"\s*<(!doctype )?html", body, re.IGNORECASE
        ):
            raise DownloadError("a web page instead of an image") from error
        raise DownloadError(str(error).removeprefix(f"{entry.file_name}: ").partition(";")[0]) from error
    if (entry.bytes and len(body) != entry.bytes) or (entry.sha256 and _sha256(body) != entry.sha256):
        raise DownloadError("the picture behind this link is another one now")
    suffix = next((suffix for start, suffix in FORMATS if re.match(start, body, re.DOTALL)), "")
    is_large = 0 < max_image_side < max(pixels.shape[:2])
    if is_large or not suffix:  # a format beyond those that a data set is searched for
        return decoding.jpeg(
            decoding.shrink(pixels, max_image_side) if is_large else pixels, quality=95
        ), ".jpg"
    return body, suffix


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _refuse_without_network(problems: dict[Entry, DownloadError], there: int) -> None:
    """One error instead of thousands of failures; but whoever works offline with what is there, goes on."""
    lost = [problem for problem in problems.values() if problem.kind in (UNREACHABLE, NOT_TRIED)]
    if len(lost) > there:
        raise ImgclfError(
            f"none of the {len(lost)} links could be reached: {lost[0].reason}; "
            "check the network or proxy and run again"
        )


def _row(entry: Entry) -> tuple[str, str, str]:
    """What a failure is remembered by: a line of the manifest that is mended is tried again."""
    return entry.label, entry.source, entry.sha256


def _read_failures(folder: Path) -> dict[tuple[str, str, str], str]:
    """Reason of each failure that is remembered."""
    rows = [line.split("\t") for line in files.read_text(files.proc_dir(folder.name) / FAILURES).split("\n")]
    return {tuple(row[:3]): row[3] for row in rows if len(row) == 4}


def _remember(folder: Path, known: dict, problems: dict[Entry, DownloadError], has_answered: bool) -> str:
    """Keep what failed for good; where it is kept, if any of `problems` is.

    A server out of reach is one of them only where others answered: else it is our own network.
    """
    kinds = (PERMANENT, UNREACHABLE, NOT_TRIED) if has_answered else (PERMANENT,)
    lasting = {
        _row(entry): " ".join(problem.reason.split())
        for entry, problem in problems.items()
        if problem.kind in kinds
    }
    path = files.proc_dir(folder.name) / FAILURES
    if not lasting.keys() <= known.keys():
        head = (
            "# Links that failed for good; no run waits for them again. Delete this file to try them again.\n"
        )
        rows = (known | lasting).items()
        files.write_text(path, head + "".join("\t".join((*row, reason)) + "\n" for row, reason in rows))
    return files.display_path(path) if lasting else ""
