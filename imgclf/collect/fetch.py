"""Fetch the images that a manifest lists, in parallel, with retries and checks."""

import os
import uuid
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Semaphore
from typing import TYPE_CHECKING

from joblib import cpu_count

from imgclf import ImgclfError, files
from imgclf.collect import demo, folder_source, remote
from imgclf.collect.demo import processes
from imgclf.collect.downloader import Downloader, Response
from imgclf.collect.failures import Failures, failure_key, is_refused
from imgclf.collect.manifest import Entry, with_names
from imgclf.collect.remote import Fetched, RemoteRun
from imgclf.collect.schedule import Schedule, host
from imgclf.collect.validation import validated
from imgclf.data import test_list
from imgclf.data.confinement import is_plain
from imgclf.data.folders import is_system
from imgclf.data.journal import Journal
from imgclf.downloads import NOT_TRIED, TRANSIENT, UNREACHABLE, DownloadError, check_status
from imgclf.images import decoding
from imgclf.images.workers import HERE, Lost, Workers
from imgclf.parameters import PARAMETERS

if TYPE_CHECKING:
    import pandas as pd

THREADS = 16  # more than cores: they wait for servers
MOST_THREADS = 128  # with a cluster, for all of its workers
IMAGE_SECONDS = 90  # for one image, with all attempts
MAX_BYTES = 50_000_000
MAX_CONSECUTIVE_UNREACHABLE = 100  # so many in a row: the network is down, not the servers
CONFLICT = "conflict"  # a kind of DownloadError: the image would take the name of another
DEMO = "demo:"
LOCAL = (DEMO, folder_source.SCHEME)  # sources without a server


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

    def table(self) -> "pd.DataFrame":
        """Return how many images failed for each reason and host, the most frequent first."""
        import pandas as pd

        counts = Counter((failure.reason, host(failure.entry.source)) for failure in self.failures)
        rows = [(*names, count) for names, count in counts.most_common()]
        return pd.DataFrame(rows, columns=["reason", "host", "images"])


@dataclass(frozen=True)
class _Run:
    """State that the threads of one call of `fetch_images` share."""

    folder: Path
    max_image_side: int
    downloader: Downloader
    failures: Failures
    search_folder: Path | None
    rendered: Callable[[str], demo.Response]
    workers: Workers
    remote: RemoteRun
    # Bounds memory: no more images are decoded at once than there are cores.
    cores: Semaphore = field(default_factory=lambda: Semaphore(cpu_count()))


