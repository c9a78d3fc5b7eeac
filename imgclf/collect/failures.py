"""The file of URLs that failed permanently, which later runs skip."""

import re
from collections.abc import Mapping
from pathlib import Path

from imgclf import files
from imgclf.collect.manifest import Entry
from imgclf.downloads import NOT_TRIED, PERMANENT, TO_ALLOW, UNREACHABLE, DownloadError

FILE = "fetch_failures.tsv"
HEAD = "# URLs that failed permanently; later runs skip them. Delete this file to retry them.\n"
FailureKey = tuple[str, str, str]  # label, source, sha256


def failure_key(entry: Entry) -> FailureKey:
    """The identity of a recorded failure: an entry that was corrected in the manifest is retried."""
    return entry.label, entry.source, entry.sha256


def is_refused(reason: str) -> bool:
    """Whether the reason of a failure is an address that is not public, which a parameter allows."""
    return reason.endswith(TO_ALLOW)


class Failures:
    """Permanent failures of a data set, each on disk as soon as it is known, so that a kill loses none.

    Attributes
    ----------
    path : `proc/NAME/fetch_failures.tsv`; it is there once there is a failure.
    known : the reason of each failure, those of earlier runs too.
    """

    def __init__(self, folder: Path):
        self.path = files.proc_dir(folder.name) / FILE
        rows = [line.split("\t") for line in files.read_text(self.path).split("\n")]
        self.known: dict[FailureKey, str] = {
            (row[0], row[1], row[2]): row[3] for row in rows if len(row) == 4
        }
        self._unreachable: dict[Entry, DownloadError] = {}
        self._responses = 0  # when the last of them was added

    def add(self, problems: Mapping[Entry, DownloadError], *, responses: int) -> None:
        """Record those of `problems` that are permanent.

        An unreachable server is a permanent failure only if another one answers later: our own network may
        be down. So these wait until there are more responses.

        Parameters
        ----------
        responses : the number of all responses so far.
        """
        lost = {entry: e for entry, e in problems.items() if e.kind in (UNREACHABLE, NOT_TRIED)}
        if lost:
            self._unreachable |= lost
            self._responses = responses
        elif responses > self._responses:
            self.add_unreachable()
        self._append({entry: e for entry, e in problems.items() if e.kind == PERMANENT})

    def add_unreachable(self) -> None:
        """Record the unreachable servers, as the network was found to work."""
        self._append(self._unreachable)
        self._unreachable = {}

    def _append(self, problems: Mapping[Entry, DownloadError]) -> None:
        reasons = {
            failure_key(entry): " ".join(problem.reason.split())
            for entry, problem in problems.items()
            if not re.search(r"[\t\n\r]", "".join(failure_key(entry)))  # no manifest has such a source
        }
        lines = ["\t".join((*names, reason)) + "\n" for names, reason in reasons.items()]
        self.known |= reasons
        if not lines:
            return
        with files.writable(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b") as file:
                size = file.seek(0, 2)
                if not size:
                    lines.insert(0, HEAD)
                elif file.seek(size - 1) and file.read(1) != b"\n":  # the line of a power failure
                    lines.insert(0, "\n")
                file.write("".join(lines).encode())
