"""Fetch the images that a manifest lists, in parallel, with retries and checks."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from threading import Semaphore

from joblib import cpu_count

from imgclf import ImgclfError, files
from imgclf.collect.manifest import Entry, with_names
from imgclf.data import test_list
from imgclf.data.folders import is_system
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
from imgclf.parameters import PARAMETERS

THREADS = 16  # more than cores: they wait for servers
IMAGE_SECONDS = 90  # for one image, with all attempts
MAX_BYTES = 50_000_000
MAX_CONSECUTIVE_UNREACHABLE = 100  # so many in a row: the network is down, not the servers

FAILURES = "fetch_failures.tsv"
FailureKey = tuple[str, str, str]  # label, source, sha256


@dataclass(frozen=True)
class Failure:
    """An image that could not be fetched, and the reason."""

    entry: Entry
    reason: str


@dataclass(frozen=True)
class FetchResult:
    """The outcome of `fetch_images`, in images."""

    listed: int
    present: int  # before the call
    fetched: int
    failures: tuple[Failure, ...]
    failures_file: str = ""  # lists permanent failures, which later runs skip; relative to the data folder
    notes: tuple[str, ...] = ()  # sentences about parameters that had no effect, or not on all images

    def __str__(self) -> str:
        retry = f"; delete {self.failures_file} to retry permanent failures" if self.failures_file else ""
        counts = (
            f"{self.present + self.fetched} of {self.listed} images are there: "
            f"{self.present} already present, {self.fetched} fetched, {len(self.failures)} failed{retry}"
        )
        return "\n".join([counts, *self.notes])


@dataclass(frozen=True)
class _Run:
    """State that the threads of one call of `fetch_images` share."""

    folder: Path
    max_image_side: int
    downloader: Downloader
    # Bounds memory: no more images are decoded at once than there are cores.
    cores: Semaphore = field(default_factory=lambda: Semaphore(cpu_count()))


def fetch_images(
    entries: Iterable[Entry],
    folder: Path,
    *,
    max_images: int = 0,
    max_image_side: int = 1000,
    threads: int = THREADS,
    progress: Callable[[int], None] | None = None,
) -> FetchResult:
    """Fetch missing images into `folder/LABEL/`. Failures are reported and don't stop the others.

    An image is present if its label's folder has a file of its stem with any image suffix. The content
    decides the suffix. Permanent failures are recorded in `proc/NAME/fetch_failures.tsv` and not retried.

    Parameters
    ----------
    entries : the images to fetch, as `manifest.read` returns them.
    folder : `images/NAME`.
    max_images : at most so many of the entries, evenly over the labels; 0 = all.
    max_image_side : larger images are downscaled to this, pixels, and stored as JPEG; 0 = never.
    threads : number of concurrent downloads.
    progress : called after each image with the number of selected entries that are done.

    Raises
    ------
    ImgclfError : no server can be reached, or the folder cannot be written to. Fetched images stay.
    """
    listed = with_names(entries)
    selected = _select(listed, max_images)
    on_disk = stored(folder, {entry.label for entry in listed})
    missing = [entry for entry in selected if key(entry) not in on_disk]
    known = _read_failures(folder)
    problems = {
        entry: DownloadError(known[_failure_key(entry)]) for entry in missing if _failure_key(entry) in known
    }
    pending = [entry for entry in missing if entry not in problems]
    present = len(selected) - len(missing)
    report = progress or (lambda done: None)
    if skipped := len(selected) - len(pending):
        report(skipped)
    threads = max(1, threads)
    connections = min(threads, sum(not entry.source.startswith("demo:") for entry in pending))
    with Downloader(
        connections, max_bytes=MAX_BYTES, seconds=IMAGE_SECONDS, purpose="fetches a list of images"
    ) as web:
        problems |= _fetch_all(
            _Run(folder, max_image_side, web), pending, threads, lambda done: report(skipped + done)
        )
    fetched = len(missing) - len(problems)
    if not web.has_response:
        _raise_if_offline(problems, present + fetched)
    failures_file = _record_failures(folder, known, problems, web.has_response)
    failures = tuple(Failure(entry, problems[entry].reason) for entry in selected if entry in problems)
    beyond = sum(key(entry) in on_disk for entry in set(listed) - set(selected))
    notes = _notes(max_images, max_image_side, listed=len(listed), beyond=beyond, present=present)
    return FetchResult(len(selected), present, fetched, failures, failures_file, notes)


def _notes(
    max_images: int, max_image_side: int, *, listed: int, beyond: int, present: int
) -> tuple[str, ...]:
    """Return sentences about parameters that were set, but do not concern the images that are there."""
    sentences = []
    is_changed = max_image_side != PARAMETERS["max_image_side"].default
    if not listed and (max_images or is_changed):
        sentences.append("max_images and max_image_side have no effect: there is no list of images to fetch")
    if beyond:
        sentences.append(
            f"CAREFUL: max_images={max_images}, but {beyond} more images of the list are in the folder and "
            "will be used; move them elsewhere if you want fewer"
        )
    if is_changed and present:
        sentences.append(
            f"max_image_side={max_image_side} has no effect on the {present} images that were present"
        )
    return tuple(sentences)


def is_incomplete(entries: Iterable[Entry], folder: Path, *, max_images: int = 0) -> bool:
    """Whether an image is neither in the folder nor a permanent failure, so that a retry may fetch it."""
    selected = _select(with_names(entries), max_images)
    on_disk = stored(folder, {entry.label for entry in selected})
    known = _read_failures(folder)
    return any(key(entry) not in on_disk and _failure_key(entry) not in known for entry in selected)


def _select(entries: list[Entry], max_images: int) -> list[Entry]:
    """At most `max_images` entries, in list order: the first of each label, then the second, and so on."""
    if not max_images:
        return entries
    seen: Counter[str] = Counter()
    ranks = []
    for position, entry in enumerate(entries):
        ranks.append((seen[entry.label], position))
        seen[entry.label] += 1
    return [entries[position] for position in sorted(position for _, position in sorted(ranks)[:max_images])]


def key(entry: Entry) -> tuple[str, str]:
    """The identity of an image of a manifest: its label and the case-folded stem of its file name."""
    return entry.label, entry.stem.casefold()


def stored(folder: Path, labels: set[str]) -> dict[tuple[str, str], str]:
    """Name of each image file in `folder`, by `key`. A relabelled image counts under its original label.

    Each label's folder is listed once.
    """
    found = {}
    origins = Journal(folder).origins()
    for label in labels:
        for file in _scan(folder / label):
            path = Path(file.name)
            if (
                path.suffix.lower() in decoding.SUFFIXES
                and not is_system(file.name)
                and f"{label}/{file.name}" not in origins
            ):
                found[label, path.stem.casefold()] = file.name
    for current, original in origins.items():
        origin = Path(original)
        if len(origin.parts) == 2 and (folder / current).exists():
            found[origin.parts[0], origin.stem.casefold()] = origin.name
    return found


def write_test_list(entries: Iterable[Entry], folder: Path) -> str:
    """Write the manifest's test images that are present into the list of dedicated test images of `folder`.

    Returns
    -------
    One sentence about the result, see `test_list.write`; "" if the manifest names no test images, or none
    is present.
    """
    test = [entry for entry in with_names(entries) if entry.split == "test"]
    on_disk = stored(folder, {entry.label for entry in test})
    listed = [(entry.label, on_disk[key(entry)]) for entry in test if key(entry) in on_disk]
    if not listed:
        return ""
    return (
        test_list.write(folder, listed)
        or f"{test_list.NAMES[0]} lists {len(listed)} of the manifest's {len(test)} test images"
    )


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as listing:
            return list(listing)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ImgclfError(
            f"cannot list the folder {folder}: {error.strerror}; "
            "move away the file of that name or correct the permissions"
        ) from error


def _fetch_all(
    run: _Run, entries: list[Entry], threads: int, report: Callable[[int], None]
) -> dict[Entry, DownloadError]:
    """Fetch in parallel; return the error of each entry that failed."""
    problems, unreachable = {}, 0
    pool = ThreadPoolExecutor(threads)
    try:
        futures = {pool.submit(_fetch_one, run, entry): entry for entry in entries}
        for done, future in enumerate(as_completed(futures), 1):
            if problem := future.result():
                problems[futures[future]] = problem
            report(done)
            unreachable = _consecutive_unreachable(unreachable, problem)
    finally:
        run.downloader.stop()  # before the pool waits for its threads
        pool.shutdown(cancel_futures=True)
    return problems


def _consecutive_unreachable(before: int, problem: DownloadError | None) -> int:
    """Number of URLs in a row whose server was unreachable; too many end the run."""
    if problem is None or problem.kind not in (UNREACHABLE, NOT_TRIED):
        return 0
    if problem.kind == NOT_TRIED:
        return before
    if before + 1 == MAX_CONSECUTIVE_UNREACHABLE:
        raise ImgclfError(
            f"{before + 1} URLs in a row could not be reached (the last: {problem.reason}); "
            "check the network or proxy and run again, fetched images stay"
        )
    return before + 1


def _fetch_one(run: _Run, entry: Entry) -> DownloadError | None:
    """Fetch, validate and store one image; return the error if that failed."""
    try:
        response = _response(run, entry.source)
        with run.cores:
            content, suffix = _validated(entry, response, run.max_image_side)
    except DownloadError as problem:
        # A new one, whose traceback keeps no image in memory.
        return DownloadError(problem.reason, problem.kind)
    target = run.folder / entry.label / (entry.stem + suffix)
    if target.exists():
        return DownloadError("a relabelled image has the same file name; rename that one", TRANSIENT)
    with files.replace_file(target) as file:
        file.write(content)
    return None


def _response(run: _Run, source: str) -> Response:
    if not source.startswith("demo:"):
        return run.downloader.get(source)
    from imgclf.collect import demo  # imported only where the demo set is fetched

    with run.cores:  # rendering is work, not waiting
        response = demo.response(source)
    check_status(response.status)
    return Response(response.body, response.content_type)


def _validated(entry: Entry, response: Response, max_image_side: int) -> tuple[bytes, str]:
    """Content to store and its suffix, if the body is the complete image that the manifest lists.

    Raises
    ------
    DownloadError : the body is empty, no image, truncated, or another image than listed.
    """
    body = response.body
    if not body:
        raise DownloadError("the response is empty")
    try:
        pixels = decoding.decode(body, entry.file_name, side=max_image_side or None)
    except ImgclfError as error:
        if response.content_type.startswith("text/html") or re.match(
            rb"\s*<(!doctype )?html", body, re.IGNORECASE
        ):
            raise DownloadError("a web page instead of an image") from error
        raise DownloadError(str(error).removeprefix(f"{entry.file_name}: ").partition(";")[0]) from error
    if (entry.bytes and len(body) != entry.bytes) or (entry.sha256 and _sha256(body) != entry.sha256):
        raise DownloadError("the image at this URL is not the one that the manifest lists")
    suffixes = decoding.header(body, entry.file_name).format.suffixes
    is_large = 0 < max_image_side < max(pixels.shape[:2])
    if is_large:
        pixels = decoding.shrink(pixels, max_image_side)
    if is_large or not suffixes:  # a format that a data set is not scanned for
        return decoding.jpeg(pixels, quality=95), decoding.JPEG.suffixes[0]
    return body, suffixes[0]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _raise_if_offline(problems: dict[Entry, DownloadError], present: int) -> None:
    """Raise one error in place of thousands of failures, unless most images are present for offline work."""
    lost = [problem for problem in problems.values() if problem.kind in (UNREACHABLE, NOT_TRIED)]
    if len(lost) > present:
        raise ImgclfError(
            f"none of the {len(lost)} URLs could be reached: {lost[0].reason}; "
            "check the network or proxy and run again"
        )


def _failure_key(entry: Entry) -> FailureKey:
    """The identity of a recorded failure: an entry that was corrected in the manifest is retried."""
    return entry.label, entry.source, entry.sha256


def _read_failures(folder: Path) -> dict[FailureKey, str]:
    """Reason of each recorded failure."""
    rows = [line.split("\t") for line in files.read_text(files.proc_dir(folder.name) / FAILURES).split("\n")]
    return {(row[0], row[1], row[2]): row[3] for row in rows if len(row) == 4}


def _record_failures(
    folder: Path, known: dict[FailureKey, str], problems: dict[Entry, DownloadError], has_response: bool
) -> str:
    """Record permanent failures; return the file that lists them, "" if none of `problems` is permanent.

    An unreachable server is a permanent failure only if others answered: otherwise our own network is down.
    """
    kinds = (PERMANENT, UNREACHABLE, NOT_TRIED) if has_response else (PERMANENT,)
    permanent = {
        _failure_key(entry): " ".join(problem.reason.split())
        for entry, problem in problems.items()
        if problem.kind in kinds
    }
    path = files.proc_dir(folder.name) / FAILURES
    if not permanent.keys() <= known.keys():
        head = "# URLs that failed permanently; later runs skip them. Delete this file to retry them.\n"
        rows = (known | permanent).items()
        files.write_text(path, head + "".join("\t".join((*row, reason)) + "\n" for row, reason in rows))
    return files.display_path(path) if permanent else ""