def fetch_images(
    entries: Iterable[Entry],
    folder: Path,
    *,
    max_images: int = 0,
    max_image_side: int = 1000,
    threads: int = THREADS,
    private_addresses: bool = False,
    search_folder: Path | None = None,
    workers: Workers = HERE,
    progress: Callable[[int], None] | None = None,
) -> FetchResult:
    """Fetch missing images into `folder/LABEL/`. Failures are reported and don't stop the others.

    An image is present if its label's folder has a file of its stem with any image suffix. The content
    decides the suffix. Permanent failures are recorded in `proc/NAME/fetch_failures.tsv`, as they come, and
    not retried. So a run that is killed at any time continues with the next call.

    Parameters
    ----------
    entries : the images to fetch, as `manifest.read` returns them.
    folder : `images/NAME`.
    max_images : at most so many of the entries, evenly over the labels; 0 = all.
    max_image_side : larger images are downscaled to this, pixels, and stored as JPEG; 0 = never.
    threads : number of concurrent downloads, with a cluster for each thread of it; of them
        `schedule.PER_HOST` at most from one host.
    private_addresses : whether images may come from this machine and its own network, see
        `downloads.is_public`.
    search_folder : where sources such as "folder:dotted/1.jpg" are copied from; None: they fail.
    workers : of a cluster that downloads, checks and downscales the images, see `workers.connected`; this
        process stores them.
    progress : called after each image with the number of selected entries that are done.

    Raises
    ------
    ImgclfError : no server can be reached; no image is there, mostly because of `private_addresses`; or the
        folder cannot be written to. Fetched images stay.
    """
    listed = with_names(entries)
    selected = _select(listed, max_images)
    on_disk = stored(folder, {entry.label for entry in listed})
    missing = [entry for entry in selected if key(entry) not in on_disk]
    recorded = Failures(folder)
    problems = _known(recorded, missing, private_addresses)
    pending = [entry for entry in missing if entry not in problems]
    present = len(selected) - len(missing)
    report = progress or (lambda done: None)
    if skipped := len(selected) - len(pending):
        report(skipped)
    threads, rendering = max(1, threads), sum(entry.source.startswith(DEMO) for entry in pending)
    if pending and workers.cluster:
        threads, rendering = min(MOST_THREADS, threads * workers.threads()), 0
    with (
        Downloader(
            min(threads, sum(not entry.source.startswith(LOCAL) for entry in pending)),
            max_bytes=MAX_BYTES,
            seconds=IMAGE_SECONDS,
            purpose="fetches a list of images",
            private_addresses=private_addresses,
        ) as web,
        processes.responses(rendering) as rendered,
    ):
        for_workers = RemoteRun(uuid.uuid4().hex, max_image_side, private_addresses, MAX_BYTES, IMAGE_SECONDS)
        run = _Run(folder, max_image_side, web, recorded, search_folder, rendered, workers, for_workers)
        problems |= _fetch_all(run, pending, threads, lambda done: report(skipped + done))
    fetched = len(missing) - len(problems)
    if web.responses:
        recorded.add_unreachable()
    else:
        _raise_if_offline(problems, present + fetched)
    _raise_if_refused(problems, present + fetched)
    is_recorded = any(failure_key(entry) in recorded.known for entry in problems)
    beyond = sum(key(entry) in on_disk for entry in set(listed) - set(selected)) if max_images else 0
    return FetchResult(
        len(selected),
        present,
        fetched,
        tuple(Failure(entry, problems[entry].reason) for entry in selected if entry in problems),
        files.display_path(recorded.path) if is_recorded else "",
        _notes(max_images, max_image_side, listed=len(listed), beyond=beyond, present=present),
    )


def _known(recorded: Failures, missing: list[Entry], private_addresses: bool) -> dict[Entry, DownloadError]:
    """The errors of earlier runs, except those that `private_addresses` lifts."""
    reasons = {entry: recorded.known.get(failure_key(entry)) for entry in missing}
    return {
        entry: DownloadError(reason)
        for entry, reason in reasons.items()
        if reason is not None and not (private_addresses and is_refused(reason))
    }


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
    known = Failures(folder).known
    return any(key(entry) not in on_disk and failure_key(entry) not in known for entry in selected)


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
    problems: dict[Entry, DownloadError] = {}
    unreachable = done = 0
    with closing(_outcomes(run, entries, threads)) as outcomes:
        for problem, failed in outcomes:
            problems |= failed
            run.failures.add(failed, responses=run.downloader.responses)
            done += len(failed) or 1  # others may have been given up with it
            report(done)
            unreachable = _consecutive_unreachable(unreachable, problem, run)
    return problems


def _outcomes(
    run: _Run, entries: list[Entry], threads: int
) -> Generator[tuple[DownloadError | None, dict[Entry, DownloadError]]]:
    """Yield the error of each entry as it is done, None if it was fetched, and all entries that failed by it.

    No more entries are with the threads than there are threads, so the others take no memory.
    """
    schedule, pool = Schedule(entries), ThreadPoolExecutor(threads)
    running: dict[Future[DownloadError | None], Entry] = {}
    try:
        while True:
            while len(running) < threads and (entry := schedule.take()):
                running[pool.submit(_fetch_one, run, entry)] = entry
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                entry, problem = running.pop(future), future.result()
                failed = {entry: problem} if problem else {}
                yield problem, failed | schedule.done(entry, problem)
    finally:
        run.downloader.stop()  # before the pool waits for its threads
        run.workers.everywhere(remote.stop, run.remote)
        # Threads that wait for a cluster end with its block only.
        pool.shutdown(wait=not run.workers.cluster, cancel_futures=True)


