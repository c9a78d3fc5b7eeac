"""A line that grows while a cell works and is gone when it is done, so that notebooks keep no progress bars."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from IPython.display import display

SECONDS_BETWEEN = 0.2
NOTHING = {"text/plain": "", "text/html": ""}


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how many of `total` are done; call what it gives with the number done."""
    line = display(NOTHING, raw=True, display_id=True)  # None where no notebook listens
    shown = 0.0

    def show(done: int) -> None:
        nonlocal shown
        if line and time.monotonic() - shown > SECONDS_BETWEEN:
            shown = time.monotonic()
            line.update(
                {
                    "text/plain": "",
                    "text/html": f"<progress value={done} max={total}></progress> {done} of {total} {what}",
                },
                raw=True,
            )

    try:
        yield show
    finally:
        if line:
            line.update(NOTHING, raw=True)


@contextmanager
def transfer() -> Iterator[Callable[[int, int], None]]:
    """Show how much of a file has come, if one comes at all; call what it gives with the bytes that are here and those of the whole."""
    with ExitStack() as line:
        shows: list[Callable[[int], None]] = []

        def show(here: int, whole: int) -> None:
            if not shows:
                shows.append(line.enter_context(progress("MB", round(whole / 1e6))))
            shows[0](round(here / 1e6))

        yield show
