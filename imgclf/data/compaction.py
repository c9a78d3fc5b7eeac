"""Compaction of a journal: the fewest lines that say the same of each image, without what undo needs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from imgclf import files
from imgclf.data import changes, confinement
from imgclf.data.changes import COMPACTED, EFFECTIVE, ON_LABELS, Step
from imgclf.data.journal import NAME, Journal


@dataclass(frozen=True)
class Compaction:
    """What a compaction does, or would do.

    Attributes
    ----------
    before, after : lines of the journal. If there would not be fewer, the journal stays as it is.
    changes : number of changes that cannot be undone afterwards.
    """

    before: int
    after: int
    changes: int

    @property
    def helps(self) -> bool:
        """Whether the journal gets shorter."""
        return self.after < self.before

    def __str__(self) -> str:
        if not self.helps:
            return f"{self.before:,} lines are as few as can be"
        return (
            f"{self.before:,} lines become {self.after:,}; {self.changes:,} changes can no longer be undone, "
            "and no undone change be made again"
        )


def compact(folder: Path, *, dry_run: bool = False) -> Compaction:
    """Compact the journal of a folder, by an atomic write; labels, exclusions and reviews stay.

    Steps of one image are folded into those that still matter: where it was at first, whether it is excluded,
    whether a person looked at it, and when it was last changed. Windows that are open refuse further changes
    until their images are read again.

    Parameters
    ----------
    dry_run : change nothing.

    Raises
    ------
    ImgclfError : see `Journal.hold`; or a line is damaged.
    """
    journal = Journal(folder, max_bytes=confinement.MAX_BYTES_TO_COMPACT)
    with journal.hold():
        steps = folded(journal)
        found = Compaction(journal.lines, len(steps), len(journal.active))
        if found.helps and not dry_run:
            with files.replace_file(journal.path) as file:
                file.write(changes.to_lines(steps))
    return found


def folded(journal: Journal) -> list[Step]:
    """Return the steps of a compacted journal: the mark, and then what is known by number of the change."""
    now = datetime.now().astimezone().isoformat(timespec="milliseconds")
    steps = [step for past in journal.history.values() for step in past if step.action in ON_LABELS]
    for path, past in journal.history.items():
        steps += _of_image(journal, path, [step for step in past if step.action not in ON_LABELS])
    steps.sort(key=lambda step: step.change)
    return [Step(COMPACTED, NAME, change=journal.last_change, time=now), *steps]


def _of_image(journal: Journal, path: str, past: Sequence[Step]) -> Iterator[Step]:
    """Yield the steps of an image that still matter, each as if the image had been at its present path."""
    origin = journal.origin(path)
    for step in (past[i] for i in sorted(_that_matter(journal, past))):
        if step.action == "relabel":
            yield replace(step, path=origin, to=path, undoes=0, made="")
            origin = path
        else:
            yield replace(step, path=path, undoes=0, made="")


def _that_matter(journal: Journal, past: Sequence[Step]) -> set[int]:
    """Return the places of the last step of each kind and content.

    The content may have been replaced by hand: then the steps of the other one count for the path alone.
    """
    last: dict[tuple[str, str], int] = {}
    for place, step in enumerate(past):
        last["any", step.sha256] = place
        if not journal.renames(step.change):
            last["review", step.sha256] = place
        if step.action in EFFECTIVE:
            last["effect", step.sha256] = place
        if step.action == "relabel":
            last["place", step.sha256] = place
        elif step.action in EFFECTIVE:
            last["verdict", ""] = place
    return set(last.values())
