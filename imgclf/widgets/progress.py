"""Progress bars that disappear when the work is done, so that notebooks are saved without them."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from html import escape

from IPython.display import display

SECONDS_BETWEEN = 0.2
SECONDS_BEFORE_ESTIMATE = 1.0
NOTHING = {"text/plain": "", "text/html": ""}


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[..., None]]:
    """Show a progress bar with the time left, and yield a function to call with the number of items done.

    Its second argument replaces `total`. The time left is measured anew when the number done falls, as in
    each epoch of a training. With `total` 0, for work of unknown length, the bar moves to and fro.
    """
    bar = display(NOTHING, raw=True, display_id=True)  # None outside a notebook
    began, done_before, updated = time.monotonic(), 0, 0.0

    def show(done: int, of: int = total) -> None:
        nonlocal began, done_before, updated
        now = time.monotonic()
        if done < done_before:
            began = now
        done_before = done
        if bar and now - updated > SECONDS_BETWEEN:
            updated = now
            text = f"{done} of {of} {what}{_time_left(now - began, done, of)}" if of else what
            share = f" value={done} max={of}" if of else ""
            html = f"<progress{share}></progress> {escape(text)}"
            bar.update({"text/plain": text, "text/html": html}, raw=True)

    try:
        show(0)
        updated = 0.0  # the first item is shown at once
        yield show
    finally:
        if bar:
            bar.update(NOTHING, raw=True)


def _time_left(seconds: float, done: int, total: int) -> str:
    """Return the time left in words, if all items take as long as those done; "" if that is unknown yet."""
    if not 0 < done < total or seconds < SECONDS_BEFORE_ESTIMATE:
        return ""
    left = seconds / done * (total - done)
    for unit, length in (("h", 3600), ("min", 60)):
        if left >= 1.5 * length:
            return f", about {left / length:.0f} {unit} left"
    return f", about {max(1, left):.0f} s left"


@contextmanager
def counted(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar, and yield a function to call with the number of items done and of all.

    The bar appears with the first call.
    """
    with ExitStack() as stack:
        shows: list[Callable[..., None]] = []

        def show(done: int, total: int) -> None:
            if not shows:
                shows.append(stack.enter_context(progress(what, total)))
            shows[0](done, total)

        yield show


@contextmanager
def transfer() -> Iterator[Callable[[int, int], None]]:
    """Show the progress of a download, and yield a function to call with the bytes received and the total."""
    with counted("MB") as show:
        yield lambda received, total: show(round(received / 1e6), round(total / 1e6))