def _consecutive_unreachable(before: int, problem: DownloadError | None, run: _Run) -> int:
    """Number of URLs in a row whose server was unreachable; too many end the run if the network is down."""
    if problem is None or problem.kind not in (UNREACHABLE, NOT_TRIED):
        return 0
    if problem.kind == NOT_TRIED:
        return before
    if before + 1 == MAX_CONSECUTIVE_UNREACHABLE:
        if run.downloader.is_online():
            run.failures.add_unreachable()
            return 0
        raise ImgclfError(
            f"{before + 1} URLs in a row could not be reached (the last: {problem.reason}); "
            "check the network or proxy and run again, fetched images stay"
        )
    return before + 1


def _fetch_one(run: _Run, entry: Entry) -> DownloadError | None:
    """Fetch, validate and store one image; return the error if that failed."""
    if not is_plain(f"{entry.label}/{entry.stem}"):  # no manifest has such a name
        return DownloadError("its label or file name leads out of the folder")
    try:
        content, suffix = _fetched(run, entry)
    except DownloadError as problem:
        # A new one, whose traceback keeps no image in memory.
        return DownloadError(problem.reason, problem.kind)
    target = run.folder / entry.label / (entry.stem + suffix)
    if target.exists():
        return DownloadError("a relabelled image has the same file name; rename that one", CONFLICT)
    with files.replace_file(target) as file:
        file.write(content)
    return None


def _fetched(run: _Run, entry: Entry) -> tuple[bytes, str]:
    """Content to store and its suffix, by a worker if there is a cluster."""
    if run.workers.cluster and not entry.source.startswith(folder_source.SCHEME):
        with suppress(Lost):
            return _taken(run, run.workers.call(remote.fetch_one, run.remote, entry))
    response = _response(run, entry.source)
    with run.cores:
        return validated(entry, response, run.max_image_side)


def _taken(run: _Run, fetched: Fetched) -> tuple[bytes, str]:
    if fetched.url:
        run.downloader.note_response(fetched.url)
    if fetched.reason:
        raise DownloadError(fetched.reason, fetched.kind)
    return fetched.content, fetched.suffix


def _response(run: _Run, source: str) -> Response:
    if not source.startswith(LOCAL):
        return run.downloader.get(source)
    if source.startswith(folder_source.SCHEME):
        return _copied(run, source)
    response = run.rendered(source)
    check_status(response.status)
    return Response(response.body, response.content_type)


def _copied(run: _Run, source: str) -> Response:
    """The content of a file below the folder that was searched. A later run may name another folder."""
    if not run.search_folder:
        raise DownloadError("a file of a folder that a search found; run 08_own_images again", TRANSIENT)
    try:
        return Response(folder_source.read(source, run.search_folder))
    except ImgclfError as error:
        raise DownloadError(str(error), TRANSIENT) from error


def _raise_if_offline(problems: dict[Entry, DownloadError], present: int) -> None:
    """Raise one error in place of thousands of failures, unless most images are present for offline work."""
    lost = [problem for problem in problems.values() if problem.kind in (UNREACHABLE, NOT_TRIED)]
    if len(lost) > present:
        raise ImgclfError(
            f"none of the {len(lost)} URLs could be reached: {lost[0].reason}; "
            "check the network or proxy and run again"
        )


def _raise_if_refused(problems: dict[Entry, DownloadError], present: int) -> None:
    """Raise one error if no image is there, mostly because of the addresses in the list."""
    refused = [problem for problem in problems.values() if is_refused(problem.reason)]
    if not present and len(refused) > len(problems) / 2:
        raise ImgclfError(
            f"none of the {len(problems)} images could be fetched: {refused[0].reason}, if you trust the list"
        )
