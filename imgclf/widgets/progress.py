"""A progress bar that disappears when the work is done, so that notebooks are saved without it."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from IPython.display import display

SECONDS_BETWEEN = 0.2
NOTHING = {"text/plain": "", "text/html": ""}


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar, and yield a function to call with the number of items done."""
    bar = display(NOTHING, raw=True, display_id=True)  # None outside a notebook
    updated = 0.0

    def show(done: int) -> None:
        nonlocal updated
        if bar and time.monotonic() - updated > SECONDS_BETWEEN:
            updated = time.monotonic()
            html = f"<progress value={done} max={total}></progress> {done} of {total} {what}"
            bar.update({"text/plain": "", "text/html": html}, raw=True)

    try:
        yield show
    finally:
        if bar:
            bar.update(NOTHING, raw=True)


@contextmanager
def transfer() -> Iterator[Callable[[int, int], None]]:
    """Show the progress of a download, and yield a function to call with the bytes received and the total.

    The bar appears with the first call.
    """
    with ExitStack() as stack:
        shows: list[Callable[[int], None]] = []

        def show(received: int, total: int) -> None:
            if not shows:
                shows.append(stack.enter_context(progress("MB", round(total / 1e6))))
            shows[0](round(received / 1e6))

        yield show
